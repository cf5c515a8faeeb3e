from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.core.errors import BadInput
from tallystick.core.pipeline.spec import Dag, Param, ParamType, Pipeline
from tallystick.core.study import Dimension, Kind, Study
from tallystick.doors.api.space import check_space, read_space

PIPELINE = Pipeline(
    "p",
    Dag(()),
    (
        Param("alpha", ParamType.DOUBLE, 1.0),
        Param("depth", ParamType.INTEGER),
        Param("how", ParamType.STRING, "a"),
        Param("mode", ParamType.STRING, "x", literals=("x", "y")),
        Param("size", ParamType.INTEGER, 1, literals=(1, 2)),
    ),
)


def test_every_kind_of_parameter_is_read():
    text = """
    alpha = {type = "float", low = 1e-4, high = 1, log = true}
    [depth]
    type = "int"
    low = 1
    high = 9
    step = 2
    [how]
    type = "choice"
    values = ["a", 1, 2.5, ["b"], {c = "d"}]
    """
    assert read_space(text) == (
        Dimension("alpha", Kind.FLOAT, 1e-4, 1.0, log=True),
        Dimension("depth", Kind.INT, 1, 9, step=2),
        Dimension("how", Kind.CHOICE, values=("a", 1, 2.5, ["b"], {"c": "d"})),
    )


@pytest.mark.parametrize(
    ("text", "where", "what", "hint"),
    [
        ("", "space", "0 parameters", ""),
        ("alpha =", "space", "not TOML", ""),
        ("alpha = 1", "[alpha]", "must be a table", ""),
        ("[alpha]", "[alpha]", "lacks 'type'", "float, int, choice"),
        ('[alpha]\ntype = "flaot"', "[alpha] type", "'flaot'", "did you mean 'float'?"),
        ('[alpha]\ntype = "float"\nlo = 1', "[alpha]", "'lo'", "did you mean 'low'?"),
        ('[alpha]\ntype = "choice"\nlow = 1', "[alpha]", "'low'", "type, values"),
        ('[alpha]\ntype = "float"\nlow = 1', "[alpha]", "lacks 'high'", ""),
        ('[alpha]\ntype = "float"\nlow = 2\nhigh = 1', "[alpha]", "must be below high", ""),
        ('[alpha]\ntype = "float"\nlow = 1\nhigh = 1', "[alpha]", "must be below high", ""),
        ('[alpha]\ntype = "float"\nlow = nan\nhigh = 1', "[alpha] low", "no number", ""),
        ('[alpha]\ntype = "float"\nlow = 0\nhigh = inf', "[alpha] high", "finite", ""),
        ('[alpha]\ntype = "float"\nlow = "0"\nhigh = 1', "[alpha] low", "no number", ""),
        ('[alpha]\ntype = "float"\nlow = true\nhigh = 2', "[alpha] low", "no number", ""),
        ('[alpha]\ntype = "float"\nlow = 0\nhigh = 1\nlog = true', "[alpha]", "above 0", ""),
        ('[alpha]\ntype = "float"\nlow = 0\nhigh = 1\nlog = 1', "[alpha] log", "true or false", ""),
        ('[alpha]\ntype = "float"\nlow = 1\nhigh = 2\nlog = true\nstep = 1', "[alpha]", "both", ""),
        ('[alpha]\ntype = "float"\nlow = 1\nhigh = 2\nstep = 0', "[alpha]", "above 0", ""),
        ('[alpha]\ntype = "float"\nlow = 1\nhigh = 2\nstep = 3', "[alpha]", "within the range", ""),
        ('[alpha]\ntype = "float"\nlow = -1e308\nhigh = 1e308', "[alpha]", "too wide", ""),
        ('[alpha]\ntype = "float"\nlow = 0\nhigh = 1\nstep = 5e-324', "[alpha]", "too small", ""),
        ('[depth]\ntype = "int"\nlow = 1.5\nhigh = 2', "[depth] low", "no whole number", ""),
        ('[depth]\ntype = "int"\nlow = 0\nhigh = 99999999999999999999', "[depth] high", "whole", ""),
        ('[how]\ntype = "choice"', "[how] values", "list", ""),
        ('[how]\ntype = "choice"\nvalues = []', "[how] values", "list", ""),
        ('[how]\ntype = "choice"\nvalues = ["a", "a"]', "[how] values", "twice", ""),
        ('[how]\ntype = "choice"\nvalues = [1, true]', "[how] values", "twice", ""),
        ('[how]\ntype = "choice"\nvalues = [1, 1.0]', "[how] values", "twice", ""),
        ('[how]\ntype = "choice"\nvalues = [2020-01-01]', "[how] values", "cannot have", "dates"),
        ('[how]\ntype = "choice"\nvalues = [nan]', "[how] values", "cannot have", "NaN"),
        ("a = " + "[" * 5000, "space", "not TOML", ""),
        ("\n".join(f"[p{n}]" for n in range(200)), "space", "200 parameters", ""),
        ("#" * 300_000, "space", "256 KiB", ""),
    ],
)
def test_what_cannot_be_is_named(text, where, what, hint):
    with pytest.raises(BadInput) as caught:
        read_space(text)
    assert caught.value.where == where
    assert what in caught.value.what
    assert hint in caught.value.hint


