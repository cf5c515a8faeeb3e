"""Registering through the API signs what a run made, and nothing else."""

from __future__ import annotations

import base64
import json

import pytest

from tallystick.evidence.papers.statement import PROVENANCE, VOUCHED, statement_of
from tests.fakes.house import add_model, add_run, events
from tests.fakes.signing import MemorySigning


@pytest.fixture
def signing(house):
    house.signing = MemorySigning()
    return house.signing


async def statement(house, attestation, kind):
    envelope = json.loads((await house.artifacts.path_of(attestation["statement"])).read_bytes())
    signed = house.signing.verify(envelope)
    return statement_of(signed.payload, signed.payload_type, (kind,), "it")


async def test_what_a_run_made_is_signed_as_it_is_registered(house, api, signing):
    run = await add_run(house)
    body = {"name": "digits", "run": run.key, "output": "model"}
    made = (await api.post("/models", json=body)).json()
    key = f"{made['name']}@{made['version']}"
    found = (await api.get(f"/nouns/attestation/{key}")).json()
    assert (found["run"], found["signer"]) == (run.key, signing.keys()[0].id)
    said = await statement(house, found, PROVENANCE)
    assert said.predicate["runDetails"]["metadata"]["invocationId"] == f"tally://runs/{run.key}"
    assert said.about(".") == made["digest"]
    assert (await api.post("/models", json=body)).status_code == 201  # once more: nothing new
    assert events(house, "attestation") == ["signed"]


async def test_a_hub_without_keys_registers_all_the_same(house, api):
    run = await add_run(house)
    made = await api.post("/models", json={"name": "digits", "run": run.key, "output": "model"})
    assert made.status_code == 201
    assert events(house, "attestation") == []


async def test_papers_are_named_by_their_digests(house, api, signing):
    model = await add_model(house)
    said = (await api.post("/papers", json={"model": model.key})).json()
    assert (said["papers"], said["attestation"], said["verdict"]) == ({}, None, None)
    signed = (await api.post("/attestations", json={"model": model.key})).json()
    await statement(house, signed, VOUCHED)
    said = (await api.post("/papers", json={"model": model.key})).json()
    assert set(said["papers"]) == {"provenance.json", "model.sig", "bom.json"}
    assert said["papers"]["provenance.json"] == signed["statement"]


async def test_a_draft_is_what_is_to_be_signed(house, api, signing):
    model = await add_model(house)
    made = (await api.post("/attestations/draft", json={"model": model.key})).json()
    payload = base64.b64decode(made["statement"])
    assert statement_of(payload, "application/vnd.in-toto+json", (VOUCHED,), "it").about(".") == model.digest
    assert events(house, "attestation") == []
