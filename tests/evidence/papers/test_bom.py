"""Bills of materials: valid by CycloneDX's own schema, exact, and read back strictly."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tallystick.core.errors import BadInput
from tallystick.core.model import ModelVersion, TensorSpec
from tallystick.core.names import canonical_json, digest_of
from tallystick.core.values import Environment
from tallystick.evidence.figures import Figure
from tallystick.evidence.papers.bom import Material, Parts, bill_of, read_bill
from tallystick.evidence.papers.tree import Member, tree_digest

FILES = (Member("MLmodel", digest_of("a"), 1), Member("data/a b ü%.onnx", digest_of("b"), 7))
MODEL = ModelVersion(
    "digits", 3, tree_digest(FILES), ("onnx", "python_function"), (TensorSpec("x", "FP32", (-1, 64)),),
    (TensorSpec("y", "INT64", (-1,)),), at_ms=1_700_000_000_123,
)  # fmt: skip
LOCK = (
    f"Numpy==2.3.5 \\\n    --hash=sha256:{'1' * 64} \\\n    --hash=sha256:{'2' * 64}\n"
    f"torch==2.13.0+cpu --hash=sha256:{'3' * 64}\n"
)
PARTS = Parts(
    data=(Material("digits", "17", digest_of("rows"), 1797, "training, by Ada"), Material("more", "1", "")),
    environment=Environment("3.13", "linux", {"Numpy": "2.3.5", "torch": "2.13.0+cpu", "a_b.C": "1"}, LOCK),
    figures=(
        Figure("clean_accuracy", 0.97, 0.95, 0.98, 300),
        Figure("robust_accuracy", 0.5, 0.4, 0.6, 100, 0.1),
        Figure("size_mib", 1.0, 1.0, 1.0, group="all"),
    ),
    limits=("Policy p refused it.",),
    missing=("lock",),
    maker="tallystick 1.2",
    at_ms=1_700_000_000_123,
)


def valid(bom: dict[str, Any]) -> None:
    validation = pytest.importorskip(
        "cyclonedx.validation.json", reason="cyclonedx-python-lib is not installed"
    )
    schema = pytest.importorskip("cyclonedx.schema")
    wrong = validation.JsonStrictValidator(schema.SchemaVersion.V1_6).validate_str(json.dumps(bom))
    assert wrong is None, str(wrong)


@pytest.mark.parametrize("parts", [PARTS, Parts()])
@pytest.mark.parametrize("files", [FILES, ()])
def test_it_is_valid(parts: Parts, files: tuple[Member, ...]) -> None:
    valid(bill_of(MODEL, files, parts))


def test_the_validator_would_have_said_so() -> None:
    bom = bill_of(MODEL, FILES, PARTS)
    bom["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["accuracy"] = 1
    with pytest.raises(AssertionError):
        valid(bom)


def test_it_says_what_is_known_and_no_more() -> None:
    bom = bill_of(MODEL, FILES, PARTS)
    model = bom["metadata"]["component"]
    assert (model["type"], model["name"], model["version"]) == ("machine-learning-model", "digits", "3")
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert metrics[0] == {
        "type": "clean_accuracy",
        "value": "0.97",
        "confidenceInterval": {"lowerBound": "0.95", "upperBound": "0.98"},
    }
    assert metrics[1]["slice"] == "eps 0.1"
    assert metrics[2] == {"type": "size_mib", "value": "1.0", "slice": "all"}
    purls = {c["name"]: (c["purl"], len(c.get("hashes", []))) for c in bom["components"] if "purl" in c}
    assert purls == {
        "a-b-c": ("pkg:pypi/a-b-c@1", 0),
        "numpy": ("pkg:pypi/numpy@2.3.5", 2),
        "torch": ("pkg:pypi/torch@2.13.0%2Bcpu", 1),
    }
    tables = {c["name"]: {p["name"]: p["value"] for p in c["properties"]} for c in bom["components"][:2]}
    assert tables["digits"]["tallystick:consent"] == "training, by Ada"
    assert tables["more"] == {"tallystick:consent": "none on record"}
    assert bom["compositions"][1]["aggregate"] == "incomplete"
    bare = bill_of(MODEL, FILES, Parts())
    assert bare["components"] == []
    assert set(bare["metadata"]["component"]["modelCard"]) == {"modelParameters"}


def test_the_same_is_written_the_same() -> None:
    assert canonical_json(bill_of(MODEL, FILES, PARTS)) == canonical_json(bill_of(MODEL, FILES[::-1], PARTS))


def test_it_is_read_back() -> None:
    tree, files = read_bill(json.loads(json.dumps(bill_of(MODEL, FILES, PARTS))))
    assert tree == MODEL.digest
    assert files == {m.path: m.digest for m in FILES}


@pytest.mark.parametrize("wire", [None, [], {}, {"metadata": []}, {"metadata": {"component": {}}}])
def test_what_is_no_bill_is_bad_input(wire: Any) -> None:
    with pytest.raises(BadInput):
        read_bill(wire)


def test_another_bill_is_not_taken_for_a_models() -> None:
    for path, value in (
        (("specVersion",), "1.5"),
        (("bomFormat",), "SPDX"),
        (("metadata", "component", "type"), "library"),
        (("metadata", "component", "components"), [{"type": "file", "name": "x", "hashes": []}]),
        (("metadata", "component", "components"), [{"type": "file", "name": "x"}]),
    ):
        bom = json.loads(json.dumps(bill_of(MODEL, FILES, PARTS)))
        place = bom
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = value
        with pytest.raises(BadInput):
            read_bill(bom)
    bom = bill_of(MODEL, FILES, PARTS)
    bom["metadata"]["component"]["components"] *= 2
    with pytest.raises(BadInput, match="twice"):
        read_bill(bom)
