"""Sigstore: signatures by an identity, verified offline by the stock library.

The public Sigstore was not asked: no machine of these tests reaches it. What is verified here was made by a
Sigstore of one's own, with every check of the library's in force.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tallystick.doors.vouch import stock
from tallystick.doors.vouch.check import SIGSTORE_FILE
from tallystick.doors.vouch.files import members_in
from tallystick.evidence.papers.oms import model_statement
from tests.doors.vouch.checking import refused, verify
from tests.fakes.machine.own_sigstore import OwnSigstore, token_of
from tests.fakes.machine.threaded import threaded

pytest.importorskip("sigstore", reason="model-signing is not installed")
ADA, ISSUER = "ada@example.com", "https://accounts.example.com"
WORKFLOW = "https://github.example.com/team/models/.github/workflows/sign.yml@refs/heads/main"


@pytest.fixture(scope="module")
def own() -> OwnSigstore:
    return OwnSigstore()


@pytest.fixture
def trust(own, tmp_path) -> Path:
    (tmp_path / "trust.json").write_text(own.config())
    return tmp_path / "trust.json"


def signed_by(own: OwnSigstore, folder: Path, who: str = ADA, issuer: str = ISSUER) -> dict:
    statement = model_statement("model", members_in(folder / "model")).to_bytes()
    made = own.bundle(statement, who, issuer)
    (folder / SIGSTORE_FILE).write_text(json.dumps(made))
    return made


def of(who: str, trust: Path, issuer: str = ISSUER) -> tuple[str, ...]:
    return ("--identity", who, "--issuer", issuer, "--trust-config", str(trust))


@pytest.mark.parametrize("who", [ADA, WORKFLOW])
def test_it_is_verified_offline(desk, key, download, own, trust, who):
    signed_by(own, download, who)
    said = verify(desk, key, download, *of(who, trust))
    assert said.status == 0, said
    texts = {c["name"]: c["text"] for c in said.json["checks"]}
    assert texts["sigstore"].startswith(f"signed by {who}, as {ISSUER} says; Sigstore ")


def test_another_identity_or_issuer_is_nobody(desk, key, download, own, trust):
    signed_by(own, download)
    refused(desk, key, download, "sigstore", "do not match bob@example.com", *of("bob@example.com", trust))
    other = of(ADA, trust, "https://other.example.com")
    refused(desk, key, download, "sigstore", "none of 1 trusted identities signed it", *other)
    refused(desk, key, download, "sigstore", "do not match ADA@example.com", *of("ADA@example.com", trust))


def test_another_sigstore_s_word_is_nobody_s(desk, key, download, trust):
    signed_by(OwnSigstore(), download)
    refused(desk, key, download, "sigstore", "none of 1 trusted identities", *of(ADA, trust))
    words = ("--identity", ADA, "--issuer", ISSUER)  # the public one, as the library brings it
    refused(desk, key, download, "sigstore", "none of 1 trusted identities", *words)


def test_it_must_be_about_these_very_files(desk, key, download, own, trust):
    signed_by(own, download)
    made = json.loads((download / SIGSTORE_FILE).read_text())
    statement = model_statement("model", members_in(download / "model")[:-1]).to_bytes()
    (download / SIGSTORE_FILE).write_text(json.dumps(own.bundle(statement, ADA, ISSUER)))
    refused(desk, key, download, "sigstore", "model.sigstore.json", *of(ADA, trust))
    (download / SIGSTORE_FILE).write_text(json.dumps(own.bundle(b'{"_type": "x"}', ADA, ISSUER)))
    refused(desk, key, download, "sigstore", "", *of(ADA, trust))
    (download / SIGSTORE_FILE).write_text(json.dumps(made))
    assert verify(desk, key, download, *of(ADA, trust)).status == 0


CHANGES = {
    "payload": lambda b: b["dsseEnvelope"].update(payload="e30="),
    "signature": lambda b: b["dsseEnvelope"]["signatures"][0].update(sig="AAAA"),
    "certificate": lambda b: b["verificationMaterial"].pop("certificate"),
    "no log": lambda b: b["verificationMaterial"].update(tlogEntries=[]),
    "log's time": lambda b: b["verificationMaterial"]["tlogEntries"][0].update(integratedTime="1"),
    "log's promise": lambda b: b["verificationMaterial"]["tlogEntries"][0]["inclusionPromise"].update(
        signedEntryTimestamp="AAAA"
    ),
    "log's proof": lambda b: b["verificationMaterial"]["tlogEntries"][0]["inclusionProof"].update(
        rootHash="AAAA"
    ),
    "kind": lambda b: b.update(mediaType="text/plain"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_is_changed_it_is_not_as_it_was_signed(desk, key, download, own, trust, what):
    made = signed_by(own, download)
    CHANGES[what](made)
    (download / SIGSTORE_FILE).write_text(json.dumps(made))
    refused(desk, key, download, "sigstore", "", *of(ADA, trust))


def test_what_is_no_bundle_is_said(desk, key, download, trust):
    refused(desk, key, download, "sigstore", SIGSTORE_FILE, *of(ADA, trust))  # there is none
    for text in ("", "{}", "[" * 100_000, "\0"):
        (download / SIGSTORE_FILE).write_text(text)
        refused(desk, key, download, "sigstore", "it is no bundle of Sigstore's", *of(ADA, trust))


def test_a_signature_that_nobody_looks_at_is_no_pass(desk, key, download, own):
    signed_by(own, download)
    refused(desk, key, download, "sigstore", "nobody's identity is trusted here: --identity WHO --issuer URL")


def test_an_identity_counts_with_its_issuer_alone(desk, key, download, trust):
    for words in (("--identity", ADA), ("--issuer", ISSUER)):
        said = desk.elsewhere("verify", str(download), "--key", str(key), *words)
        assert said.status == 2
        assert "an identity counts only with its issuer" in said.err
    said = desk.elsewhere(
        "verify", str(download), "--key", str(key), *of(ADA, trust, "http://plain.example.com")
    )
    assert "is no issuer" in said.err


def test_identities_are_trusted_by_a_home(desk, key, download, own, trust, tmp_path):
    signed_by(own, download)
    assert desk.elsewhere("trust", "add", "hub", str(key)).status == 0
    assert desk.elsewhere("trust", "identity", "bob", "bob@example.com", "--issuer", ISSUER).status == 0
    words = ("verify", str(download), "--trust-config", str(trust))
    assert "none of 1 trusted identities" in desk.elsewhere(*words).err
    said = desk.elsewhere("trust", "identity", "ada", ADA, "--issuer", ISSUER)
    assert (said.status, said.out.strip()) == (0, f"ada is trusted: {ADA}, as {ISSUER} says")
    said = desk.elsewhere(*words)
    assert said.status == 0, said
    listed = desk.elsewhere("trust", "list").out
    assert f"as {ISSUER} says" in listed
    assert desk.elsewhere("trust", "identity", "ada", "eve@example.com", "--issuer", ISSUER).status == 2
    assert desk.elsewhere("trust", "remove", "ada").status == 0
    assert desk.elsewhere(*words).status == 1
    assert (tmp_path / "none" / "keys" / "identities" / "bob.json").stat().st_mode & 0o077 == 0


def test_a_name_that_a_key_has_as_well_is_trusted_no_longer_at_all(desk, key):
    assert desk.elsewhere("trust", "identity", "hub", ADA, "--issuer", ISSUER).status == 0
    assert desk.elsewhere("trust", "add", "hub", str(key)).status == 0
    said = desk.elsewhere("trust", "remove", "hub")
    assert (said.status, said.out.strip()) == (0, "hub is trusted no longer")
    assert "hub" not in {known["name"] for known in desk.elsewhere("trust", "list", "--json").json}
    assert desk.elsewhere("trust", "remove", "hub").status != 0


# ------------------------------------------------------------------- signing


def test_where_no_service_answers_it_says_which_and_what_to_do_instead(desk, download, trust, tmp_path):
    (tmp_path / "token").write_text(token_of(ADA, ISSUER))
    words = ("sign", str(download), "--sigstore", "--identity-token", str(tmp_path / "token"))
    said = desk.elsewhere(*words, "--trust-config", str(trust))
    assert said.status != 0
    assert "127.0.0.1 cannot be reached" in said.err.replace("\n", " ")
    assert "tally sign MODEL --key mine.pem" in said.err.replace("\n", " ")
    assert not (download / SIGSTORE_FILE).exists()


class Silent(BaseHTTPRequestHandler):
    """It says where to log in, and nothing to who asks for a certificate."""

    server: SilentSigstore

    def log_message(self, *_: object) -> None:
        """No lines."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"authorization_endpoint": "", "token_endpoint": ""}')

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.set()
        if not self.rfile.read(1):
            self.server.gone.set()


