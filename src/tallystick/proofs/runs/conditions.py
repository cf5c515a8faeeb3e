"""What every tile for conditions must do: :class:`ConditionsProof` for what kfp's compiler writes, and
:class:`FullConditionsProof` for the rest of CEL and for those who mean harm.
"""

from __future__ import annotations

import abc
from typing import Any

import pytest

from tallystick.core.errors import BadInput
from tallystick.ports.runs.conditions import EXPRESSION_CHARS_MAX, Conditions

__all__ = ["ConditionsProof", "FullConditionsProof"]


def _of(name: str) -> str:
    return f"inputs.parameter_values['pipelinechannel--{name}']"


PARAMS = {
    "flip-coin-op-Output": "heads",
    "empty": "",
    "quoted": 'it is a "quote"',
    "polish": "żółw 🐢",
    "number": 3,
    "negative": -2,
    "share": 0.5,
    "whole": 3.0,
    "yes": True,
    "no": False,
    "text-number": "3",
}
COIN = f"{_of('flip-coin-op-Output')} == 'heads'"

WRITTEN: tuple[tuple[str, bool], ...] = (
    (COIN, True),
    (f"{_of('flip-coin-op-Output')} == 'tails'", False),
    (f"{_of('flip-coin-op-Output')} != 'tails'", True),
    (f"!({COIN})", False),
    (f"!({COIN}) && {_of('flip-coin-op-Output')} == 'tails'", False),
    (f"!({COIN}) && !({_of('flip-coin-op-Output')} == 'tails')", False),
    (f"!({_of('flip-coin-op-Output')} == 'a') && !({_of('flip-coin-op-Output')} == 'b') && {COIN}", True),
    (f"{_of('empty')} == ''", True),
    (f"{_of('quoted')} == 'it is a \"quote\"'", True),
    (f"{_of('polish')} == 'żółw 🐢'", True),
    (f"int({_of('number')}) == 3", True),
    (f"int({_of('number')}) > 5", False),
    (f"!(int({_of('number')}) > 5)", True),
    (f"int({_of('number')}) >= 3", True),
    (f"int({_of('number')}) < 3", False),
    (f"int({_of('number')}) <= int({_of('whole')})", True),
    (f"int({_of('negative')}) == -2", True),
    (f"int({_of('text-number')}) == 3", True),
    (f"{_of('share')} > 0.25", True),
    (f"{_of('share')} == 0.5", True),
    (f"double(int({_of('number')})) > {_of('share')}", True),
    (f"double(2) >= {_of('share')}", True),
    (f"{_of('yes')} == true", True),
    (f"{_of('no')} == true", False),
    (f"!({_of('yes')} == true)", False),
    (f"{_of('flip-coin-op-Output')} == '3'", False),
    (f"'heads' == {_of('flip-coin-op-Output')}", True),
)
"""Conditions as kfp's compiler writes them for dsl.If, dsl.Elif, dsl.Else and dsl.Condition."""

MIXED: tuple[tuple[str, bool], ...] = (
    (f"{_of('number')} == 3", True),
    (f"{_of('number')} == 3.0", True),
    (f"{_of('whole')} == 3", True),
    (f"{_of('number')} > 2.5", True),
    (f"{_of('text-number')} == 3", False),
    (f"{_of('text-number')} != 3", True),
    (f"{_of('yes')} == 'true'", False),
    (f"{_of('yes')} == 1", False),
)
"""Of mixed types: numbers by their value, other things are never equal."""

UNSAID = (
    f"{_of('nobody')} == 'x'",
    f"{_of('flip-coin-op-Output')} > 3",
    f"int({_of('flip-coin-op-Output')}) == 3",
    f"{_of('flip-coin-op-Output')}",
    "inputs.artifacts['model'] == 'x'",
)
NO_CEL = ("", " ", "1 ==", "'open", "(true", "true)", "a b", "== 1", "true true", "inputs.[1]", "1 = 1", "#")


