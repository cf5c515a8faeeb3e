"""The errand ``judge``, on real models: what it tells is evidence, and bad rows are named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from tallystick.core.errors import BadInput, MissingTile, NotSupported, TallyError
from tallystick.core.facts import from_json
from tallystick.core.names import digest_of
from tallystick.core.verdict import Evidence
from tallystick.crew.judge import main
from tallystick.crew.measure.pictures import choose
from tests.crew.at_desk import FakeDesk, done, send
from tests.fakes.models import build
from tests.fakes.serving import finish, start

BUDGET = {"eps": [0.05, 0.1, 0.2], "samples_max": 25, "queries_max": 900, "seed": 7, "low": 0, "high": 1}
NAMES = [f"p{i:02d}" for i in range(64)]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return build(tmp_path_factory)


def digits(rows: int = 150) -> dict[str, np.ndarray]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return {**{n: x[-rows:, i] / 16 for i, n in enumerate(NAMES)}, "label": y[-rows:]}


def flowers() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_iris

    frame = load_iris(as_frame=True).frame
    return {name: frame[name].to_numpy() for name in frame.columns}


def order(home: Path, model: Path, columns: dict, **other) -> dict:
    (home / "pictures").mkdir(exist_ok=True)
    parquet.write_table(pa.table(columns), home / "rows.parquet")
    plain = {
        "folder": str(model),
        "rows": str(home / "rows.parquet"),
        "label": "label",
        "budget": BUDGET,
        "attack": "art",
        "pictures": str(home / "pictures"),
    }
    return {**plain, **other}


def evidence(found: dict) -> Evidence:
    """As hub/judge.py makes it."""
    for picture in found["pictures"]:
        picture |= {kind: digest_of(picture[kind]) for kind in ("original", "noise", "adversarial")}
    about = {"model_digest": digest_of(b"m"), "dataset": "d@1", "dataset_digest": digest_of(b"d")}
    return from_json(Evidence, {**found, **about, "budget": BUDGET}, "evidence")


def test_two_processes_tell_the_same_evidence(tmp_path: Path, models: Path) -> None:
    wanted = order(tmp_path, models / "forest", digits())
    found = [send("judge", wanted, PYTHONHASHSEED=seed) for seed in ("1", "2")]
    for result in found:
        assert result.pop("seconds") > 0
        assert all(record.pop("seconds") > 0 for record in result["attacks"])
    assert found[0] == found[1]
    told = evidence(found[0])
    assert (told.clean.total, told.curve[0].robust.total) == (150, 25)
    robust = [p.robust.right for p in told.curve]
    assert robust == sorted(robust, reverse=True)
    assert robust[-1] < robust[0]
    assert told.curve[0].noise.value > 0.9
    assert [a.name for a in told.attacks] == ["HopSkipJump", "Square"]
    assert told.attacks[0].settings["model_gives"] == "class scores"
    assert {"python", "numpy", "onnxruntime", "machine", "runtime", "tallystick"} <= told.versions.keys()
    assert told.versions["adversarial-robustness-toolbox"].startswith("1.")


def test_pictures_are_what_their_words_say(tmp_path: Path, models: Path) -> None:
    import onnxruntime

    found = done(main, order(tmp_path, models / "forest", digits()))
    assert 4 <= len(found["pictures"]) <= 8
    assert len({p["truth"] for p in found["pictures"]}) > 2
    session = onnxruntime.InferenceSession(str(models / "forest" / "model.onnx"))
    for picture in found["pictures"]:
        for kind in ("original", "noise", "adversarial"):
            with Image.open(tmp_path / "pictures" / picture[kind]) as image:
                assert (image.format, image.mode, image.size) == ("PNG", "L", (8, 8))
                pixels = np.asarray(image, np.float32).reshape(1, 64) / 255
            if kind == "original":
                original = pixels
                label = session.run(["label"], {session.get_inputs()[0].name: np.round(pixels * 16) / 16})[0]
                assert str(label[0]) == picture["label_original"] == picture["truth"]
            if kind == "adversarial":
                assert np.abs(pixels - original).max() <= picture["eps"] + 1.01 / 255
        assert picture["label_adversarial"] != picture["truth"]
    assert {p.name for p in (tmp_path / "pictures").iterdir()} == {
        p[kind] for p in found["pictures"] for kind in ("original", "noise", "adversarial")
    }


def test_which_samples_are_shown() -> None:
    y = np.array([1, 1, 1, 2, 2, 3, 3, 3, 3, 4, 4, 5])
    distance = np.array([0.1, 0.19, 0.2, 0.05, 0.0, 0.2, 0.1, np.inf, 0.3, 0.25, 0.9, 0.21])
    shown = choose(y, distance, 0.2)
    assert shown == [2, 5, 3, 1, 6, 0, 11, 9]
    assert choose(y, np.zeros(12), 0.2) == []
    assert choose(y, np.full(12, np.inf), 0.2) == []


@pytest.mark.parametrize("model", ["columns", "matrix"])
def test_labels_alone_and_inputs_by_column(tmp_path: Path, models: Path, model: str) -> None:
    columns = flowers()
    columns["label"] = columns.pop("target")
    if model == "columns":  # in another order, with one that the model does not know
        columns = {"other": np.zeros(150), **dict(reversed(columns.items()))}
    budget = {**BUDGET, "eps": [0.2, 0.6], "high": 8, "samples_max": 15, "queries_max": 300}
    process, said = start(models / model, tmp_path / "m", "iris")
    assert "ready" in said
    asked = {"budget": budget, "socket": str(tmp_path / "m"), "name": "iris"}
    try:
        found = done(main, order(tmp_path, models / model, columns, **asked))
    finally:
        finish(process)
    told = evidence(found)
    assert told.clean.value > 0.9
    assert told.curve[1].robust.right < told.curve[1].robust.total
    assert {a.settings["model_gives"] for a in told.attacks} == {"labels only, as scores 1 and 0"}
    assert told.pictures == ()
    assert "scikit-learn" in told.versions


def test_progress_rises(tmp_path: Path, models: Path) -> None:
    desk = FakeDesk(order(tmp_path, models / "forest", digits(), budget={**BUDGET, "samples_max": 5}))
    main(desk)
    shares = [share for share, _ in desk.said]
    assert shares == sorted(shares)
    assert all(text for _, text in desk.said)


def with_one(column: str, value: object) -> dict:
    columns = {name: values.copy() for name, values in digits().items()}
    columns[column] = columns[column].astype(float)
    columns[column][3] = value
    return columns


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (lambda: with_one("p05", np.nan), "'p05' has no finite number"),
        (lambda: with_one("p05", np.inf), "'p05' has no finite number"),
        (lambda: with_one("p05", 16), "'p05' has 16, outside 0 to 1"),
        (lambda: with_one("p05", -0.5), "outside 0 to 1"),
        (lambda: with_one("label", 10), "label 10 is not one of the model's 10 classes"),
        (lambda: with_one("label", -1), "which is not the number of a class"),
        (lambda: with_one("label", 1.5), "has 1.5, which is not the number of a class"),
        (lambda: with_one("label", np.nan), "which is not the number of a class"),
        (lambda: {**digits(), "p05": np.array(["x"] * 150)}, "'p05' is string, not numbers"),
        (lambda: {**digits(), "label": np.array(["x"] * 150)}, "'label' is string, not whole numbers"),
        (lambda: {n: v for n, v in digits().items() if n != "label"}, "there is no column 'label'"),
        (lambda: {n: v for n, v in digits().items() if n != "p05"}, "takes 64 features, the rows have 63"),
        (lambda: {n: v[:0] for n, v in digits().items()}, "it has no rows"),
        (lambda: {"label": np.zeros(3, int)}, "no column beside the labels"),
    ],
)
def test_rows_that_do_not_fit_are_named(tmp_path: Path, models: Path, columns, words: str) -> None:
    with pytest.raises(BadInput) as wrong:
        done(main, order(tmp_path, models / "forest", columns()))
    assert words in wrong.value.what
    assert wrong.value.where


def test_what_cannot_be_judged_says_why(tmp_path: Path, models: Path) -> None:
    two = {"at": np.array([0.0, 1.0]), "label": np.array([0, 1])}
    for model, kind, words in [
        ("picky", NotSupported, "is INT64"),
        ("unsigned", BadInput, "never run where it is measured"),
        ("columns", BadInput, "never run where it is measured"),
    ]:
        with pytest.raises(kind, match=words):
            done(main, order(tmp_path, models / model, two))
    process, _ = start(models / "mixed", tmp_path / "m", "m")
    try:
        with pytest.raises(BadInput, match="no such column"):
            done(main, order(tmp_path, models / "mixed", two, socket=str(tmp_path / "m"), name="m"))
    finally:
        finish(process)
    with pytest.raises(MissingTile):
        done(main, order(tmp_path, models / "forest", two, attack="no such"))
    with pytest.raises(BadInput, match="the order lacks 'rows'"):
        main(FakeDesk({"folder": "/x"}))
    no_rows = str(models / "forest" / "MLmodel")
    with pytest.raises(BadInput, match="cannot be read as Parquet"):
        done(main, order(tmp_path, models / "forest", two, rows=no_rows))


def test_an_error_in_its_own_process_is_told(tmp_path: Path, models: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(models / "forest", damaged)
    (damaged / "model.onnx").write_bytes(b"no model")
    with pytest.raises(TallyError, match="cannot load it"):
        send("judge", order(tmp_path, damaged, digits(10)))
