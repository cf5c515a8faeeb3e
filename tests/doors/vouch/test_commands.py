"""Keys, signatures, bills and consents at the command line, and what the API says of bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tallystick.core.attestation import Attestation
from tallystick.doors.vouch.files import names_in
from tallystick.ports.tile import Place
from tallystick.tiles.signing.dsse import open_tile
from tallystick.tiles.signing.keys import made, private_pem
from tests.fakes.house import add_model
from tests.fakes.house.made import made_model


def attestation(desk, model):
    async def found(house):
        return await house.find("attestation", model.key, Attestation)

    return desk.run(found)


def person(tmp_path: Path, kind: str = "p256") -> tuple[Path, Path]:
    """A private key of somebody's, and the public one."""
    text = private_pem(made(kind)).decode()
    key = open_tile(Place(tmp_path, {"private": text})).keys()[0]
    (tmp_path / "private.pem").write_text(text)
    (tmp_path / "public.pem").write_text(key.pem)
    return tmp_path / "private.pem", tmp_path / "public.pem"


def test_keys_are_added_listed_shown_and_removed_through_the_hub(desk, tmp_path):
    _, public = person(tmp_path)
    assert desk.type("trust", "add", "ada", str(public)).status == 0
    said = desk.type("trust", "list")
    assert [line.split()[0] for line in said.out.splitlines()[1:]] == ["this", "this", "ada"]
    assert desk.type("trust", "show", "ada").out == public.read_text()
    assert desk.type("trust", "show").out != desk.type("trust", "show", "--models").out
    assert desk.type("trust", "add", "ada", str(tmp_path / "private.pem")).status == 2
    assert desk.type("trust", "add", "bo", str(public)).status == 2
    assert desk.type("trust", "remove", "ada").status == 0
    assert desk.type("trust", "remove", "ada").status == 2
    assert desk.type("trust", "show", "ada").status == 2
    assert desk.type("trust", "remove", "this hub").status == 2


def test_keys_are_kept_on_a_machine_without_a_hub(desk, model, key, download, tmp_path):
    """Who only checks downloads trusts a key once, and needs no --key after that."""
    assert desk.elsewhere("trust", "add", "hub", str(key)).status == 0
    assert names_in(tmp_path / "none" / "keys") == ["trusted"]
    assert desk.elsewhere("verify", str(download)).status == 0
    assert desk.elsewhere("trust", "remove", "hub").status == 0
    assert desk.elsewhere("verify", str(download)).status == 1


def test_a_home_with_keys_alone_takes_a_hub_afterwards(desk, key, tmp_path):
    from tallystick.wiring.home import open_home

    desk.elsewhere("trust", "add", "hub", str(key))
    open_home(tmp_path / "none").close()


def test_a_person_signs_with_a_key_that_stays_here(desk, tmp_path):
    model, _ = desk.run(made_model)
    private, public = person(tmp_path)
    said = desk.type("sign", model.key, "--key", str(private))
    assert said.status == 3
    assert "no trusted key" in said.err
    assert desk.type("trust", "add", "ada", str(public)).status == 0
    said = desk.type("sign", model.key, "--key", str(private))
    assert said.status == 0, said
    assert "lineage complete" in said.out
    assert desk.type("download", model.key, str(tmp_path / "it")).status == 0
    words = ("verify", str(tmp_path / "it"), "--key", str(public), "--without-verdict", "--json")
    said = desk.elsewhere(*words)
    assert said.status == 0, said
    texts = {c["name"]: c["text"] for c in said.json["checks"]}
    assert "signed by public.pem" in texts["provenance"]
    assert "signed by public.pem" in texts["signature"]


