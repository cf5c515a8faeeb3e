"""The API's edges: the log without what is no news, files by their name, and defects of our own."""

from __future__ import annotations

import logging

import pytest

from tallystick.core.errors import BadInput, NotSupported
from tallystick.core.remedy import Remedy, RemedyAction, RemedyState, move
from tallystick.doors.api.wire import file_name, in_file
from tests.fakes.house import add_model, add_table

NAMES = ["a\nb.csv", "a\x1b[2Jb.csv", "a\x00.csv", "a\x7f.csv", "a\x85.csv", "\u202egpj.csv", "a\u2028b.csv"]


async def test_the_log_goes_on_past_steps_until_it_has_enough(api, house):
    await add_model(house, 1)
    await add_table(house)
    await add_model(house, 2)
    for number in range(30):
        await house.tell("step", f"sha256:{number}", "kept", {})
    assert [f["key"] for f in (await api.get("/log?limit=1")).json()] == ["digits@2"]
    found = (await api.get("/log?limit=10")).json()
    assert [f["noun"] for f in found] == ["model", "data", "model"]
    seq = found[0]["seq"]
    assert [f["noun"] for f in (await api.get(f"/log?limit=10&before={seq}")).json()] == ["data", "model"]
    assert len((await api.get("/log?noun=step&limit=7")).json()) == 7
    assert [f["noun"] for f in (await api.get("/log?key=sha256:3")).json()] == ["step"]
    assert (await api.get("/log?limit=0")).json() == []


@pytest.mark.parametrize("name", NAMES)
async def test_a_file_name_that_does_not_show_as_what_it_is(api, house, name):
    answer = await api.post(
        "/ingest", params={"table": "digits", "filename": name}, content=b"a,label\n1,0\n"
    )
    assert answer.status_code == 400
    assert answer.json()["what"].endswith("has control characters in it")
    assert answer.json()["what"].isprintable()
    answer = await api.post("/runs", json={"spec": "chain", "filename": name})
    assert answer.status_code == 400
    assert house.ledger.facts == []


def test_file_names_that_are_fine():
    assert file_name("/home/me/Übersicht (2) 日本.csv") == "Übersicht (2) 日本.csv"
    assert len(file_name("x" * 500)) == 200


async def test_an_error_about_a_file_names_the_file_first(api):
    answer = await api.post("/ingest?table=digits&filename=d.csv", content=b"")
    assert answer.json()["where"].startswith("d.csv")
    answer = await api.post("/runs", json={"spec": "cake", "filename": "p.yaml"})
    assert answer.json()["where"] == "p.yaml: spec"
    answer = await api.post("/runs", json={"spec": "chain", "params": {"x": 1}, "filename": "p.yaml"})
    assert not answer.json()["where"].startswith("p.yaml")


@pytest.mark.parametrize(
    ("where", "shown"),
    [("line 3", "d.csv: line 3"), ("file", "d.csv"), ("", "d.csv"), ("d.csv", "d.csv"), ("'d.csv'", "d.csv")],
)
def test_where_in_a_file(where, shown):
    wrong = in_file(NotSupported("what", where=where, hint="hint"), "d.csv")
    assert (type(wrong), wrong.where, wrong.what, wrong.hint) == (NotSupported, shown, "what", "hint")
    assert in_file(BadInput("what", where=where), "").where == where


@pytest.mark.parametrize(
    "wrong", [KeyError("x"), ZeroDivisionError("divided"), RuntimeError("two\nlines"), OSError()]
)
async def test_a_defect_of_ours_is_an_answer_and_a_traceback_in_the_log(
    api, house, monkeypatch, caplog, wrong
):
    async def counts(_):
        raise wrong

    monkeypatch.setattr(house.ledger, "counts", counts)
    with caplog.at_level(logging.ERROR):
        answer = await api.get("/status")
    said = answer.json()
    assert (answer.status_code, said["error"], said["where"]) == (500, "Failed", "hub")
    assert type(wrong).__name__ in said["what"]
    assert "\n" not in said["what"]
    assert set(said) == {"error", "what", "where", "hint"}
    assert "GET /api/tally/status" in caplog.text
    assert "Traceback" in caplog.text


async def test_what_cannot_be_said_as_json_is_a_defect_too(api, house, monkeypatch):
    async def counts(_):
        return {"model": float("nan")}

    monkeypatch.setattr(house.ledger, "counts", counts)
    assert (await api.get("/status")).json()["error"] == "Failed"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (RemedyState.DONE, "^r: it was carried out already: m@3 serves again$"),
        (RemedyState.CARRYING, "^r: it is being carried out already$"),
    ],
)
def test_a_remedy_is_carried_out_once(state, words):
    outcome = "m@3 serves again" if state is RemedyState.DONE else ""
    remedy = Remedy("r", "s", "e", RemedyAction.FALL_BACK, "m@3", "why", state=state, outcome=outcome)
    with pytest.raises(Exception, match=words):
        move(remedy, RemedyState.CARRYING, 1)
