"""Attestations: what is on record is signed, what is not is said to be missing, and nothing is invented."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tallystick.core.attestation import LINEAGE, Attestation
from tallystick.core.errors import MissingTile, Refused
from tallystick.core.model import ModelRef, ModelVersion
from tallystick.core.names import digest_of
from tallystick.core.run.events import Step, StepState
from tallystick.core.values import ArtifactRef, Values
from tallystick.core.verdict import VerdictState
from tallystick.evidence.papers.oms import SIGNATURE, bundle_envelope, check_signature
from tallystick.evidence.papers.provenance import Provenance
from tallystick.evidence.papers.statement import (
    PAYLOAD_TYPE,
    PROVENANCE,
    VOUCHED,
    Statement,
    check_subjects,
    statement_of,
    subjects_of,
)
from tallystick.hub.vouched import supply_of, vouched_by
from tallystick.routines.attest import (
    attest,
    attested,
    bill,
    draft,
    refresh,
    take_signed,
    vouch,
    vouch_for,
)
from tests.fakes.house import add_model, add_run, add_verdict, events, keep_steps, model_files
from tests.fakes.house.made import ENVIRONMENT, RECIPE, judged, made_model
from tests.fakes.signing import MemorySigning


async def stored(house: Any, digest: str) -> Any:
    return json.loads((await house.artifacts.path_of(digest)).read_bytes())


async def signed(house: Any, digest: str, *kinds: str) -> Statement:
    found = house.signing.verify(await stored(house, digest))
    return statement_of(found.payload, found.payload_type, kinds, "it")


async def provenance_of(house: Any, attestation: Attestation) -> Provenance:
    return Provenance.parse((await signed(house, attestation.statement, PROVENANCE)).predicate)


async def test_a_model_of_a_run_is_attested_with_all_that_is_on_record(house):
    model, run = await made_model(house)
    found = await attest(house, model)
    assert (found.known, found.missing, found.lineage) == (LINEAGE, (), 1.0)
    assert (found.model, found.model_digest, found.run) == (model.key, model.digest, run.key)
    assert found.signer == house.signing.keys()[0].id
    statement = await signed(house, found.statement, PROVENANCE)
    members = await house.artifacts.members(model.digest)
    assert check_subjects(statement, members, "it") == model.digest
    made = Provenance.parse(statement.predicate)
    assert made.external == {
        "model": model.key, "pipeline": "digits", "output": "model", "parameters": dict(run.params),
    }  # fmt: skip
    assert (made.invocation, made.started_ms, made.finished_ms) == (f"tally://runs/{run.key}", 2_000, 5_000)
    assert made.internal["recipe"] == RECIPE.parts
    assert made.internal["missing"] == []
    given = {d.name: d.digest for d in made.dependencies}
    (snapshot,) = model.origin.snapshots.items()
    assert given == {
        "pipeline": run.spec_digest, "source": RECIPE.parts["source"], "lock": ENVIRONMENT.digest,
        "data": snapshot[1],
    }  # fmt: skip
    assert {d.name: d.digest for d in made.byproducts} == {
        "log": digest_of("log"), "model.sig": found.signature, "bom.json": found.bom,
    }  # fmt: skip
    assert await vouched_by(house, model.digest) == house.signing.keys()[0]


async def test_what_its_run_was_given_beside_tables_is_named_by_its_content(house):
    model, run = await made_model(house)
    given = ArtifactRef("artifact", digest_of("rows"), uri=f"tally://artifacts/{digest_of('rows')}")
    steps = [Step(path, StepState.SUCCEEDED, outputs=Values({}, {"artifact": (given,)})) for path in "ab"]
    await keep_steps(house, run, *steps)
    made = await provenance_of(house, await attest(house, model))
    assert [(d.digest, d.uri) for d in made.dependencies if d.name == "input"] == [(given.digest, given.uri)]


async def test_model_sig_is_about_the_files(house):
    model, _ = await made_model(house)
    found = await attest(house, model)
    raw = (await house.artifacts.path_of(found.signature)).read_bytes()
    read = house.signing.verify(bundle_envelope(raw))
    assert read.key == house.signing.keys()[1]
    statement = statement_of(read.payload, read.payload_type, (SIGNATURE,), "it")
    check_signature(statement, await house.artifacts.members(model.digest))


async def test_who_took_it_from_the_cache_names_who_made_it(house):
    model, maker = await made_model(house, cached=True)
    assert model.origin.run != maker.key
    made = await provenance_of(house, await attest(house, model))
    assert (made.internal["cached"], made.internal["madeBy"]) == (True, maker.key)
    assert made.invocation == f"tally://runs/{model.origin.run}"
    assert (made.started_ms, made.finished_ms) == (2_000, 5_000)
    assert "lock" in {d.name for d in made.dependencies}


async def test_what_is_not_known_is_missing(house):
    """A run from before there were recipes and environments, whose pipeline's file is gone."""
    run = await add_run(house)
    model = await add_model(house, run=run)
    found = await attest(house, model)
    assert (found.known, found.missing) == (("run", "data"), ("source", "lock"))
    assert found.lineage == 0.5
    made = await provenance_of(house, found)
    assert {d.name for d in made.dependencies} == {"data"}
    assert made.internal["missing"] == ["source", "lock"]
    assert "recipe" not in made.internal
    assert "compositions" in await stored(house, found.bom)