def test_a_person_with_an_ed25519_key_signs_without_model_sig(desk, tmp_path):
    model = desk.run(add_model)
    private, public = person(tmp_path, "ed25519")
    desk.type("trust", "add", "ada", str(public))
    said = desk.type("sign", model.key, "--key", str(private))
    assert said.status == 0
    assert "without model.sig" in said.err
    assert desk.type("download", model.key, str(tmp_path / "it")).status == 0
    assert not (tmp_path / "it" / "model.sig").exists()
    words = ("verify", str(tmp_path / "it"), "--key", str(public), "--without-verdict", "--json")
    said = desk.elsewhere(*words)
    assert said.status == 0, said
    assert {c["name"]: c["text"] for c in said.json["checks"]}["signature"].startswith("none")


def test_the_hub_signs_for_one_who_says_so(desk):
    model = desk.run(add_model)
    said = desk.type("sign", model.key, "--json")
    assert said.status == 0
    assert said.json == attestation_wire(desk, model)


def attestation_wire(desk, model):
    from tallystick.core.facts import to_json

    return to_json(attestation(desk, model))


def test_a_bill_is_printed_as_json(desk, model):
    said = desk.type("bom", model.key)
    assert said.status == 0
    assert said.json["bomFormat"] == "CycloneDX"
    assert desk.type("bom", "nothing").status == 2


def test_consent_is_given_and_taken_back(desk):
    desk.run(made_model)
    said = desk.type("consent", "digits", "--owner", "Ada Lovelace", "--json")
    assert said.status == 0
    assert said.json["consents"][0]["owner"] == "Ada Lovelace"
    assert "by Ada Lovelace" in json.dumps(desk.type("bom", "digits@1").json)
    assert desk.type("consent", "digits", "--withdraw").status == 0
    assert desk.type("consent", "digits", "--withdraw").status == 2
    assert "none on record" in json.dumps(desk.type("bom", "digits@1").json)
    assert desk.type("consent", "digits").status == 2
    assert desk.type("consent", "digits", "--owner", "A", "--withdraw").status == 2
    assert desk.type("consent", "no/table", "--owner", "A").status == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/papers", {}),
        ("/papers", {"model": 7}),
        ("/papers", {"model": "../x"}),
        ("/attestations", {"model": ""}),
        ("/attestations/signed", {"model": "digits@1", "bom": "x"}),
        ("/attestations/signed", {"model": "digits@1", "envelope": [], "bom": "x"}),
        ("/attestations/signed", {"model": "digits@1", "envelope": {}, "bom": "x"}),
        ("/attestations/signed", {"model": "digits@1", "envelope": {}, "bundle": 7, "bom": "x"}),
        ("/keys", {"name": "x"}),
        ("/keys", {"name": "x", "pem": "nothing"}),
        ("/keys", {"name": "../x", "pem": "nothing"}),
        ("/keys/..%2Fx/remove", {}),
        ("/consents", {"table": "digits", "use": "training"}),
        ("/consents", {"table": "digits", "owner": 7}),
        ("/consents", {"table": "digits", "owner": "A", "withdraw": "yes"}),
        ("/bom", {"model": "digits@x"}),
    ],
)
def test_bad_input_is_said_to_be_that(desk, model, path, body):
    desk.type("trust", "list")
    from starlette.applications import Starlette

    from tallystick.doors.api import attest
    from tallystick.terminal.client import Hub
    from tests.doors.vouch.conftest import Bridge

    hub = Hub("http://hub", Bridge(desk.portal, Starlette(routes=attest.routes(desk.house))))
    answer = hub.raw("POST", f"/api/tally{path}", json=body)
    assert answer.status_code in (400, 404), answer.text
    assert names_in(desk.tmp_path / "home" / "keys") == ["own-model.pem", "own.pem"]


def test_a_hub_without_keys_says_what_to_install(desk, model):
    desk.house.signing = None
    for words in (("trust", "list"), ("sign", model.key)):
        said = desk.type(*words)
        assert said.status == 4
        assert "tallystick[supply]" in said.err


def test_the_program_has_the_commands():
    said = subprocess.run(
        [str(Path(sys.executable).with_name("tally")), "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    for name in ("bom", "consent", "download", "sign", "trust", "verify"):
        assert f"  {name} " in said
