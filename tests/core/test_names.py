from __future__ import annotations

import hashlib
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.data import TableRef
from tallystick.core.errors import BadInput
from tallystick.core.model import ModelRef
from tallystick.core.names import canonical_json, check_digest, check_name, digest_of, split_key
from tests.core.strategies import digests, json_values, names

SAFE = set(string.ascii_letters + string.digits + "._-")


@given(names)
def test_a_plain_name_is_a_name(name: str) -> None:
    assert check_name("table", name) == name


@given(st.text(max_size=120) | st.text("aB0._-/\\\n", max_size=8))
def test_whatever_is_let_through_is_safe(name: str) -> None:
    try:
        check_name("table", name)
    except BadInput:
        return
    assert 1 <= len(name) <= 100
    assert set(name) <= SAFE
    assert name[0] not in "._-"
    assert not name.endswith(".")
    assert ".." not in name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a..b", ".a", "a.", "-a", "_a", "a/b", "a b", "a\n", "é", "a" * 101, "a\x00"]
)
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(BadInput):
        check_name("table", name)


@given(digests)
def test_a_digest_is_one(digest: str) -> None:
    assert check_digest(digest) == digest


@pytest.mark.parametrize(
    "digest",
    [
        "",
        "sha256:",
        "sha256:" + "a" * 63,
        "sha256:" + "A" * 64,
        "md5:" + "a" * 64,
        "sha256:" + "a" * 64 + "\n",
    ],
)
def test_a_digest_that_is_none(digest: str) -> None:
    with pytest.raises(BadInput):
        check_digest(digest)


@given(st.dictionaries(st.text(), json_values))
def test_equal_values_have_equal_text_and_digest(value: dict[str, object]) -> None:
    turned = dict(reversed(value.items()))
    assert canonical_json(turned) == canonical_json(value)
    assert json.loads(canonical_json(value)) == value
    assert digest_of(turned) == digest_of(value)
    check_digest(digest_of(value))


def test_nan_has_no_text() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"x": float("nan")})


def test_the_digest_of_bytes_and_text() -> None:
    known = "sha256:" + hashlib.sha256("é".encode()).hexdigest()
    assert digest_of("é") == digest_of("é".encode()) == known
    check_digest(digest_of("\ud800"))


@given(names, names)
def test_a_key_is_a_name_and_a_version(name: str, version: str) -> None:
    assert split_key("table", f"{name}@{version}") == (name, version)
    assert split_key("table", name) == (name, "")


@pytest.mark.parametrize("key", ["", "@1", "a@b@c", "a@/", "a@..", "a/b@1"])
def test_a_key_that_is_none(key: str) -> None:
    with pytest.raises(BadInput):
        split_key("table", key)


@given(names, st.integers(1, 10**9))
def test_references_come_back(name: str, version: int) -> None:
    for text in (name, f"{name}@{version}"):
        assert str(ModelRef.parse(text)) == text
        assert str(TableRef.parse(text)) == text
        assert TableRef.parse(f"tally://tables/{text}") == TableRef.parse(text)


@pytest.mark.parametrize("text", ["m@0", "m@-1", "m@1.5", "m@x", "m@٣", "@1", ""])
def test_a_model_version_that_is_none(text: str) -> None:
    with pytest.raises(BadInput):
        ModelRef.parse(text)
