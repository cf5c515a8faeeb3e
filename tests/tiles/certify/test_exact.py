"""Exact certificates: brute force says the same, attacks never beat them, strangers get none."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tallystick.core.errors import BadInput, NotSupported
from tallystick.evidence.domain import Budget, Column, Domain, DomainKind
from tallystick.ports.models.attack import Case
from tallystick.tiles.attack.black import run_black
from tallystick.tiles.certify import tile as certify
from tallystick.tiles.certify.box import Box
from tallystick.tiles.certify.graph import read_twin
from tallystick.tiles.certify.tile import CertifyTile
from tallystick.tiles.certify.trees import Limit, read_forest
from tests.tiles.attack.toys import Onnx, case_of, to_onnx


def quiet(share: float, text: str) -> None:
    assert 0 <= share <= 1


def blobs(classes: int, features: int, rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(classes * 100 + features)
    x = draw.uniform(0, 1, (rows, features)).astype(np.float32)
    middles = draw.uniform(0, 1, (3 * classes, features))
    y = np.linalg.norm(x[:, None] - middles, axis=2).argmin(axis=1) % classes
    return x, y.astype(np.int64)


def models(name: str, classes: int) -> Any:
    from sklearn import ensemble, linear_model, pipeline, preprocessing, tree

    scaled = pipeline.make_pipeline
    return {
        "tree": lambda: tree.DecisionTreeClassifier(random_state=0),
        "forest": lambda: ensemble.RandomForestClassifier(8, max_depth=5, random_state=0),
        "extra": lambda: ensemble.ExtraTreesClassifier(6, max_depth=4, random_state=0),
        "boosted": lambda: ensemble.GradientBoostingClassifier(n_estimators=6, random_state=0),
        "scaled forest": lambda: scaled(
            preprocessing.StandardScaler(), ensemble.RandomForestClassifier(6, max_depth=4, random_state=0)
        ),
        "logistic": linear_model.LogisticRegression,
        "scaled logistic": lambda: scaled(
            preprocessing.MinMaxScaler((-1, 2)),
            preprocessing.StandardScaler(),
            linear_model.LogisticRegression(),
        ),
        "ridge": linear_model.RidgeClassifier,
        "descent": lambda: linear_model.SGDClassifier(random_state=0),
    }[name]()


TREES = ("tree", "forest", "extra", "boosted", "scaled forest")
LINEAR = ("logistic", "scaled logistic", "ridge", "descent")
BUDGET = Budget(eps=(0.02, 0.05, 0.12, 0.3), samples_max=60, queries_max=3000)


def case_for(name: str, classes: int, folder: Path, features: int = 2) -> tuple[Case, Any]:
    x, y = blobs(classes, features)
    model = models(name, classes).fit(x[:250], y[:250])
    victim = Onnx(to_onnx(model, features, folder))
    return case_of(victim, x[250:], y[250:], budget=BUDGET), model


def certified(case: Case) -> list[int]:
    """Rows certified at each eps."""
    probe = CertifyTile().run("exact_certificate", case, quiet).probe
    return [round(f.value * len(case.attacked)) for f in probe.figures]


def cells(case: Case, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """A row of every cell that the trees cut a box into: ends, and values on either side of each cut."""
    twin = case.victim.twin
    assert twin is not None
    read = read_twin(twin, case.x.shape[1])
    assert read.trees is not None
    assert read.columns is not None
    axes = []
    cuts, at = np.array(read.trees["nodes_values"]), np.array(read.trees["nodes_featureids"])
    for feature in range(case.x.shape[1]):
        scale, offset = read.columns.scale[feature], read.columns.offset[feature]
        some = (np.unique(cuts[at == feature]) - offset) / scale
        near = np.concatenate([some - 1e-5, some + 1e-5, some, [low[feature], high[feature]]])
        axes.append(np.unique(np.clip(near, low[feature], high[feature]).astype(np.float32)))
    return np.array(list(itertools.product(*axes)), np.float32)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", TREES)
def test_of_trees_it_is_what_every_cell_says(name: str, classes: int, tmp_path: Path) -> None:
    """But for rows that rounding leaves open, which are told apart and count as not certified."""
    case, _ = case_for(name, classes, tmp_path)
    probe = CertifyTile().run("exact_certificate", case, quiet).probe
    box = Box(case.domain, 2)
    for step, eps in enumerate(case.budget.eps):
        low, high = box.around(case.x[case.attacked], eps)
        truth = 0
        for at in np.flatnonzero(case.distance > 0):
            rows = cells(case, low[at], high[at])
            truth += bool((case.victim.scores(rows).argmax(axis=1) == case.y[case.attacked[at]]).all())
        sure, maybe = probe.curves[0].y[step].right, probe.curves[1].y[step].right
        assert sure <= truth <= maybe
        assert maybe - sure <= 8  # trees of few rows tie often
    if name == "tree":
        assert not probe.notes


@pytest.mark.parametrize(
    ("name", "classes"), [(n, c) for n in LINEAR for c in (2, 3) if (n, c) != ("ridge", 2)]
)
def test_of_linear_models_it_is_the_margin_at_the_worst_corner(
    name: str, classes: int, tmp_path: Path
) -> None:
    case, model = case_for(name, classes, tmp_path, features=5)
    corners = np.array(list(itertools.product((-1, 1), repeat=5)), np.float64)
    found = certified(case)
    x, y = case.x[case.attacked].astype(np.float64), case.y[case.attacked]
    for eps, count in zip(case.budget.eps, found, strict=True):
        rows = np.clip(x[:, None] + (eps + 2e-6) * corners, 0, 1).reshape(-1, 5)
        said = model.predict(rows).reshape(len(x), -1)
        assert count == pytest.approx(int((said == y[:, None]).all(axis=1).sum()), abs=1.01)


@pytest.mark.parametrize("name", ["forest", "boosted", "logistic"])
def test_no_attack_beats_a_certificate(name: str, tmp_path: Path) -> None:
    case, _ = case_for(name, 3, tmp_path, features=4)
    found = certified(case)
    for attack in ("hop_skip_jump", "square", "boundary", "zoo"):
        far = run_black(attack, case, lambda share, text: None).distance
        assert far is not None
        for eps, count in zip(case.budget.eps, found, strict=True):
            assert (far > eps + 1e-6).sum() >= count
        case.distance = np.minimum(case.distance, far)


def logistic_of(coef: float, folder: Path) -> Case:
    """One class above 0.5 of the first feature, and a row so little above that its chances are a tie at the
    end of the box: then the other class is said.
    """
    from sklearn.linear_model import LogisticRegression

    x, _ = blobs(2, 2)
    x[0, 0] = 0.5 + BUDGET.eps[0] + 5e-5
    model = LogisticRegression().fit(x, x[:, 0] > 0.5)
    model.coef_, model.intercept_ = np.array([[coef, 0.0]]), np.array([-coef / 2])
    case = case_of(Onnx(to_onnx(model, 2, folder)), x, (x[:, 0] > 0.5).astype(np.int64), budget=BUDGET)
    case.attacked, case.distance = np.arange(1), np.full(1, np.inf)
    return case


def test_where_chances_are_a_tie_in_float32_nothing_is_certified(tmp_path: Path) -> None:
    case = logistic_of(1e-3, tmp_path)
    turned = case.x[:1] - np.array([[BUDGET.eps[0], 0]], np.float32)
    assert case.victim.scores(case.x[:1]).argmax() == 1
    assert case.victim.scores(turned).argmax() == 0
    assert certified(case) == [0, 0, 0, 0]


def test_a_structure_whose_answers_all_lie_within_rounding_was_compared_with_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match="rounding decides how most rows are answered"):
        certified(logistic_of(1e-5, tmp_path))


def test_what_an_attack_found_is_not_searched_again(tmp_path: Path) -> None:
    case, _ = case_for("forest", 3, tmp_path)
    before = CertifyTile().run("exact_certificate", case, quiet).probe
    attacked = run_black("hop_skip_jump", case, lambda share, text: None)
    case.distance, case.adversarial = attacked.distance, attacked.adversarial
    after = CertifyTile().run("exact_certificate", case, quiet).probe
    assert after.figures == before.figures
    assert after.settings["nodes"] < before.settings["nodes"]


def test_at_the_limit_rows_are_not_certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case, _ = case_for("forest", 3, tmp_path, features=6)
    exact = CertifyTile().run("exact_certificate", case, quiet).probe
    monkeypatch.setattr(certify, "NODES_MAX", 40)
    short = CertifyTile().run("exact_certificate", case, quiet).probe
    assert any("were not decided, and count as not certified" in note for note in short.notes)
    for less, full in zip(short.curves, exact.curves, strict=True):
        sure = less.name == "certified"
        for a, b in zip(less.y, full.y, strict=True):
            assert (a.right <= b.right) if sure else (a.right >= b.right)
    assert sum(r.right for r in short.curves[0].y) < sum(r.right for r in exact.curves[0].y)


def test_tables_are_certified_for_what_their_columns_allow(tmp_path: Path) -> None:
    """A column that may not change certifies more, never less."""
    x, y = blobs(2, 3)
    model = models("tree", 2).fit(x[:250], y[:250])
    victim = Onnx(to_onnx(model, 3, tmp_path))
    found = []
    for fixed in (False, True):
        columns = tuple(Column(f"f{i}", immutable=fixed and i < 2) for i in range(3))
        domain = Domain(kind=DomainKind.TABULAR, columns=columns)
        found.append(certified(case_of(victim, x[250:], y[250:], domain, BUDGET)))
    assert all(b >= a for a, b in zip(*found, strict=True))
    assert found[1] != found[0]


@pytest.mark.parametrize("kind", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("classes", [2, 3])
def test_trees_of_other_libraries_are_read_as_they_answer(kind: str, classes: int, tmp_path: Path) -> None:
    library = pytest.importorskip(kind)
    tools = pytest.importorskip("onnxmltools")
    from onnxmltools.convert.common.data_types import FloatTensorType

    x, y = blobs(classes, 4)
    made = library.XGBClassifier if kind == "xgboost" else library.LGBMClassifier
    model = made(n_estimators=8, **({} if kind == "xgboost" else {"verbose": -1})).fit(x[:250], y[:250])
    convert = getattr(tools, f"convert_{kind}")
    extra = {} if kind == "xgboost" else {"zipmap": False}
    twin = convert(model, initial_types=[("x", FloatTensorType([None, 4]))], target_opset=15, **extra)
    path = tmp_path / "twin.onnx"
    path.write_bytes(twin.SerializeToString())
    victim = Onnx(path)
    read = read_twin(path, 4)
    assert read.trees is not None
    assert read.columns is not None
    forest = read_forest(read.trees, read.columns)
    np.testing.assert_array_equal(forest.scores(x).argmax(axis=1), victim.scores(x).argmax(axis=1))
    case = case_of(victim, x[250:], y[250:], budget=BUDGET)
    found = certified(case)
    assert found[0] > 0
    far = run_black("square", case, lambda share, text: None).distance
    assert far is not None
    assert all((far > eps + 1e-6).sum() >= count for eps, count in zip(case.budget.eps, found, strict=True))


def test_a_twin_that_answers_otherwise_proves_nothing(tmp_path: Path) -> None:
    case, _ = case_for("tree", 2, tmp_path)
    x, y = blobs(2, 2)
    other = models("tree", 2).fit(x[:250], 1 - y[:250])
    case.victim.twin = to_onnx(other, 2, tmp_path, "other.onnx")
    with pytest.raises(NotSupported, match="unlike the model, so that nothing can be proved"):
        CertifyTile().run("exact_certificate", case, quiet)


def test_a_structure_that_is_not_understood_is_not_supported(tmp_path: Path) -> None:
    from sklearn.neural_network import MLPClassifier

    x, y = blobs(2, 2)
    case, _ = case_for("tree", 2, tmp_path)
    case.victim.twin = to_onnx(
        MLPClassifier((4,), max_iter=20).partial_fit(x, y, classes=[0, 1]), 2, tmp_path, "net.onnx"
    )
    with pytest.raises(NotSupported, match="only for linear models and trees"):
        CertifyTile().run("exact_certificate", case, quiet)


def read_all(path: Path) -> None:
    read = read_twin(path, 2)
    assert read.trees is not None
    assert read.columns is not None
    read_forest(read.trees, read.columns)


@pytest.mark.parametrize(
    "hostile", ["circle", "no nodes", "shared", "column", "no root", "bytes", "test", "labels"]
)
def test_hostile_files_are_refused_in_time(hostile: str, tmp_path: Path) -> None:
    """Trees whose nodes run in circles, share nodes, lack some, or look at columns that are not there."""
    import onnx
    from onnx import TensorProto, helper

    trees = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_values": [0.5, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "class_treeids": [0, 0],
        "class_nodeids": [1, 2],
        "class_ids": [0, 1],
        "class_weights": [1.0, 1.0],
        "classlabels_int64s": [0, 1],
        "post_transform": "NONE",
    }
    wrong: dict[str, dict[str, Any]] = {
        "circle": {"nodes_modes": ["BRANCH_LEQ", "BRANCH_LEQ", "LEAF"], "nodes_truenodeids": [1, 1, 0]},
        "no nodes": {"nodes_truenodeids": [7, 0, 0]},
        "shared": {"nodes_truenodeids": [2, 0, 0]},
        "column": {"nodes_featureids": [9, 0, 0]},
        "no root": {"nodes_modes": ["BRANCH_LEQ", "BRANCH_LEQ", "LEAF"], "nodes_truenodeids": [1, 0, 0]},
        "test": {"nodes_modes": ["BRANCH_EQ", "LEAF", "LEAF"]},
        "labels": {"class_nodeids": [1, 5]},
    }
    path = tmp_path / "hostile.onnx"
    if hostile == "bytes":
        path.write_bytes(b"\x08\x0aPK not an ONNX file")
    else:
        node = helper.make_node(
            "TreeEnsembleClassifier", ["x"], ["l", "p"], domain="ai.onnx.ml", **{**trees, **wrong[hostile]}
        )
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            [node],
            "g",
            [value("x", TensorProto.FLOAT, [None, 2])],
            [value("l", TensorProto.INT64, [None]), value("p", TensorProto.FLOAT, [None, 2])],
        )
        path.write_bytes(helper.make_model(graph).SerializeToString())
        onnx.load(path)
    with pytest.raises((BadInput, NotSupported)):
        read_all(path)


def test_nodes_that_depend_on_one_another_in_a_circle_are_refused(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Add", ["a", "x"], ["b"]), helper.make_node("Add", ["b", "x"], ["a"])]
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [None, 2])], [value("a", TensorProto.FLOAT, [None, 2])]
    )
    path = tmp_path / "circle.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(BadInput, match="in a circle"):
        read_twin(path, 2)


def test_a_single_tree_is_decided_whatever_the_limit(tmp_path: Path) -> None:
    case, _ = case_for("tree", 3, tmp_path, features=6)
    twin = case.victim.twin
    assert twin is not None
    read = read_twin(twin, 6)
    assert read.trees is not None
    assert read.columns is not None
    forest = read_forest(read.trees, read.columns)
    for row in case.x[:20]:
        said = int(case.victim.scores(row[None]).argmax())
        found = forest.holds(np.zeros(6), np.ones(6), said, Limit(0, 10**6))
        assert found.decided


def test_an_unknown_probe_and_no_twin_are_answers(tmp_path: Path) -> None:
    case, _ = case_for("tree", 2, tmp_path)
    with pytest.raises(BadInput, match="there is no probe 'x'"):
        CertifyTile().run("x", case, quiet)
    case.victim.twin = None
    with pytest.raises(NotSupported, match="no ONNX twin"):
        CertifyTile().run("exact_certificate", case, quiet)