class ConditionsProof(abc.ABC):
    """What kfp's compiler writes."""

    @abc.abstractmethod
    def open(self) -> Conditions:
        """The tile."""

    @pytest.fixture
    def conditions(self) -> Conditions:
        """The tile."""
        return self.open()

    @staticmethod
    def params() -> dict[str, Any]:
        """Parameters under the names that kfp's compiler gives."""
        return {f"pipelinechannel--{name}": value for name, value in PARAMS.items()}

    @pytest.mark.parametrize(("text", "said"), [*WRITTEN, *MIXED])
    def test_what_kfp_writes(self, conditions: Conditions, text: str, said: bool) -> None:
        conditions.check(text)
        assert conditions.holds(text, self.params()) is said

    def test_long_chains_of_branches(self, conditions: Conditions) -> None:
        head = " && ".join(f"!(int({_of('number')}) == {n})" for n in range(4, 104))
        assert conditions.holds(f"{head} && int({_of('number')}) == 3", self.params()) is True

    @pytest.mark.parametrize("text", UNSAID)
    def test_what_comes_to_no_truth(self, conditions: Conditions, text: str) -> None:
        with pytest.raises(BadInput):
            conditions.holds(text, self.params())

    @pytest.mark.parametrize("text", NO_CEL)
    def test_what_is_no_expression(self, conditions: Conditions, text: str) -> None:
        with pytest.raises(BadInput):
            conditions.check(text)
        with pytest.raises(BadInput):
            conditions.holds(text, self.params())

    def test_the_limit_on_length(self, conditions: Conditions) -> None:
        long = "true" + " " * (EXPRESSION_CHARS_MAX - 4)
        conditions.check(long)
        with pytest.raises(BadInput, match="limit"):
            conditions.check(long + " ")
        with pytest.raises(BadInput, match="limit"):
            conditions.holds(long + " ", {})

    @pytest.mark.parametrize("deep", ["(", "!(", "[", "{'a': "])
    def test_what_is_deep_is_refused_and_ends_nobody(self, conditions: Conditions, deep: str) -> None:
        many = EXPRESSION_CHARS_MAX // 8
        shut = {"(": ")", "!(": ")", "[": "]", "{'a': ": "}"}[deep]
        with pytest.raises(BadInput):
            conditions.holds(deep * many + "true" + shut * many, {})

    def test_params_that_are_deep_or_odd_end_nobody(self, conditions: Conditions) -> None:
        deep: Any = 1
        for _ in range(10_000):
            deep = [deep]
        for odd in (deep, 10**400, "\ud800", {"\ud800": 1}):
            with pytest.raises(BadInput):
                conditions.holds("inputs.parameter_values['a'] == 1", {"a": odd})


FULL: tuple[tuple[str, bool], ...] = (
    ("string(inputs.parameter_values['number']) == '3'", True),
    ("string(inputs.parameter_values['share']) == '0.5'", True),
    ("string(inputs.parameter_values['yes']) == 'true'", True),
    ("bool('true')", True),
    ("double('2.5') > 2.0", True),
    ("int(-3.7) == -3", True),
    ("parseJson('{\"a\": [1, true, null]}')['a'][0] == 1", True),
    ("parseJson(inputs.parameter_values['json']).a == 'b'", True),
    ("inputs.parameter_values['list'] == [1, 2.0]", True),
    ("inputs.parameter_values['struct'].a == 1.0", True),
    ("size(inputs.parameter_values['list']) == 2", True),
    ("'x' in inputs.parameter_values['struct']", False),
    ("inputs.parameter_values['none'] == null", True),
    ("has(inputs.parameter_values.number)", True),
    ("'nobody' in inputs.parameter_values", False),
    ("inputs.parameter_values['quote'] == 'it\\'s'", True),
    ("inputs.parameter_values['number'] == 3 || inputs.parameter_values['nobody'] == 1", True),
    ("inputs.parameter_values['nobody'] == 1 || true", True),
    ("inputs.parameter_values['yes'] ? true : inputs.parameter_values['nobody']", True),
    ("[1, 2, 3].exists(x, x == 2)", True),
    ("'heads'.startsWith('he') && 'heads'.matches('^h.*s$')", True),
)


class FullConditionsProof(ConditionsProof):
    """All of CEL, as Kubeflow's driver has it."""

    @staticmethod
    def full() -> dict[str, Any]:
        """Parameters of every type."""
        return {
            "number": 3, "share": 0.5, "yes": True, "none": None, "list": [1, 2], "struct": {"a": 1},
            "json": '{"a": "b"}', "quote": "it's",
        }  # fmt: skip

    @pytest.mark.parametrize(("text", "said"), FULL)
    def test_the_rest_of_cel(self, conditions: Conditions, text: str, said: bool) -> None:
        conditions.check(text)
        assert conditions.holds(text, self.full()) is said

    @pytest.mark.parametrize(
        "text", ["nobody == 1", "nobody('x')", "1", "'true'", "1 + 1.0 == 2.0", "[1] > 2"]
    )
    def test_what_can_come_to_no_truth_is_refused_before(self, conditions: Conditions, text: str) -> None:
        with pytest.raises(BadInput):
            conditions.check(text)

    @pytest.mark.parametrize("text", ["1 / 0 == 1", "int(1e300) == 1", "parseJson('{') == 1", "int('x') > 0"])
    def test_what_goes_wrong_is_told(self, conditions: Conditions, text: str) -> None:
        conditions.check(text)
        with pytest.raises(BadInput, match="cannot be decided"):
            conditions.holds(text, {})

    def test_the_place_of_a_mistake_is_told(self, conditions: Conditions) -> None:
        with pytest.raises(BadInput, match="1:5"):
            conditions.check("1 ==")

    def test_what_would_take_for_ever_does_not(self, conditions: Conditions) -> None:
        some = "[" + ",".join(str(n) for n in range(100)) + "]"
        text = f"{some}.all(a, {some}.all(b, {some}.all(c, {some}.all(d, a + b + c + d >= 0))))"
        with pytest.raises(BadInput):
            conditions.holds(text, {})
        with pytest.raises(BadInput):
            conditions.holds("'a'.matches('(((a{1000}){1000}){1000})')", {})

    def test_numbers_are_doubles_as_kubeflow_has_them(self, conditions: Conditions) -> None:
        large = 2**53 + 1
        assert conditions.holds(f"inputs.parameter_values['n'] == {2**53}.0", {"n": large}) is True