async def test_a_model_without_a_run_is_never_attested_by_itself(house):
    model = await add_model(house)
    assert await attest(house, model) is None
    assert await attest(house, replace(model, origin=replace(model.origin, run="run-gone"))) is None
    assert await vouched_by(house, model.digest) is None
    assert events(house, "attestation") == []


async def test_a_persons_word_says_no_more_than_it_is(house):
    model = await add_model(house)
    found = await vouch(house, model)
    assert (found.known, found.missing, found.run) == ((), LINEAGE, "")
    statement = await signed(house, found.statement, VOUCHED)
    assert statement.predicate["missing"] == list(LINEAGE)
    assert "buildDefinition" not in statement.predicate
    assert (await vouched_by(house, model.digest)).own


async def test_signing_again_changes_nothing_until_something_new_is_known(house):
    model, _ = await made_model(house)
    first = await attest(house, model)
    assert await attest(house, model) == first
    assert await refresh(house, model) == first
    house.clock.advance(60)
    await judged(house, model)
    second = await refresh(house, model)
    assert second.bom != first.bom
    assert second.signature == first.signature
    assert events(house, "attestation") == ["signed", "signed"]
    card = (await stored(house, second.bom))["metadata"]["component"]["modelCard"]
    assert card["quantitativeAnalysis"]["performanceMetrics"][0]["type"] == "clean_accuracy"


async def test_a_refused_model_is_handed_out_with_what_refused_it(house):
    model, _ = await made_model(house)
    await add_verdict(house, model, VerdictState.REFUSED)
    limits = (await bill(house, model))["metadata"]["component"]["modelCard"]["considerations"]
    assert "refused it" in limits["technicalLimitations"][0]
    unjudged = await bill(house, await add_model(house, 2))
    limits = unjudged["metadata"]["component"]["modelCard"]["considerations"]["technicalLimitations"]
    assert "No verdict was reached" in limits[0]


async def test_without_keys_nothing_is_signed_and_registering_goes_on(house):
    model, _ = await made_model(house)
    house.signing = None
    assert await attest(house, model) is None
    assert await attested(house, model) is model
    assert await vouched_by(house, model.digest) is None
    with pytest.raises(MissingTile, match="pip install"):
        await vouch(house, model)


async def test_a_model_from_before_is_attested_when_it_is_first_needed_and_once(house):
    model, _ = await made_model(house)
    assert await attested(house, model) is model
    await add_verdict(house, model)
    assert await attested(house, model) is model
    assert events(house, "attestation") == ["signed"]


async def test_a_failure_to_attest_is_no_failure_to_register(house, caplog):
    model, _ = await made_model(house)
    house.artifacts.blobs.pop(model.digest)
    assert await attested(house, model) is model
    assert "is not attested" in caplog.text


async def test_who_is_distrusted_vouches_for_nothing_any_more(house):
    model = await add_model(house)
    ada = MemorySigning()
    await sign_by(house, model, ada)
    assert (await vouched_by(house, model.digest)).name == "ada"
    house.signing.distrust("ada")
    assert await vouched_by(house, model.digest) is None


async def sign_by(house: Any, model: ModelVersion, person: MemorySigning) -> Attestation:
    keys = person.keys()
    house.signing.trust("ada", keys[0].pem, 1)
    house.signing.trust("ada-models", keys[1].pem, 1)
    made = await draft(house, model)
    envelope = person.sign(PAYLOAD_TYPE, made.statement)
    return await take_signed(house, model, envelope, person.sign_model(made.signature), made.bom)


async def test_a_persons_own_key_signs_what_the_hub_drafted(house):
    model, _ = await made_model(house)
    found = await sign_by(house, model, ada := MemorySigning())
    assert found.signer == ada.keys()[0].id
    assert found.known == LINEAGE
    assert await refresh(house, model) == found  # the hub does not put its own in the place of somebody's


