"""Downloads, checked elsewhere: whole ones pass, and whatever is changed, swapped or added is said first."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tallystick.core.verdict import VerdictState
from tallystick.doors.vouch.check import check_download
from tallystick.doors.vouch.files import names_in
from tallystick.evidence.supply import Standing
from tallystick.ports.tile import Place
from tallystick.tiles.signing.dsse import open_tile
from tests.doors.vouch.checking import PAPERS, other_download, refused, resigned, verify
from tests.fakes.house import add_model
from tests.fakes.house.made import judged, made_model


def test_a_download_is_verified_where_there_is_nothing_but_a_public_key(desk, model, key, download, tmp_path):
    assert names_in(download) == sorted(["model", *PAPERS])
    elsewhere = tmp_path / "clean" / "machine"
    shutil.copytree(download, elsewhere)
    shutil.rmtree(tmp_path / "home")
    shutil.rmtree(tmp_path / "artifacts")
    said = verify(desk, key, elsewhere)
    assert said.status == 0, said
    assert [c["name"] for c in said.json["checks"]] == [
        "files", "provenance", "signature", "bom", "verdict", "inspection"
    ]  # fmt: skip
    assert (said.json["model"], said.json["tree"]) == (model.key, model.digest)
    texts = {c["name"]: c["text"] for c in said.json["checks"]}
    assert "its lineage is complete" in texts["provenance"]
    assert "1 tables, 1 packages" in texts["bom"]
    assert "passed under policy test" in texts["verdict"]
    assert not (tmp_path / "none").exists()


def test_a_person_reads_a_table(desk, key, download):
    said = desk.elsewhere("verify", str(download), "--key", str(key))
    assert said.status == 0
    assert "ok" in said.out
    assert "WRONG" not in said.out
    assert "digits@1 is what it is said to be" in said.err


def test_a_model_is_fetched_and_checked(desk, model, key):
    said = desk.type("verify", model.key, "--key", str(key), "--json")
    assert (said.status, said.json["ok"]) == (0, True)
    assert desk.type("verify", "digits", "--json").status == 0  # the home's own keys
    assert desk.type("verify", "nothing").status == 2
    assert desk.type("verify", "../nothing").status == 2


@pytest.mark.parametrize("name", ["model/MLmodel", "model/model.onnx", *PAPERS])
@pytest.mark.parametrize("where", [0, 0.3, 0.7, -1])
def test_no_byte_of_anything_may_be_another(desk, key, download, name, where):
    file = download / name
    raw = bytearray(file.read_bytes())
    index = len(raw) - 1 if where == -1 else int(len(raw) * where)
    raw[index] ^= 1
    file.write_bytes(raw)
    said = verify(desk, key, download)
    assert said.status == 1
    assert said.json["ok"] is False


@pytest.mark.parametrize("name", ["model/MLmodel", "model/model.onnx", *PAPERS])
def test_nothing_may_be_missing_or_cut_off(desk, key, download, name):
    file = download / name
    raw = file.read_bytes()
    for content in (raw[:-1], raw + b"\n", b""):
        file.write_bytes(content)
        said = verify(desk, key, download)
        # JSON with a line's end after it is the same envelope; nothing else may differ.
        envelope = name in ("provenance.json", "verdict.json") and content == raw + b"\n"
        assert said.json["ok"] is envelope, (name, said.json)
    file.unlink()
    assert verify(desk, key, download).status == 1


def test_two_files_that_changed_places_are_seen(desk, key, download):
    one, two = download / "model" / "MLmodel", download / "model" / "model.onnx"
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    refused(desk, key, download, "provenance", "MLmodel, model.onnx are changed")


@pytest.mark.parametrize("name", PAPERS)
def test_papers_of_another_model_do_not_count(desk, key, download, tmp_path, name):
    other = other_download(desk, tmp_path)
    assert verify(desk, key, other).status == 0
    shutil.copy(other / name, download / name)
    check = {"provenance.json": "provenance", "model.sig": "signature", "bom.json": "bom",
             "verdict.json": "verdict"}[name]  # fmt: skip
    refused(desk, key, download, check, "")


def test_files_of_another_model_do_not_count(desk, key, download, tmp_path):
    other = other_download(desk, tmp_path)
    shutil.rmtree(download / "model")
    shutil.copytree(other / "model", download / "model")
    refused(desk, key, download, "provenance", "model.onnx is changed")


@pytest.mark.parametrize(
    ("one", "two"), [("provenance.json", "verdict.json"), ("verdict.json", "provenance.json")]
)
def test_one_kind_of_paper_is_not_read_as_another(desk, key, download, one, two):
    shutil.copy(download / one, download / two)
    refused(desk, key, download, two.removesuffix(".json"), "another kind")


def test_a_foreign_key_counts_for_nothing(desk, key, download, tmp_path):
    foreign = open_tile(Place(tmp_path / "foreign")).keys()[0]
    (tmp_path / "foreign.pem").write_text(foreign.pem)
    refused(desk, tmp_path / "foreign.pem", download, "provenance", "no trusted key")
    said = desk.elsewhere("verify", str(download), "--key", str(key), "--key", str(tmp_path / "foreign.pem"))
    assert said.status == 0


def test_whoever_signs_anew_must_be_trusted(desk, key, download, tmp_path):
    thief = open_tile(Place(tmp_path / "thief"))
    resigned(download, "provenance.json", thief, lambda statement: None)
    refused(desk, key, download, "provenance", "no trusted key")


def test_what_nobody_signed_cannot_break_what_is_said(desk, key, download):
    """Key ids are anybody's words: half a character, a bell, a new line."""
    wire = json.loads((download / "provenance.json").read_bytes())
    wire["signatures"] = [{"sig": "YQ==", "keyid": "\ud800\x07\nok"}]
    (download / "provenance.json").write_text(json.dumps(wire))
    refused(desk, key, download, "provenance", "no trusted key")
    said = desk.elsewhere("verify", str(download), "--key", str(key))
    assert said.status == 1
    assert "\x07" not in said.out + said.err


