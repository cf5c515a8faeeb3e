"""The errand ``judge``, on real models: what it tells is evidence, and bad rows are named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tallystick.core.errors import BadInput, NotSupported, TallyError
from tallystick.core.facts import from_json, to_json
from tallystick.crew.judge import main
from tallystick.evidence.domain import Column, Domain, DomainKind
from tallystick.evidence.probe import ProbeState, Threat
from tallystick.evidence.threats import ThreatList
from tests.crew.at_desk import FakeDesk, send
from tests.crew.judging.orders import BUDGET, digits, order, points, told, trouble
from tests.fakes.attack import as_installed
from tests.fakes.models import REPOSITORY, build
from tests.fakes.serving import finish, start

DONE, FAILED, NOT = ProbeState.DONE, ProbeState.FAILED, ProbeState.NOT_APPLICABLE


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return build(tmp_path_factory)


@pytest.fixture
def usual(monkeypatch) -> list[dict]:
    """The usual probes of a tile that finds little on digits, and quickly."""
    return trouble(monkeypatch, "late")


def flowers() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_iris

    frame = load_iris(as_frame=True).frame
    columns = {name: frame[name].to_numpy() for name in frame.columns}
    columns["label"] = columns.pop("target")
    return columns


def served(models: Path, name: str, home: Path, wanted: dict):
    process, said = start(models / name, home / "m", name)
    assert "ready" in said
    try:
        return told({**wanted, "socket": str(home / "m"), "name": name})
    finally:
        finish(process)


# ---------------------------------------------------------------------- the installed probes


def installed_env(folder: Path, **more: str) -> dict[str, str]:
    return {"PYTHONPATH": f"{folder}:{REPOSITORY}", **more}


def test_what_somebody_installed_is_listed_beside_what_is_built_in(tmp_path: Path) -> None:
    """A tile that does not open is named with the reason, and hides no other."""
    tiles = "trouble = tests.fakes.attack:open_tile\nbroken = tests.fakes.attack:no_such\n"
    folder = as_installed(tmp_path / "site", tiles + "needy = no_such_package:open_tile [x]")
    said = send("judge", {"list": True, "out": str(tmp_path)}, **installed_env(folder))
    found = from_json(ThreatList, said)
    by_name = {p.name: p for p in found.probes}
    assert (by_name["grid"].tile, by_name["grid"].libraries) == ("trouble", {"fake": "1"})
    assert by_name["white"].gradients
    assert by_name["trained"].train
    assert by_name["worst group"].tile == "clean"
    assert found.absent["broken"].startswith("AttributeError")
    assert "no_such_package" in found.absent["needy"]
    assert "pip install 'somebodys[x]'" in found.absent["needy"]
    assert {"tallystick", "numpy"} <= found.engine.keys()
    with pytest.raises(BadInput, match="no installed tile offers a probe 'none'") as wrong:
        found.chosen(["none"])
    assert "tile broken did not open" in wrong.value.hint or "known: " in wrong.value.hint
    order_of = [p.threat for p in found.chosen()]
    assert order_of == sorted(order_of, key=list(Threat).index)
    evasion = [p.gradients for p in found.chosen(["white"]) if p.threat is Threat.EVASION]
    assert evasion == sorted(evasion, reverse=True)


def test_a_newer_version_of_a_probe_is_another_list() -> None:
    from dataclasses import replace

    from tallystick.crew.judging.offers import list_threats
    from tests.fakes.attack import Trouble

    found = list_threats({"trouble": Trouble()}, {})
    newer = replace(found, probes=(replace(found.probes[0], version=2), *found.probes[1:]))
    assert found.digest() != newer.digest()
    assert found.digest() != found.digest(["late"])
    assert found.digest() == replace(found, probes=found.probes[::-1]).digest()


def test_what_reads_training_rows_only_where_they_are_known_hangs_on_them_too() -> None:
    """A trigger needs none, and is a backdoor or a mere weakness by whether such rows carry it."""
    from tallystick.crew.judging.offers import list_threats
    from tallystick.ports.tile import Place
    from tallystick.tiles.poison.tile import open_tile

    found = {p.name: p for p in list_threats({"poison": open_tile(Place(Path()))}, {}).probes}
    assert found["trigger"].train


# ---------------------------------------------------------------------- what is told


def test_two_processes_tell_the_same(tmp_path: Path, models: Path) -> None:
    """Bit for bit but for times, and each probe as soon as it has ended."""
    folder = as_installed(tmp_path / "site")
    listed = from_json(
        ThreatList, send("judge", {"list": True, "out": str(tmp_path)}, **installed_env(folder))
    )
    probes = [p for p in to_json(listed.chosen(["late"])) if p["tile"] == "trouble"]
    wanted = order(tmp_path, models / "pair", points(), probes, name="pair", socket=str(tmp_path / "m"))
    process, said = start(models / "pair", tmp_path / "m", "pair")
    assert "ready" in said
    found = []
    try:
        for seed in ("1", "2"):
            out = tmp_path / f"out{seed}"
            out.mkdir()
            result = send("judge", {**wanted, "out": str(out)}, **installed_env(folder, PYTHONHASHSEED=seed))
            assert result["seconds"] > 0
            files = {path.name: path.read_bytes() for path in out.iterdir()}
            for name in [n for n in files if n.endswith(".json")]:
                files[name] = _without_seconds(files[name])
            found.append(files)
    finally:
        finish(process)
    assert found[0] == found[1]
    assert {"000.json", "001.json", "001.npz", "002.json"} <= found[0].keys()


def _without_seconds(content: bytes) -> dict:
    import json

    part = json.loads(content)
    assert part["probe"].pop("seconds") >= 0
    return part


def test_all_of_it_is_one_curve(tmp_path: Path, models: Path, monkeypatch) -> None:
    probes = trouble(monkeypatch, "lies", "far", "late")
    found = served(models, "pair", tmp_path, order(tmp_path, models / "pair", points(), probes))
    assert (found.base.clean.right, found.base.clean.total) == (54, 60)
    robust = [part["robust"] for part in found.parts if part.get("robust")]
    assert len(robust) == 4
    assert all(line == sorted(line, reverse=True) for line in robust)
    assert robust[0] == robust[-1]  # the grid again finds nothing new, and lies count for nothing
    assert robust[0][-1] < found.base.right.right
    assert found["grid"].queries > 0
    assert found["grid"].asked
    assert not found["lies"].asked
    assert "did not turn the model itself" in found["lies"].notes[0]
    assert "not allowed by the domain" in found["far"].notes[0]
    assert {"python", "machine", "runtime", "tallystick", "mlflow"} <= found.base.versions.keys()


def test_what_goes_wrong_in_one_probe_is_its_own_affair(tmp_path: Path, models: Path, monkeypatch) -> None:
    probes = trouble(monkeypatch, "raises", "breaks", "silent", "white", "trained", "late", "figures")
    found = served(models, "pair", tmp_path, order(tmp_path, models / "pair", points(), probes))
    assert {p.name: p.state for p in found.probes} == {
        "clean": DONE, "white": NOT, "grid": DONE, "raises": FAILED, "breaks": FAILED, "silent": NOT,
        "late": DONE, "figures": DONE, "trained": NOT,
    }  # fmt: skip
    assert found["raises"].why == "ZeroDivisionError: division by zero"
    assert found["breaks"].why == "it broke off"
    assert "it needs gradients" in found["white"].why
    assert "its lineage does not tell them" in found["trained"].why
    assert found.begun == [p["name"] for p in probes]


def test_rows_of_training_reach_the_probe_that_needs_them(tmp_path: Path, models: Path, monkeypatch) -> None:
    from tests.crew.judging.orders import write

    probes = trouble(monkeypatch, "trained")
    train = str(write(tmp_path / "train.parquet", points(40)))
    wanted = order(tmp_path, models / "pair", points(), probes, train=train)
    assert served(models, "pair", tmp_path, wanted)["trained"].figures[0].samples == 40


def test_progress_rises_and_says_how_long_it_takes(tmp_path: Path, models: Path, usual: list[dict]) -> None:
    found = served(models, "pair", tmp_path, order(tmp_path, models / "pair", points(), usual))
    shares = [share for share, _ in found.said]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert all(text for _, text in found.said)


# ---------------------------------------------------------------------- resume


def test_what_is_known_is_not_done_again_and_the_rest_starts_from_it(
    tmp_path: Path, models: Path, monkeypatch
) -> None:
    probes = trouble(monkeypatch, "late")
    wanted = order(tmp_path, models / "pair", points(), probes)
    whole = served(models, "pair", tmp_path, wanted)
    known = {whole.base and whole["clean"].key: None, whole["grid"].key: str(tmp_path / "out" / "001.npz")}
    (tmp_path / "again").mkdir()
    rest = served(models, "pair", tmp_path, {**wanted, "out": str(tmp_path / "again"), "known": known})
    assert [p.name for p in rest.probes] == ["late"]
    assert rest.begun == ["late"]
    assert rest["late"].key == whole["late"].key
    assert rest.parts[0]["robust"] == whole.parts[-1]["robust"]
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(b"no arrays")
    (tmp_path / "third").mkdir()
    bad = {**known, whole["grid"].key: str(damaged)}
    wrong = {**wanted, "out": str(tmp_path / "third"), "known": bad}
    with pytest.raises(TallyError, match="cannot be read"):
        served(models, "pair", tmp_path, wrong)


def test_a_probe_that_was_given_up_says_why(tmp_path: Path, models: Path, usual: list[dict]) -> None:
    given_up = {"grid": "the process ended while it was carried out"}
    found = served(
        models, "pair", tmp_path, order(tmp_path, models / "pair", points(), usual, given_up=given_up)
    )
    assert (found["grid"].state, found["grid"].why) == (FAILED, given_up["grid"])
    assert found["late"].done


# ---------------------------------------------------------------------- examples


def test_pictures_are_what_their_words_say(tmp_path: Path, models: Path, monkeypatch) -> None:
    """Of the noise attack on digits: before, changed, magnified and under noise."""
    import onnxruntime

    from tallystick.crew.judging import offers
    from tallystick.crew.judging.offers import list_threats
    from tests.crew.judging.loud import Loud

    monkeypatch.setattr(offers, "open_attacks", lambda home: ({"loud": Loud()}, {}))
    probes = to_json(list_threats({"loud": Loud()}, {}).chosen())
    found = told(order(tmp_path, models / "forest", digits(), probes, budget={**BUDGET, "eps": [0.4, 0.9]}))
    shown = found["loud"].examples
    assert 2 <= len(shown) <= 8
    session = onnxruntime.InferenceSession(str(models / "forest" / "model.onnx"))
    for example in shown:
        pixels = {}
        for kind in ("original", "noise", "magnified", "adversarial"):
            with Image.open(tmp_path / "out" / getattr(example, kind)) as image:
                assert (image.format, image.mode, image.size) == ("PNG", "L", (8, 8))
                pixels[kind] = np.asarray(image, np.float32).reshape(1, 64) / 255
        rows = np.round(pixels["original"] * 16) / 16
        label, chances = session.run(["label", "probabilities"], {session.get_inputs()[0].name: rows})
        assert str(label[0]) == example.label_before == example.truth != example.label_after
        assert example.confidence_before == pytest.approx(chances.max(), abs=1e-4)
        change = pixels["adversarial"] - pixels["original"]
        assert np.abs(change).max() <= example.eps + 1.01 / 255
        magnified = pixels["magnified"] - 0.5
        assert np.abs(magnified).max() == pytest.approx(0.5, abs=0.01)
        assert np.corrcoef(change.ravel(), magnified.ravel())[0, 1] > 0.99


def test_edits_of_tables_are_few_and_in_words(tmp_path: Path, models: Path, monkeypatch) -> None:
    """None that could be left out: with any one of them put back the model is right again."""
    probes, rows = trouble(monkeypatch), points()
    columns = (Column("a", 0, 1, unit="m"), Column("b", 0, 1))
    domain = to_json(Domain(DomainKind.TABULAR, columns=columns))
    wanted = order(tmp_path, models / "pair", rows, probes, domain=domain)
    found = served(models, "pair", tmp_path, wanted)
    shown = found["grid"].examples
    assert shown
    for example in shown:
        one = {c.feature: float(c.before) for c in example.changes}
        for change in example.changes:  # no edit is told that could be left out
            row = {"a": rows["a"][example.row], "b": rows["b"][example.row]}
            row |= {c.feature: float(c.after) for c in example.changes} | {
                change.feature: one[change.feature]
            }
            assert str(int(row["b"] > row["a"])) == example.truth
        for change in example.changes:
            assert change.feature in ("a", "b")
            assert float(change.after) - float(change.before) == pytest.approx(change.by, abs=1e-5)
            assert change.unit == ("m" if change.feature == "a" else "")
        assert example.original == ""


# ---------------------------------------------------------------------- models of all kinds


@pytest.mark.parametrize("model", ["columns", "matrix"])
def test_labels_alone_and_inputs_by_column(tmp_path: Path, models: Path, model: str, monkeypatch) -> None:
    columns = flowers()
    if model == "columns":  # in another order, with one that the model does not know
        columns = {"other": np.zeros(150), **dict(reversed(columns.items()))}
    budget = {**BUDGET, "eps": [0.6, 2.0], "queries_max": 5000, "samples_max": 8}
    domain = to_json(Domain(high=8.0))
    probes = trouble(monkeypatch, "white")
    wanted = order(tmp_path, models / model, columns, probes, budget=budget, domain=domain)
    found = served(models, model, tmp_path, wanted)
    assert found.base.clean.value > 0.9
    assert "the model gives labels only, no scores" in found["clean"].notes
    assert found["clean"].settings["gives"] == "labels"
    assert found["grid"].done
    assert all(example.confidence_before is None for example in found["grid"].examples)
    assert "scikit-learn" in found.base.versions


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
        (lambda: with_one("label", -1), "label -1 is not one of the model's 10 classes"),
        (lambda: with_one("label", 1.5), "has 1.5, which is not the number of a class"),
        (lambda: with_one("label", np.nan), "which is not the number of a class"),
        (lambda: {**digits(), "p05": np.array(["x"] * 120)}, "'p05' is string, not numbers"),
        (
            lambda: {**digits(), "label": np.array(["x"] * 120)},
            "label x is not one of the model's 10 classes",
        ),
        (lambda: {n: v for n, v in digits().items() if n != "label"}, "there is no column 'label'"),
        (lambda: {n: v for n, v in digits().items() if n != "p05"}, "takes 64 features, the rows have 63"),
        (lambda: {n: v[:0] for n, v in digits().items()}, "it has no rows"),
        (lambda: {"label": np.zeros(3, int)}, "no column beside the labels"),
    ],
)
def test_rows_that_do_not_fit_are_named(tmp_path: Path, models: Path, columns, words: str, usual) -> None:
    with pytest.raises(BadInput) as wrong:
        told(order(tmp_path, models / "forest", columns(), usual))
    assert words in wrong.value.what
    assert wrong.value.where


def test_labels_as_text_and_rows_as_lists(tmp_path: Path, models: Path, usual) -> None:
    """A class is what its name is, as number or as text; a column of lists holds all features of a row."""
    columns = digits()
    pixels = np.stack([columns[name] for name in columns if name != "label"], axis=1)
    rows = {"pixels": list(pixels.astype(np.float32)), "label": [str(v) for v in columns["label"]]}
    texts = told(order(tmp_path, models / "forest", rows, [], out="one"))
    numbers = told(order(tmp_path, models / "forest", columns, [], out="two"))
    assert texts.base == numbers.base
    assert texts.base.classes == tuple(str(n) for n in range(10))


def test_what_cannot_be_judged_says_why(tmp_path: Path, models: Path, usual) -> None:
    two = {"at": np.array([0.0, 1.0]), "label": np.array([0, 1])}
    for place, (model, kind, words) in enumerate([
        ("picky", NotSupported, "is INT64"),
        ("unsigned", BadInput, "never run where it is measured"),
        ("columns", BadInput, "never run where it is measured"),
    ]):  # fmt: skip
        with pytest.raises(kind, match=words):
            told(order(tmp_path, models / model, two, usual, out=f"out{place}"))
    with pytest.raises(BadInput, match="no such column"):
        served(models, "mixed", tmp_path, order(tmp_path, models / "mixed", two, usual))
    with pytest.raises(BadInput, match="the order lacks 'budget'"):
        main(FakeDesk({"folder": "/x", "out": str(tmp_path)}))
    no_rows = str(models / "forest" / "MLmodel")
    with pytest.raises(BadInput, match="cannot be read as Parquet"):
        told(order(tmp_path, models / "forest", two, usual, rows=no_rows, out="last"))


def test_an_error_in_its_own_process_is_told(tmp_path: Path, models: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(models / "forest", damaged)
    os.truncate(damaged / "model.onnx", 8)
    with pytest.raises(TallyError, match="cannot load it"):
        send("judge", order(tmp_path, damaged, digits(10), []))