async def test_nothing_else_is_taken(house):
    model, other = await add_model(house), await add_model(house, 2)
    ada = MemorySigning()
    made, strange = await draft(house, model), await draft(house, other)
    envelope, bundle = ada.sign(PAYLOAD_TYPE, made.statement), ada.sign_model(made.signature)
    with pytest.raises(Refused, match="no trusted key"):
        await take_signed(house, model, envelope, bundle, made.bom)
    house.signing.trust("ada", ada.keys()[0].pem, 1)
    with pytest.raises(Refused, match="no trusted key"):  # her other key signed model.sig
        await take_signed(house, model, envelope, bundle, made.bom)
    house.signing.trust("ada-models", ada.keys()[1].pem, 1)
    with pytest.raises(Refused, match="the files are not those"):
        await take_signed(house, model, ada.sign(PAYLOAD_TYPE, strange.statement), bundle, made.bom)
    with pytest.raises(Refused, match="the files are not those"):
        await take_signed(house, model, envelope, ada.sign_model(strange.signature), made.bom)
    with pytest.raises(Refused, match="not as an in-toto"):
        await take_signed(house, model, ada.sign("text/plain", made.statement), bundle, made.bom)
    with pytest.raises(Refused, match="bill of materials"):
        await take_signed(house, model, envelope, bundle, strange.bom)
    members = await house.artifacts.members(model.digest)
    invented = Statement(subjects_of(members), PROVENANCE, Provenance("me", "run-1").to_wire()).to_bytes()
    with pytest.raises(Refused, match="not what is on record"):
        await take_signed(house, model, ada.sign(PAYLOAD_TYPE, invented), bundle, made.bom)
    assert events(house, "attestation") == []


async def test_vouching_is_about_files_and_not_about_names(house):
    """The same files under another name are vouched for; other files under the same name are not."""
    model = await add_model(house)
    await vouch(house, model)
    changed = await add_model(house, 3)
    await house.tell(
        "attestation", changed.key, "signed", await house.get("attestation", model.key, Attestation)
    )
    assert await vouched_by(house, changed.digest) is None
    assert (await supply_of(house, replace(model, name="other"), None)).figures[0].value == 1.0


async def test_a_damaged_statement_vouches_for_nothing(house):
    model = await add_model(house)
    found = await vouch(house, model)
    house.artifacts.blobs[found.statement] = b"{}"
    assert await vouched_by(house, model.digest) is None


async def test_a_forged_fact_vouches_for_nothing(house):
    """By one who can write the ledger but has no key: it names a statement about other files."""
    model, other = await add_model(house), await add_model(house, 2)
    found = await vouch(house, model)
    forged = replace(found, model=other.key, model_digest=other.digest)
    await house.tell("attestation", other.key, "signed", forged)
    assert await vouched_by(house, other.digest) is None


async def test_a_model_sig_in_the_folder_counts_for_a_trusted_key(house, tmp_path):
    """As somebody's stock `model_signing sign key` left it, and MLflow brought it along."""
    ada, files = MemorySigning(), model_files("signed elsewhere")
    plain = tmp_path / "plain"
    for name, content in files.items():
        (plain / name).parent.mkdir(parents=True, exist_ok=True)
        (plain / name).write_bytes(content)
    members = await house.artifacts.members((await house.artifacts.put_folder(plain)).digest)
    from tallystick.evidence.papers.oms import model_statement

    wire = json.loads(model_statement("m", members).to_bytes())
    wire["predicate"]["serialization"]["ignore_paths"].append("model.sig")
    (plain / "model.sig").write_text(json.dumps(ada.sign_model(json.dumps(wire).encode())))
    digest = (await house.artifacts.put_folder(plain)).digest
    assert await vouched_by(house, digest) is None
    house.signing.trust("ada", ada.keys()[1].pem, 1)
    assert (await vouched_by(house, digest)).name == "ada"
    (plain / "more").write_bytes(b"x")
    assert await vouched_by(house, (await house.artifacts.put_folder(plain)).digest) is None


async def test_a_stranger_is_read_once_somebody_vouches_for_it(house, monkeypatch):
    """A pickle is admitted unread; after ``tally sign`` it is looked at again, and may be loaded then."""
    from tallystick.routines.attest import stranger

    model, asked = await add_model(house), []

    async def admit(house, ref):
        asked.append((ref, await vouched_by(house, model.digest) is not None))
        return model

    monkeypatch.setattr(stranger, "admit", admit)
    found = await vouch_for(house, ModelRef("digits"))
    assert (found.model, found.missing) == (model.key, LINEAGE)
    assert asked == [(ModelRef("digits"), False), (ModelRef("digits", 1), True)]


async def test_what_is_never_loaded_is_never_signed(house, monkeypatch):
    from tallystick.routines.attest import stranger

    async def admit(house, ref):
        raise Refused("it is never loaded", where="theirs")

    monkeypatch.setattr(stranger, "admit", admit)
    with pytest.raises(Refused):
        await vouch_for(house, ModelRef("theirs"))
    assert events(house, "attestation") == []


async def test_steps_that_put_out_something_else_are_not_taken_for_its_maker(house):
    run = await add_run(house)
    model = await add_model(house, run=run)
    steps = (await made_model(house, version=9))[1]
    assert steps.key != run.key
    (train,) = [s for s in (await _steps(house, steps.key)) if s.path == "train"]
    await keep_steps(house, run, replace(train, state=StepState.SUCCEEDED))
    made = await provenance_of(house, await attest(house, model))
    assert "step" not in made.internal


async def _steps(house: Any, key: str) -> Any:
    from tallystick.hub.house.whole import whole_run

    return (await whole_run(house, key)).steps
