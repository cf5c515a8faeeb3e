"""What supply figures say: whose word counts for code, and what data may be used."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tallystick.core.data import Snapshot, TableRef
from tallystick.core.errors import BadInput, NotFound
from tallystick.core.facts import from_json, to_json
from tallystick.core.names import digest_of
from tallystick.evidence.supply import Inspected, Looked, Standing
from tallystick.hub.vouched import supply_of
from tallystick.routines.attest import (
    attest,
    consent,
    vouch,
    withdraw_consent,
)
from tests.fakes.house import add_model
from tests.fakes.house.made import made_model


async def test_the_probe_says_what_is_known_and_counts_nothing_else(house):
    model, _ = await made_model(house)
    probe = await supply_of(house, model, None)
    figures = {f.measure: f.value for f in probe.figures}
    assert figures == {"signature_valid": 0.0, "lineage_complete": 0.0, "data_consented": 0.0}
    await attest(house, model)
    await consent(house, TableRef("digits"), "training", "Ada")
    data = Inspected((Looked("MLmodel", "yaml", Standing.DATA, digest_of("a"), 1),))
    probe = await supply_of(house, model, data)
    figures = {f.measure: f.value for f in probe.figures}
    assert figures == dict.fromkeys(
        ("signature_valid", "lineage_complete", "data_consented", "files_safe"), 1.0
    )
    assert probe.key != (await supply_of(house, model, None)).key
    assert from_json(type(probe), to_json(probe)) == probe


@pytest.mark.parametrize(
    ("standing", "signed_by", "safe"),
    [(Standing.DATA, False, 1.0), (Standing.CODE, False, 0.0), (Standing.CODE, True, 1.0),
     (Standing.REFUSED, True, 0.0)],
)  # fmt: skip
async def test_code_is_safe_only_where_somebody_vouches_for_it(house, standing, signed_by, safe):
    model = await add_model(house)
    if signed_by:
        await vouch(house, model)
    seen = Inspected((Looked("m.pkl", "pickle", standing, digest_of("a"), 1, "it imports os.system"),))
    probe = await supply_of(house, model, seen)
    figures = {f.measure: f.value for f in probe.figures}
    assert figures["files_safe"] == safe
    assert "data_consented" not in figures  # nobody knows what it was made from


async def test_consent_is_for_the_rows_that_are_there(house):
    model, _ = await made_model(house)
    first = await consent(house, TableRef("digits"), "training", "Ada")
    assert first.consent().owner == "Ada"
    assert (await consent(house, TableRef("digits"), "evaluation", "Bo")).consent("evaluation").owner == "Bo"
    kept = await house.get("data", first.key, Snapshot)
    assert [c.use for c in kept.consents] == ["training", "evaluation"]
    assert replace(kept, consents=()) == replace(first, consents=())
    with pytest.raises(NotFound):
        await withdraw_consent(house, TableRef("digits"), "serving")
    await withdraw_consent(house, TableRef("digits"), "training")
    probe = await supply_of(house, model, None)
    assert {f.measure: f.value for f in probe.figures}["data_consented"] == 0.0
    assert any("no consent" in note for note in probe.notes)


@pytest.mark.parametrize(
    ("use", "owner"), [("", "Ada"), ("a b", "Ada"), ("training", ""), ("training", "A\nB")]
)
async def test_a_consent_says_by_whom_and_for_what(house, use, owner):
    await made_model(house)
    with pytest.raises(BadInput):
        await consent(house, TableRef("digits"), use, owner)
    with pytest.raises(NotFound):
        await consent(house, TableRef("nothing"), "training", "Ada")


async def test_an_older_record_has_no_consents(house):
    model, _ = await made_model(house)
    (key,) = model.origin.snapshots
    state = dict((await house.ledger.latest(house.tenant, "data", key)).state)
    del state["consents"]
    assert from_json(Snapshot, state).consent() is None
