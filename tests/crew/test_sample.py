"""The errand ``measure.sample``: what was asked, with what the model says of it, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from tallystick.core.errors import BadInput, NotSupported
from tallystick.core.facts import to_json
from tallystick.core.model import TensorSpec
from tallystick.crew.measure.classes import Reader
from tallystick.crew.measure.sample import main
from tallystick.doors.oip.codec import InferRequest, encode_request
from tallystick.ports.tile import Place
from tallystick.ports.traffic import Exchange
from tallystick.tiles.traffic.segments import encode
from tallystick.wiring.tiles import open_tile
from tests.crew.at_desk import done
from tests.fakes.models import build
from tests.fakes.serving import finish, start

LABEL = "the model's own answer"
FLOATS = {"FP32": np.float32, "FP64": np.float64}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return build(tmp_path_factory)


def exchange(inputs, at_ms: int, **other) -> Exchange:
    body, json_bytes = encode_request(InferRequest(inputs))
    said = {"generation": 2, "status": 200, "latency_ms": 1.0, **other}
    return Exchange(at_ms=at_ms, body=body, json_bytes=json_bytes, **said)


def order(tmp_path: Path, inputs, exchanges, **more):
    file = tmp_path / "segment"
    file.write_bytes(b"".join(encode(each) for each in exchanges))
    return {
        "exchanges": [str(file)], "generation": 2, "rows_max": 20, "inputs": to_json(inputs),
        "socket": str(tmp_path / "m"), "name": "m", "label": LABEL, "out": str(tmp_path / "rows.parquet"),
        **more,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["columns", "matrix"])
def test_the_newest_rows_are_written_with_the_model_s_own_answers(
    tmp_path: Path, models: Path, name: str
) -> None:
    here = open_tile("runtime", "pyfunc", Place(tmp_path)).load(models / name)
    draw = np.random.default_rng(3)

    def some(rows: int) -> dict[str, np.ndarray]:
        return {
            s.name: draw.uniform(0, 8, (rows, *s.shape[1:])).astype(FLOATS[s.datatype]) for s in here.inputs
        }

    parts = [some(10), some(10), some(10)]
    asked = [exchange(part, n) for n, part in enumerate(parts)]
    odd = [
        exchange(some(5), 7, generation=1),
        exchange(some(5), 8, status=500),
        exchange({"else": np.zeros((2, 3), np.float32)}, 9),
    ]
    process, _ = start(models / name, tmp_path / "m", "m")
    try:
        said = done(main, order(tmp_path, here.inputs, [*asked, *odd]))
        first = (tmp_path / "rows.parquet").read_bytes()
        assert done(main, order(tmp_path, here.inputs, [*asked, *odd])) == said
    finally:
        finish(process)
    assert said == {"rows": 20, "skipped": 1}
    assert (tmp_path / "rows.parquet").read_bytes() == first
    table = parquet.read_table(tmp_path / "rows.parquet")
    assert table.column_names[-1] == LABEL
    newest = {key: np.concatenate([part[key] for part in parts[1:]]) for key in parts[0]}
    answers = here.predict(newest)
    answer = Reader.of(answers)(answers)
    expected = answer.said if answer.said is not None else answer.scores.argmax(axis=1)
    assert [str(v) for v in table.column(LABEL).to_pylist()] == [str(v) for v in expected]
    rows = np.concatenate([a.reshape(len(a), -1) for a in newest.values()], axis=1)
    written = np.stack([table.column(c).to_numpy() for c in table.column_names[:-1]], axis=1)
    np.testing.assert_array_equal(written, rows.astype(np.float64))


def test_where_nothing_was_asked_there_is_nothing(tmp_path: Path) -> None:
    inputs = (TensorSpec("x", "FP32", (-1, 4)),)
    assert done(main, order(tmp_path, inputs, [])) == {"rows": 0, "skipped": 0}
    assert not (tmp_path / "rows.parquet").exists()


@pytest.mark.parametrize(
    "inputs",
    [(), (TensorSpec("x", "BYTES", (-1, 4)),), (TensorSpec("x", "FP32", (-1, -1)),)],
)
def test_what_is_no_row_of_numbers_is_no_sample(tmp_path: Path, inputs) -> None:
    with pytest.raises(NotSupported, match="no rows of numbers of one length"):
        done(main, order(tmp_path, inputs, []))


def test_an_order_that_lacks_something_is_none(tmp_path: Path) -> None:
    whole = order(tmp_path, (), [])
    with pytest.raises(BadInput, match="the order lacks 'socket'"):
        done(main, {k: v for k, v in whole.items() if k != "socket"})
