"""Statements and provenance: written, read back, and refused where they are not what they are taken for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.core.errors import BadInput, Refused, TallyError
from tallystick.core.names import canonical_json, digest_of
from tallystick.core.verdict import Finding, Severity, Verdict, VerdictState
from tallystick.evidence.papers.provenance import Dependency, Provenance
from tallystick.evidence.papers.statement import (
    PAYLOAD_TYPE,
    PROVENANCE,
    TREE,
    VERDICT,
    VOUCHED,
    Statement,
    Subject,
    check_subjects,
    check_verdict,
    ms_of,
    rfc3339,
    statement_of,
    subjects_of,
    verdict_statement,
)
from tallystick.evidence.papers.tree import Member, check_same, in_order, tree_digest

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
DIGESTS = st.binary(max_size=4).map(digest_of)
NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="/\0"), min_size=1, max_size=20)
PATHS = st.lists(NAMES.filter(lambda n: n not in (".", "..")), min_size=1, max_size=3).map("/".join)
MEMBERS = st.lists(
    st.builds(Member, PATHS, DIGESTS, st.integers(0, 2**60)), max_size=6, unique_by=lambda m: m.path
).map(in_order)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
TIMES = st.integers(0, 250_000_000_000_000)
DEPENDENCIES = st.lists(
    st.builds(Dependency, NAMES, DIGESTS, NAMES, st.dictionaries(NAMES, JSON, max_size=2)), max_size=3
).map(tuple)
PROVENANCES = st.builds(
    Provenance,
    NAMES,
    NAMES,
    st.dictionaries(NAMES, JSON, max_size=3),
    st.dictionaries(NAMES, JSON, max_size=3),
    DEPENDENCIES,
    DEPENDENCIES,
    st.dictionaries(NAMES, NAMES, max_size=2),
    TIMES,
    TIMES,
    NAMES,
)
FILES = (Member("MLmodel", digest_of("a"), 1), Member("data/model.onnx", digest_of("b"), 1))


@UNHURRIED
@given(MEMBERS, JSON.filter(lambda value: isinstance(value, dict)))
def test_a_statement_is_read_back_as_it_was(members: tuple[Member, ...], predicate: Any) -> None:
    statement = Statement(subjects_of(members), PROVENANCE, predicate)
    read = statement_of(statement.to_bytes(), PAYLOAD_TYPE, (PROVENANCE,), "it")
    assert read == statement
    assert read.to_bytes() == statement.to_bytes()
    assert check_subjects(read, members, "it") == tree_digest(members)


@UNHURRIED
@given(PROVENANCES)
def test_provenance_is_read_back_as_it_was(provenance: Provenance) -> None:
    wire = json.loads(canonical_json(provenance.to_wire()))
    assert Provenance.parse(wire) == provenance


@UNHURRIED
@given(st.integers(0, 250_000_000_000_000))
def test_a_time_is_read_back_as_it_was(at_ms: int) -> None:
    assert ms_of(rfc3339(at_ms), "it") == at_ms


@UNHURRIED
@given(MEMBERS.filter(bool), st.data())
def test_no_other_files_pass(members: tuple[Member, ...], data: Any) -> None:
    statement = Statement(subjects_of(members), VOUCHED)
    one = data.draw(st.sampled_from(members))
    others = [m for m in members if m is not one]
    strange = digest_of("something else entirely")
    for files in (
        others,
        [*others, Member(one.path, strange, one.size_bytes)],
        [*members, Member(one.path + "x" * 60, one.digest, one.size_bytes)],
        [*others, Member("y" * 70, one.digest, one.size_bytes)],
    ):
        with pytest.raises(Refused):
            check_subjects(statement, files, "it")


def test_a_size_that_lies_is_caught_by_the_tree() -> None:
    statement = Statement(subjects_of(FILES), VOUCHED)
    with pytest.raises(Refused, match="tree"):
        check_subjects(statement, [FILES[0], Member(FILES[1].path, FILES[1].digest, 2)], "it")


def test_a_tree_may_be_swapped_for_no_other() -> None:
    """All files as they are said, under another model's tree."""
    subjects = (Subject(TREE, digest_of("another")), *subjects_of(FILES)[1:])
    with pytest.raises(Refused, match="tree"):
        check_subjects(Statement(subjects, VOUCHED), FILES, "it")
    with pytest.raises(Refused, match="says nothing about"):
        check_subjects(Statement(subjects[1:], VOUCHED), FILES, "it")


def test_what_differs_is_named_but_not_all_of_it() -> None:
    signed = {f"f{i}": digest_of("a") for i in range(9)}
    with pytest.raises(Refused, match=r"f0, f1, f2 and 6 more are missing; \\x1bx is not in it"):
        check_same(signed, [Member("\x1bx", digest_of("a"), 1)], "it")


WIRE = json.loads(Statement(subjects_of(FILES), PROVENANCE, {}).to_bytes())
BROKEN: list[Any] = [
    None,
    [],
    {},
    {**WIRE, "_type": "https://in-toto.io/Statement/v0.1"},
    {**WIRE, "predicate": []},
    {**WIRE, "subject": {}},
    {**WIRE, "subject": []},
    {**WIRE, "subject": [7]},
    {**WIRE, "subject": [{"name": "x", "digest": {}}]},
    {**WIRE, "subject": [{"name": "x", "digest": {"sha256": "00"}}]},
    {**WIRE, "subject": [{"name": "", "digest": {"sha256": "0" * 64}}]},
    {**WIRE, "subject": [{"digest": {"sha256": "0" * 64}}]},
    {**WIRE, "subject": [WIRE["subject"][0]] * 2},
]


