"""What a run that hardens is told, and what is refused before one begins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tallystick.core.errors import BadInput, Conflict, NotSupported
from tallystick.core.model import ModelVersion, Origin, TensorSpec
from tallystick.core.names import digest_of
from tallystick.evidence.policy import Policy
from tallystick.judging.harden import Wish, params_of
from tallystick.judging.ways import How

X = TensorSpec("x", "FP32", (-1, 4))
OUT = (TensorSpec("class", "INT64", (-1,)), TensorSpec("odds", "FP32", (-1, 3)))
MODEL = ModelVersion(
    "m", 2, digest_of("files"), ("onnx", "python_function"), (X,), OUT,
    origin=Origin("run-1", snapshots={"t@9": digest_of("rows")}),
)  # fmt: skip
STRANGE = replace(MODEL, origin=Origin())
RULE = {"name": "robust", "measure": "robust_accuracy", "eps": 0.2, "at_least": 0.5}


def policy(**more: Any) -> Policy:
    wire = {"budget": {"eps": [0.1, 0.2, 0.3]}, "rule": [RULE], **more}
    return Policy.parse(wire)


def told(
    model: ModelVersion = MODEL,
    outputs: tuple[str, ...] = ("test",),
    rules: Policy | None = None,
    **wish: Any,
) -> dict[str, Any]:
    how = How(wish.pop("how", "adversarial"))
    return dict(params_of(model, outputs, rules or policy(), Wish(how, "label", **wish))[0])


def test_the_run_imports_the_model_its_table_and_the_rows_held_out() -> None:
    assert told() == {
        "model": "tally://models/m@2",
        "data": "tally://tables/t@9",
        "held_out": "tally://runs/run-1/test",
        "how": "adversarial",
        "about": {
            "of": "m@2",
            "label": "label",
            "domain": {
                "low": 0.0,
                "high": 1.0,
                "tabular": False,
                "columns": {},
                "apart": [],
                "shape": [],
                "channels_first": False,
            },
            "inputs": [{"name": "x", "type": "FP32", "shape": [-1, 4]}],
            "names": ["class", "odds"],
            "taken_from": True,
        },
        "settings": {"epochs": 100},
        "eps": 0.2,
        "seed": 7,
        "share": 0.2,
    }


def test_without_rows_held_out_it_says_what_is_not_known() -> None:
    params, notes = params_of(STRANGE, (), policy(), Wish(How.ADVERSARIAL, "label", data="other"))
    assert params["data"] == params["held_out"] == "tally://tables/other"
    [note] = notes
    assert note.startswith("no run held out rows for m@2: a fifth of other is held out now")
    assert told(data="run-7/train")["data"] == "tally://runs/run-7/train"


@pytest.mark.parametrize("origin", [Origin(), Origin("run-1", snapshots={"a@1": "", "b@1": ""})])
def test_rows_that_nobody_can_guess_are_asked_for(origin: Origin) -> None:
    with pytest.raises(BadInput, match="say which rows to train on") as refused:
        told(replace(MODEL, origin=origin))
    assert refused.value.hint == "tally harden m@2 --data TABLE"


def test_eps_is_what_the_policy_refuses_by() -> None:
    rules = [RULE, {**RULE, "name": "wide", "eps": 0.3, "severity": "warn"}]
    assert told(rules=policy(rule=rules))["eps"] == 0.2
    assert told(rules=policy(rule=[{**RULE, "models": ["other"]}]))["eps"] == 0.2, "the budget's middle one"
    assert told(eps=0.05)["eps"] == 0.05
    for eps in (-1.0, float("nan"), float("inf")):
        with pytest.raises(BadInput, match="eps is a number above 0"):
            told(eps=eps)


@pytest.mark.parametrize(("eps", "bits"), [(0.25, 1), (0.15, 2), (0.1, 2), (0.05, 3), (1e-9, 8), (5.0, 1)])
def test_levels_lie_two_eps_apart(eps: float, bits: int) -> None:
    assert told(how="preprocess", eps=eps)["settings"] == {"kind": "squeeze", "bits": bits}
    if 1 < bits < 8:
        assert 1 / (2**bits - 1) >= 2 * eps > 1 / (2 ** (bits + 1) - 1)


def test_levels_are_of_the_features_range() -> None:
    wide = policy(budget={"eps": [0.1, 0.2, 0.3], "low": 0.0, "high": 255.0})
    assert told(how="preprocess", eps=16.0, rules=wide)["settings"]["bits"] == 3


def test_a_table_says_what_may_change() -> None:
    columns = [
        {"name": "age", "low": 18, "high": 99, "integer": True, "immutable": True},
        {"name": "pay", "low": 0, "high": 9000, "scale": 100, "direction": "up"},
        {"name": "red", "one_hot": "hue"},
    ]
    rules = policy(domain={"m": {"kind": "tabular", "columns": columns, "groups": ["region"]}})
    free, up = {"group": "", "way": "any"}, {"way": "up"}
    assert told(rules=rules)["about"]["domain"] == {
        "low": 0.0, "high": 1.0, "tabular": True, "apart": ["region"], "shape": [], "channels_first": False,
        "columns": {
            "age": {"low": 18, "high": 99, "scale": 0.0, "whole": True, "fixed": True, **free},
            "pay": {"low": 0, "high": 9000, "scale": 100, "whole": False, "fixed": False, **free} | up,
            "red": {**free, "low": 0, "high": 1, "scale": 0, "whole": True, "fixed": False, "group": "hue"},
        },
    }  # fmt: skip


def test_settings_are_read_and_bounded() -> None:
    said = {"sigma": "0.5", "draws": "16", "base": "original", "epochs": "8"}
    assert told(how="smooth", settings=said)["settings"] == {**said, "sigma": 0.5, "draws": 16, "epochs": 8}
    for name, text, what in (
        ("draws", "0", "a whole number from 1 to 1000"),
        ("draws", "2.5", "a whole number"),
        ("draws", "true", "a whole number"),
        ("sigma", "NaN", "a number from"),
        ("sigma", "wide", "a number from"),
        ("base", "other", "network or original"),
        ("bits", "2", "smooth has no setting 'bits'"),
    ):
        with pytest.raises(BadInput, match=what):
            told(how="smooth", settings={name: text})
    with pytest.raises(BadInput, match="a seed is 0 to"):
        told(seed=-1)


def test_each_kind_of_preprocessing_has_its_own_setting() -> None:
    pictures = policy(domain={"m": {"kind": "image", "shape": [2, 2]}})
    for kind, mine in (("median", {"window": 3}), ("jpeg", {"quality": 50}), ("squeeze", {"bits": 1})):
        params = told(how="preprocess", rules=pictures, settings={"kind": kind})
        assert params["settings"] == {"kind": kind, **mine}
        assert params["about"]["domain"]["shape"] == [2, 2]
    said = {"kind": "jpeg", "quality": "90"}
    assert told(how="preprocess", rules=pictures, settings=said)["settings"]["quality"] == 90
    for said, what in (
        ({"kind": "jpeg", "bits": "2"}, "preprocess of kind jpeg has no setting 'bits'"),
        ({"kind": "median", "window": "9"}, "window is a whole number from 2 to 5"),
        ({"kind": "blur"}, "kind is squeeze, median or jpeg, not 'blur'"),
    ):
        with pytest.raises(BadInput, match=what):
            told(how="preprocess", rules=pictures, settings=said)
    with pytest.raises(NotSupported, match="median is for pictures, and the policy") as refused:
        told(how="preprocess", settings={"kind": "median"})
    assert "shape = [height, width]" in refused.value.hint


def test_rows_held_out_are_looked_for_in_the_table_that_they_were_taken_from() -> None:
    assert told()["about"]["taken_from"]
    assert told(data="t")["about"]["taken_from"], "the very table, said outright"
    assert not told(data="other")["about"]["taken_from"]
    assert not told(data="run-1/train")["about"]["taken_from"]
    assert not told(outputs=())["about"]["taken_from"], "a share is held out now"


def test_text_and_what_was_never_loaded_is_refused_in_every_way() -> None:
    for how in How:
        with pytest.raises(NotSupported, match="its input 'words' takes text"):
            told(replace(MODEL, inputs=(TensorSpec("words", "BYTES", (-1,)),)), how=how)
        with pytest.raises(NotSupported, match="takes text"):
            told(rules=policy(domain={"m": {"kind": "text"}}), how=how)
        with pytest.raises(NotSupported, match="no hardening of series"):
            told(rules=policy(domain={"m": {"kind": "series", "shape": [3]}}), how=how)
        with pytest.raises(Conflict, match="never loaded"):
            told(replace(MODEL, inputs=()), how=how)
        with pytest.raises(NotSupported, match="'image' is not a single column"):
            told(replace(MODEL, inputs=(TensorSpec("a", "FP32", (-1,)), replace(X, name="image"))), how=how)


def test_what_a_way_needs_is_refused_where_it_is_lacking() -> None:
    pickled = replace(MODEL, flavors=("sklearn",))
    for how in ("preprocess", "distill"):
        with pytest.raises(NotSupported, match=f"{how} needs the model as ONNX, and it is sklearn"):
            told(pickled, how=how)
    with pytest.raises(NotSupported, match="needs the model as ONNX"):
        told(pickled, how="smooth", settings={"base": "original"})
    for flavor, way in (
        ("sklearn", "skl2onnx"),
        ("pytorch", "torch.onnx.export"),
        ("python_function", "as ONNX"),
    ):
        with pytest.raises(NotSupported) as refused:
            told(replace(MODEL, flavors=(flavor,)), how="preprocess")
        assert "adversarial" in refused.value.hint
        assert way in refused.value.hint
    assert told(pickled)["how"] == "adversarial"
    assert told(pickled, how="smooth")["settings"]["base"] == "network"
    whole = replace(MODEL, inputs=(replace(X, datatype="INT64"),))
    with pytest.raises(NotSupported, match="takes INT64: there is nothing to round"):
        told(whole, how="preprocess")
    with pytest.raises(NotSupported, match="gives labels alone, and distill needs a score"):
        told(replace(MODEL, outputs=OUT[:1]), how="distill")
    with pytest.raises(NotSupported, match="a fixed number of rows"):
        told(replace(MODEL, inputs=(replace(X, shape=(8, 4)),)), how="distill")


def test_a_networks_outputs_are_called_as_the_models_where_that_is_clear() -> None:
    for outputs in ((), OUT[:1], (*OUT, TensorSpec("more", "FP32", (-1, 9)))):
        assert told(replace(MODEL, outputs=outputs))["about"]["names"] == ["label", "probabilities"]