@pytest.mark.parametrize(
    "predicate", [{"byproducts": 7}, {"byproducts": [7]}, {"model": 7}, {"missing": "x"}, {}]
)
def test_a_strange_word_of_a_trusted_key_breaks_nothing(desk, key, download, predicate):
    def change(statement):
        statement.update(predicateType="tally://predicates/vouched/v1", predicate=predicate)

    resigned(download, "provenance.json", desk.house.signing, change)
    assert verify(desk, key, download).status == 1  # it names no bill of materials


@pytest.mark.parametrize(
    "path", [["internalParameters", "missing"], ["externalParameters"], ["resolvedDependencies"]]
)
def test_a_strange_provenance_of_a_trusted_key_breaks_nothing(desk, key, download, path):
    def change(statement):
        place = statement["predicate"]["buildDefinition"]
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = 7

    resigned(download, "provenance.json", desk.house.signing, change)
    assert verify(desk, key, download).status in (0, 1)


def test_no_key_at_all_is_said_first(desk, download):
    said = desk.elsewhere("verify", str(download))
    assert said.status == 3
    assert "no key is trusted here" in said.err
    assert "--key" in said.err


def test_a_folder_that_is_not_there_is_said_to_be_that(desk, key):
    said = desk.elsewhere("verify", "downloaded", "--key", str(key))
    assert said.status == 4
    assert "no such folder" in said.err


def test_a_verdict_on_what_an_endpoint_was_asked_does_not_take_its_place(desk, model, key, tmp_path):
    desk.house.clock.advance(10)
    desk.run(judged, model, VerdictState.REFUSED)
    desk.house.clock.advance(10)
    desk.run(partial(judged, stage="live traffic"), model)
    desk.type("download", model.key, str(tmp_path / "later"))
    refused(desk, key, tmp_path / "later", "verdict", "'refused'")


def test_a_private_key_is_not_taken_for_a_public_one(desk, download, tmp_path):
    refused(desk, tmp_path / "home" / "keys" / "own.pem", download, "provenance", "no trusted key")


def test_a_verdict_must_have_passed_and_still_count(desk, key, tmp_path):
    made, _ = desk.run(made_model)
    desk.run(judged, made, VerdictState.REFUSED)
    desk.type("download", made.key, str(tmp_path / "refused"))
    refused(desk, key, tmp_path / "refused", "verdict", "'refused'")
    assert verify(desk, key, tmp_path / "refused", "--without-verdict").status == 0


def test_a_verdict_that_was_never_signed_is_none(desk, key, tmp_path):
    made, _ = desk.run(made_model)
    said = desk.type("download", made.key, str(tmp_path / "unjudged"))
    assert "tally judge digits@1" in said.out
    refused(desk, key, tmp_path / "unjudged", "verdict", "it was not judged")