class SilentSigstore(ThreadingHTTPServer):
    """``asked`` once it was asked for a certificate, ``gone`` once whoever asked has hung up."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Silent)
        self.asked, self.gone = threading.Event(), threading.Event()


def test_a_service_that_never_answers_is_not_waited_for_for_ever(desk, download, tmp_path, monkeypatch):
    """The library waits for a certificate without any limit of its own."""
    (tmp_path / "token").write_text(token_of(ADA, ISSUER))
    monkeypatch.setattr(stock, "SERVICES_S", 0.0)
    with threaded(SilentSigstore()) as silent:
        (tmp_path / "trust.json").write_text(OwnSigstore(f"http://127.0.0.1:{silent.server_port}").config())
        words = ("sign", str(download), "--sigstore", "--identity-token", str(tmp_path / "token"))
        for limit_s in (4.0, 15.0, 60.0):  # the last for a machine that is too busy to get there before
            monkeypatch.setattr(stock, "START_S", limit_s)
            said = desk.elsewhere(*words, "--trust-config", str(tmp_path / "trust.json"))
            if silent.asked.is_set():
                break
        assert silent.asked.is_set()
        assert silent.gone.wait(60), "its process goes on"
    assert said.status != 0
    assert f"it was not done within {limit_s:.0f} s" in said.err.replace("\n", " ")
    assert "tally sign MODEL --key mine.pem" in said.err.replace("\n", " ")
    assert not (download / SIGSTORE_FILE).exists()


@pytest.mark.parametrize(
    ("token", "words"),
    [("", "there is no identity to sign with"), ("none", "it is no identity token"),
     (token_of(ADA, ISSUER, -60), "it is no identity token")],
)  # fmt: skip
def test_a_token_that_is_none_is_said(desk, download, trust, tmp_path, monkeypatch, token, words):
    for name in ("GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "CIRCLECI", "SIGSTORE_ID_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", token)
    said = desk.elsewhere("sign", str(download), "--sigstore", "--trust-config", str(trust))
    assert said.status == 2
    assert words in said.err.replace("\n", " ")
    if token:
        assert token not in said.err


def test_an_identity_signs_a_download_and_not_beside_a_key(desk, model, tmp_path):
    said = desk.type("sign", model.key, "--sigstore")
    assert said.status == 2
    assert f"tally download {model.key} DIR" in said.err
    said = desk.type("sign", model.key, "--sigstore", "--key", str(tmp_path / "x.pem"))
    assert said.status == 2
    assert "with a key or with an identity" in said.err