@pytest.mark.parametrize("wire", BROKEN, ids=range(len(BROKEN)))
def test_what_is_no_statement_is_bad_input(wire: Any) -> None:
    with pytest.raises(BadInput):
        statement_of(json.dumps(wire).encode(), PAYLOAD_TYPE, (PROVENANCE,), "it")


@pytest.mark.parametrize(
    "raw", [b"", b"\xff", b"{", b"NaN", b'{"a": Infinity}', b'{"a": 1, "a": 1}', b"[" * 100_000]
)
def test_what_is_no_plain_json_is_bad_input(raw: bytes) -> None:
    with pytest.raises(BadInput):
        statement_of(raw, PAYLOAD_TYPE, (PROVENANCE,), "it")


def test_nothing_is_read_as_another_kind() -> None:
    raw = json.dumps(WIRE).encode()
    with pytest.raises(Refused, match="another kind"):
        statement_of(raw, PAYLOAD_TYPE, (VERDICT, VOUCHED), "it")
    with pytest.raises(Refused, match="not as an in-toto statement"):
        statement_of(raw, "text/plain", (PROVENANCE,), "it")
    for strange in (None, 7, ["https://slsa.dev/provenance/v1"], {}):
        with pytest.raises(Refused, match="another kind"):
            statement_of(
                json.dumps({**WIRE, "predicateType": strange}).encode(), PAYLOAD_TYPE, (PROVENANCE,), "it"
            )


@UNHURRIED
@given(st.recursive(JSON, lambda inner: st.dictionaries(st.sampled_from(
    ["buildDefinition", "runDetails", "builder", "id", "metadata", "startedOn", "buildType",
     "externalParameters", "resolvedDependencies", "name", "digest", "sha256"]), inner)))  # fmt: skip
def test_a_strange_provenance_never_breaks_the_reader(wire: Any) -> None:
    with pytest.raises(TallyError):
        Provenance.parse(wire)


FINDING = Finding("robust", True, Severity.REFUSE, "it holds", "robust_accuracy", 0.9, 0.8)
VERDICT_SAID = Verdict(
    "verdict-1", "digits@1", digest_of("m"), "strict", digest_of("p"), VerdictState.PASSED, (FINDING,),
    digest_of("e"), {"clean_accuracy": 0.97}, "held-out", digest_of("d"), at_ms=1_700_000_000_000,
)  # fmt: skip


def said(**more: Any) -> Statement:
    from dataclasses import replace

    raw = verdict_statement(replace(VERDICT_SAID, **more)).to_bytes()
    return statement_of(raw, PAYLOAD_TYPE, (VERDICT,), "verdict.json")


def test_a_verdict_is_checked_from_its_statement_alone() -> None:
    assert check_verdict(said(), digest_of("m"), 10**15) == "digits@1"
    with pytest.raises(Refused, match="other files"):
        check_verdict(said(), digest_of("another"), 0)
    with pytest.raises(Refused, match="'refused'"):
        check_verdict(said(state=VerdictState.REFUSED), digest_of("m"), 0)
    assert check_verdict(said(stage="Production"), digest_of("m"), 0)
    with pytest.raises(Refused, match="it is for 'live traffic' alone"):
        check_verdict(said(stage="live traffic"), digest_of("m"), 0)
    with pytest.raises(BadInput, match="neither yes nor no"):
        said(state=VerdictState.FAILED)


def test_a_verdict_ends_with_the_exception_that_it_rests_on() -> None:
    ends = Finding("robust", False, Severity.REFUSE, "no", exception="let", until_ms=1_700_000_000_000)
    statement = said(findings=(ends,))
    assert check_verdict(statement, digest_of("m"), 1_699_999_999_999)
    with pytest.raises(Refused, match="expired on 2023-11-14"):
        check_verdict(statement, digest_of("m"), 1_700_000_000_000)


def test_a_verdict_about_a_model_of_another_name_is_none() -> None:
    wire = json.loads(said().to_bytes())
    wire["predicate"]["model"] = "another@1"
    with pytest.raises(BadInput, match="about one model"):
        check_verdict(
            statement_of(json.dumps(wire).encode(), PAYLOAD_TYPE, (VERDICT,), "it"), digest_of("m"), 0
        )
    for until in ("2023-11-14", 7, "soon", ""):
        wire = json.loads(said().to_bytes())
        wire["predicate"]["expiresOn"] = until
        with pytest.raises(TallyError):
            check_verdict(
                statement_of(json.dumps(wire).encode(), PAYLOAD_TYPE, (VERDICT,), "it"), digest_of("m"), 0
            )


@pytest.mark.parametrize("path", ["", "/a", "a//b", "../a", "a/..", ".", "a\0b", "x" * 3000])
def test_a_path_stays_in_its_folder(path: str) -> None:
    with pytest.raises(BadInput):
        Member(path, digest_of("a"), 1)


def test_two_files_of_one_path_are_none() -> None:
    with pytest.raises(BadInput):
        in_order([FILES[0], FILES[0]])