def study(*space, **more):
    return Study("", "s", "p", "", "loss", space or (Dimension("depth", Kind.INT, 1, 3),), **more)


def test_a_space_that_fits():
    check_space(study(), PIPELINE)
    check_space(study(Dimension("alpha", Kind.INT, 1, 3), params={"depth": 2}), PIPELINE)
    check_space(study(Dimension("mode", Kind.CHOICE, values=("y",)), params={"depth": 2}), PIPELINE)


@pytest.mark.parametrize(
    ("one", "more", "what"),
    [
        (Dimension("alpah", Kind.FLOAT, 0, 1), {}, "'alpah' is no parameter"),
        (Dimension("depth", Kind.FLOAT, 0, 1), {}, "NUMBER_INTEGER, and the space says float"),
        (Dimension("how", Kind.INT, 0, 1), {}, "STRING, and the space says int"),
        (Dimension("size", Kind.INT, 1, 2), {}, "only have some values"),
        (Dimension("mode", Kind.CHOICE, values=("x", "z")), {}, "'mode' is 'z'"),
        (Dimension("depth", Kind.CHOICE, values=(1, "2")), {}, "must be NUMBER_INTEGER"),
        (Dimension("alpha", Kind.FLOAT, 0, 1), {}, "'depth' has no value"),
        (Dimension("depth", Kind.INT, 0, 1), {"params": {"depth": 1}}, "searched"),
        (Dimension("depth", Kind.INT, 0, 1), {"params": {"deep": 1}}, "no parameter 'deep'"),
        (Dimension("alpha", Kind.FLOAT, 0, 1), {"params": {"depth": 1}, "sampler": "grid"}, "finite number"),
        (Dimension("depth", Kind.INT, 0, 10**6), {"sampler": "grid"}, "1,000,001 values"),
        (Dimension("depth", Kind.CHOICE, values=(1, 2)), {"sampler": "cmaes"}, "has a choice"),
    ],
)
def test_a_space_that_does_not_fit_its_pipeline(one, more, what):
    with pytest.raises(BadInput, match=what):
        check_space(study(one, **more), PIPELINE)


def test_a_near_name_is_proposed():
    with pytest.raises(BadInput) as caught:
        check_space(study(Dimension("alpah", Kind.FLOAT, 0, 1)), PIPELINE)
    assert caught.value.hint.startswith("did you mean 'alpha'? there is alpha, depth")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(BadInput):
        assert read_space(text)


NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(2**60), 2**60) | st.booleans()


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["float", "int"]),
    st.fixed_dictionaries(
        {"low": NUMBERS, "high": NUMBERS}, optional={"step": NUMBERS, "log": st.booleans()}
    ),
)
def test_whatever_is_read_can_be_searched(kind, said):
    def toml(value):
        return str(value).lower() if isinstance(value, bool) else repr(value)

    text = "\n".join(["[x]", f'type = "{kind}"', *(f"{key} = {toml(value)}" for key, value in said.items())])
    one = None
    with contextlib.suppress(BadInput):
        (one,) = read_space(text)
    if one is None:
        return
    assert one.low < one.high
    assert math.isfinite(one.high)
    assert not one.log or one.low > 0
    assert one.steps >= (1 if one.step else 0)
    if 0 < one.steps < 1000:
        points = one.points()
        assert points[0] == one.low
        assert all(one.low <= p <= one.high * (1 + 1e-9) + 1e-9 for p in points)