def test_a_verdict_ends_with_its_exception(desk, download, key):
    signing = open_tile(Place(Path(), {"trusted": [("hub", key.read_text())]}))
    hub = desk.house.signing
    resigned(download, "verdict.json", hub, lambda s: s["predicate"].update(expiresOn="2026-01-01T00:00:00Z"))
    before, after = 1_767_225_599_999, 1_767_225_600_000  # the last moment of 2025, the first of 2026
    assert check_download(download, signing, before).ok
    found = check_download(download, signing, after)
    assert not found.ok
    assert "expired on 2026-01-01" in found.why


def test_a_model_sig_is_checked_by_its_own_key_where_that_is_trusted(desk, download, key, tmp_path):
    (tmp_path / "models.pem").write_text(desk.type("trust", "show", "--models").out)
    said = desk.elsewhere(
        "verify", str(download), "--key", str(key), "--key", str(tmp_path / "models.pem"), "--json"
    )
    assert {c["name"]: c["text"] for c in said.json["checks"]}["signature"].endswith("signed by models.pem")
    said = verify(desk, key, download)
    assert "as the provenance names it" in {c["name"]: c["text"] for c in said.json["checks"]}["signature"]


def test_stock_model_signing_verifies_the_download(desk, download, tmp_path):
    import subprocess

    pytest.importorskip("model_signing", reason="model-signing is not installed")
    (tmp_path / "models.pem").write_text(desk.type("trust", "show", "--models").out)
    words = ["verify", "key", "--signature", str(download / "model.sig"), "--public_key"]
    line = [
        sys.executable,
        "-m",
        "model_signing",
        *words,
        str(tmp_path / "models.pem"),
        str(download / "model"),
    ]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (download / "model" / "MLmodel").write_bytes(b"changed")
    assert subprocess.run(line, capture_output=True, timeout=60, check=False).returncode != 0


def test_the_stock_library_is_asked_too(desk, download, key, tmp_path):
    pytest.importorskip("model_signing", reason="model-signing is not installed")
    (tmp_path / "models.pem").write_text(desk.type("trust", "show", "--models").out)
    both = (key, "--key", str(tmp_path / "models.pem"))
    said = desk.elsewhere("verify", str(download), "--stock", "--json", "--key", *map(str, both))
    assert said.status == 0, said
    assert "model_signing" in {c["name"]: c["text"] for c in said.json["checks"]}["stock"]
    refused(desk, key, download, "stock", "no trusted key", "--stock")  # its own key is not trusted here


def test_what_the_files_are_is_looked_at_again(desk, key, download):
    desk.standing = Standing.REFUSED
    refused(desk, key, download, "inspection", "never load it")
    desk.standing = Standing.CODE
    said = verify(desk, key, download)
    assert said.status == 0
    assert "vouches for" in said.json["checks"][-1]["text"]
    (download / "provenance.json").unlink()
    found = refused(desk, key, download, "provenance", "there is no provenance.json")
    assert "runs code" in found["checks"][-1]["text"]
    assert [c["ok"] for c in found["checks"] if c["name"] in ("signature", "bom")] == [None, None]


def test_a_model_without_a_run_is_vouched_for_and_no_more_is_said(desk, key, tmp_path):
    made = desk.run(add_model)
    said = desk.type("download", made.key, str(tmp_path / "unsigned"))
    assert "nobody signed it: tally sign digits@1" in said.out
    refused(desk, key, tmp_path / "unsigned", "provenance", "there is no provenance.json")
    said = desk.type("sign", made.key)
    assert "not on record: source, run, lock, data" in said.out
    assert desk.type("download", made.key, str(tmp_path / "signed")).status == 0
    said = verify(desk, key, tmp_path / "signed", "--without-verdict")
    assert said.status == 0, said
    assert "how they were made is not on record" in said.json["checks"][1]["text"]
    assert said.json["model"] == "digits@1"


def test_another_s_verdict_under_this_name_is_refused(desk, key, download):
    resigned(
        download,
        "verdict.json",
        desk.house.signing,
        lambda s: (s["predicate"].update(model="other@1"), s["subject"][0].update(name="other@1")),
    )
    refused(desk, key, download, "verdict", "it is about other@1, not digits@1")


def test_the_newest_verdict_goes_with_it(desk, model, key, download, tmp_path):
    desk.house.clock.advance(10)
    desk.run(judged, model, VerdictState.REFUSED)
    desk.type("download", model.key, str(tmp_path / "later"))
    refused(desk, key, tmp_path / "later", "verdict", "'refused'")
    assert replace(model) == model
