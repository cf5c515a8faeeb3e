"""What every runtime must do. Subclass it, say how the tile opens and which models to load with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tallystick.core.errors import BadInput, Failed, TallyError
from tallystick.ports.models.runtime import Predictor, Runtime

__all__ = ["DATATYPES", "RuntimeProof"]

DATATYPES: dict[str, str] = {
    "BOOL": "bool",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
}
"""The Open Inference Protocol's datatypes and numpy's names of them."""

Tensors = dict[str, np.ndarray]


class RuntimeProof:
    """The conformance suite of :class:`tallystick.ports.models.runtime.Runtime`."""

    def open(self, home: Path) -> Runtime:
        """Open the tile."""
        raise NotImplementedError

    def model(self, home: Path) -> Path:
        """A model folder: at least one input, the first axis of all inputs and outputs free, row by row."""
        raise NotImplementedError

    def raising(self, home: Path) -> tuple[Path, Tensors]:
        """A model folder, and inputs that fit its signature but make the model itself raise."""
        raise NotImplementedError

    @pytest.fixture
    def predictor(self, tmp_path: Path) -> Predictor:
        """The model, loaded."""
        return self.open(tmp_path).load(self.model(tmp_path))

    def rows(self, predictor: Predictor, count: int) -> Tensors:
        """Inputs of ``count`` rows that fit the signature, no two alike; the same each time."""
        draw = np.random.default_rng(7)
        made: Tensors = {}
        for spec in predictor.inputs:
            shape = (count, *(2 if length == -1 else length for length in spec.shape[1:]))
            values = draw.uniform(0, 100, shape)
            if spec.datatype == "BYTES":
                texts = np.empty(values.size, object)
                texts[:] = [f"{value:.3f}".encode() for value in values.ravel()]
                made[spec.name] = texts.reshape(shape)
            else:
                made[spec.name] = values.astype(DATATYPES[spec.datatype])
        return made

    def test_it_is_a_runtime(self, tmp_path: Path) -> None:
        """It has the port's methods, and says whether it runs code."""
        assert isinstance(self.open(tmp_path), Runtime)
        assert isinstance(self.open(tmp_path).runs_code, bool)

    def test_it_accepts_its_model(self, tmp_path: Path) -> None:
        """A model of its kind, asked twice."""
        runtime, folder = self.open(tmp_path), self.model(tmp_path)
        assert runtime.accepts(folder)
        assert runtime.accepts(folder)

    def test_the_signature_speaks_the_protocol(self, predictor: Predictor) -> None:
        """Names are there once, datatypes are the protocol's, lengths are -1 or more."""
        for specs in (predictor.inputs, predictor.outputs):
            assert len({spec.name for spec in specs}) == len(specs)
            for spec in specs:
                assert spec.name
                assert spec.datatype in DATATYPES
                assert min(spec.shape, default=0) >= -1
        assert predictor.inputs

    def test_answers_fit_the_signature(self, predictor: Predictor) -> None:
        """Every promised output is there, of the promised datatype, with a row for each row."""
        answers = predictor.predict(self.rows(predictor, 3))
        assert answers
        for spec in predictor.outputs:
            assert answers[spec.name].dtype.name == DATATYPES[spec.datatype]
        assert {array.shape[0] for array in answers.values()} == {3}

    def test_a_row_does_not_depend_on_its_neighbours(self, predictor: Predictor) -> None:
        """Together or alone, a row has the same answer (numbers: but for the last digits)."""
        rows = self.rows(predictor, 5)
        together = predictor.predict(rows)
        for at in range(5):
            alone = predictor.predict({name: array[at : at + 1] for name, array in rows.items()})
            for name, array in alone.items():
                if array.dtype.kind == "f":
                    np.testing.assert_allclose(array[0], together[name][at], rtol=1e-4, atol=1e-6)
                else:
                    np.testing.assert_array_equal(array[0], together[name][at])

    def test_the_same_request_has_the_same_answer(self, tmp_path: Path, predictor: Predictor) -> None:
        """Bit for bit: asked again, and of the same model loaded again."""
        rows = self.rows(predictor, 4)
        again = self.open(tmp_path).load(self.model(tmp_path))
        first = predictor.predict(rows)
        for other in (predictor.predict(rows), again.predict(rows)):
            assert other.keys() == first.keys()
            for name, array in first.items():
                assert array.dtype == other[name].dtype
                assert array.tolist() == other[name].tolist()

    def test_inputs_are_left_as_they_were(self, predictor: Predictor) -> None:
        """The caller's arrays are not written to."""
        rows = self.rows(predictor, 2)
        before = {name: array.copy() for name, array in rows.items()}
        predictor.predict(rows)
        for name, array in rows.items():
            np.testing.assert_array_equal(array, before[name])

    def test_a_missing_input_is_refused(self, predictor: Predictor) -> None:
        """It is named."""
        rows = self.rows(predictor, 1)
        first = min(rows)
        del rows[first]
        with pytest.raises(BadInput, match="missing"):
            predictor.predict(rows)

    def test_an_unknown_input_is_refused(self, predictor: Predictor) -> None:
        """It is named."""
        rows = self.rows(predictor, 1)
        with pytest.raises(BadInput, match="surely not"):
            predictor.predict({**rows, "surely not": next(iter(rows.values()))})

    def test_a_wrong_type_is_refused(self, predictor: Predictor) -> None:
        """No silent conversion: it would hide what the client meant."""
        rows = self.rows(predictor, 1)
        name = min(rows)
        wrong = "int8" if rows[name].dtype.name != "int8" else "float64"
        rows[name] = np.zeros(rows[name].shape, wrong)
        with pytest.raises(BadInput):
            predictor.predict(rows)

    def test_a_wrong_shape_is_refused(self, predictor: Predictor) -> None:
        """An axis too many."""
        rows = self.rows(predictor, 2)
        name = min(rows)
        rows[name] = np.stack([rows[name], rows[name], rows[name]], axis=-1)
        with pytest.raises(BadInput):
            predictor.predict(rows)

    def test_a_model_that_raises_lives_on(self, tmp_path: Path) -> None:
        """Its error is Failed, and the next request is answered like one before."""
        folder, inputs = self.raising(tmp_path)
        predictor = self.open(tmp_path).load(folder)
        for _ in range(2):
            with pytest.raises(Failed):
                predictor.predict(inputs)

    def test_what_is_no_model_is_not_accepted(self, tmp_path: Path) -> None:
        """An empty folder, none, YAML that is no model, and what is no YAML: not accepted and not loaded."""
        runtime = self.open(tmp_path)
        for number, text in enumerate(["", "flavors: 3", "- 1", "{", "!!python/object:os.system {}", "\0"]):
            folder = tmp_path / f"not-{number}"
            folder.mkdir()
            if number:
                (folder / "MLmodel").write_text(text)
            assert not runtime.accepts(folder)
            with pytest.raises(BadInput):
                runtime.load(folder)
        assert not runtime.accepts(tmp_path / "absent")

    @pytest.mark.parametrize("damage", ["cut", "emptied", "removed"])
    def test_damaged_files_are_not_loaded(self, tmp_path: Path, damage: str) -> None:
        """Whatever is wrong with a model's largest file, it is an error of ours and no crash."""
        folder = tmp_path / "damaged"
        for path in (whole := self.model(tmp_path)).rglob("*"):
            if path.is_file():
                (folder / path.relative_to(whole)).parent.mkdir(parents=True, exist_ok=True)
                (folder / path.relative_to(whole)).write_bytes(path.read_bytes())
        files = [p for p in folder.rglob("*") if p.is_file() and p.name != "MLmodel"]
        largest = max(files, key=lambda p: p.stat().st_size)
        if damage == "removed":
            largest.unlink()
        else:
            largest.write_bytes(largest.read_bytes()[:50] if damage == "cut" else b"")
        with pytest.raises(TallyError):
            self.open(tmp_path).load(folder)
