"""Training keeps to a domain as the gate's attacks do: the same rows are allowed, to the last bit."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.evidence.domain import Column, Domain, DomainKind
from tallystick.judging.harden import Wish, params_of
from tallystick.judging.ways import How
from tallystick.tiles.attack.project import Space
from tests.harden.steps import artifact, known, rules_of, step, table
from tests.harden.test_params import MODEL, policy

CODE = step("adversarial")
COLUMNS = st.builds(
    Column, name=st.just(""), low=st.integers(-3, 0), high=st.integers(1, 40), integer=st.booleans(),
    immutable=st.booleans(), direction=st.sampled_from(["any", "up", "down"]),
    scale=st.sampled_from([0.0, 0.5, 2.5]),
)  # fmt: skip
CATEGORIES = st.builds(
    Column, name=st.just(""), one_hot=st.sampled_from("AB"), immutable=st.booleans(),
    direction=st.sampled_from(["any", "any", "up", "down"]),
)  # fmt: skip
EPS = st.sampled_from([0.05, 0.3, 1.0, 2.0, np.inf])


@dataclass
class Tabled:
    """A domain, and what ``read_rows`` says of it."""

    domain: Domain
    rows: SimpleNamespace
    names: tuple[str, ...]


def tabled(columns: list[Column]) -> Tabled:
    names = tuple(f"c{i}" for i in range(len(columns)))
    named = tuple(
        Column(n, c.low, c.high, c.integer, c.immutable, c.one_hot, c.direction, c.cost, c.scale)
        for n, c in zip(names, columns, strict=True)
    )
    return Tabled(Domain(DomainKind.TABULAR, columns=named), SimpleNamespace(**rules_of(named)), names)


def some_rows(found: Tabled, seed: int) -> np.ndarray:
    """Rows (20, d) that keep the rules."""
    draw, rules = np.random.default_rng(seed), found.rows
    x = draw.uniform(rules.low, rules.high, (20, len(rules.low)))
    x = np.where(rules.whole, np.rint(x), x)
    for group in rules.groups:
        x[:, group] = np.eye(len(group))[draw.integers(0, len(group), 20)]
    return x.astype(np.float32)


@given(st.lists(st.one_of(COLUMNS, CATEGORIES), min_size=1, max_size=7), EPS, st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_the_same_rows_are_allowed_as_to_the_gates_attacks(columns, eps, seed):
    found = tabled(columns)
    origin, draw = some_rows(found, seed), np.random.default_rng(seed + 1)
    wanted = (origin + draw.normal(0, 3, origin.shape)).astype(np.float32)
    wanted[::4] = origin[::4]
    space = Space(found.domain, found.names, len(columns))
    made = CODE["allowed"](wanted, origin, found.rows, eps)
    np.testing.assert_array_equal(made, space.project(wanted, origin, eps))
    assert space.allows(made, origin).all()


@given(st.lists(st.one_of(COLUMNS, CATEGORIES), min_size=2, max_size=6), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_nothing_impossible_is_trained_on(columns, seed):
    """Of every domain: what the attack makes for training is allowed, and within eps."""
    found, eps = tabled(columns), 1.0
    x = some_rows(found, seed)
    y = np.arange(len(x)) % 2
    rows = known(x, y, **vars(found.rows))
    network = CODE["as_network"](rows, seed=1)
    made = CODE["as_attack"](network, rows, eps, 4, seed).generate(x, np.eye(2, dtype=np.float32)[y])
    space = Space(found.domain, found.names, len(columns))
    assert space.allows(made, x).all()
    assert (space.distance(made, x) <= eps + 1e-6).all()


def test_the_attack_finds_the_category_that_turns_the_answer():
    """Label 1 is category 2 of three: a network that learned so is turned by one change of category."""
    draw = np.random.default_rng(5)
    place = draw.integers(0, 3, 300)
    x = np.concatenate([np.eye(3)[place], draw.random((300, 1))], axis=1).astype(np.float32)
    y = (place == 2).astype(int)
    whole = np.array([True, True, True, False])
    rows = known(x, y, whole=whole, groups=[np.array([0, 1, 2])])
    network, right = CODE["as_network"](rows, seed=1), np.eye(2, dtype=np.float32)[y]
    network.fit(x, right, batch_size=32, nb_epochs=20)
    assert (network.predict(x).argmax(axis=1) == y).all()
    near = CODE["as_attack"](network, rows, 0.9, 5, 1).generate(x, right)
    assert (near[:, :3] == x[:, :3]).all(), "no category is within 0.9"
    far = CODE["as_attack"](network, rows, 1.0, 5, 1).generate(x, right)
    assert (network.predict(far).argmax(axis=1) == y).mean() < 0.05
    assert (far[:, :3].sum(axis=1) == 1).all()


def test_a_tables_rules_reach_training_from_the_policy(tmp_path):
    """From the policy's TOML, over the run's parameters, to the rules that a step reads."""
    columns = [
        {"name": "red", "one_hot": "colour"}, {"name": "blue", "one_hot": "colour"},
        {"name": "age", "low": 18, "high": 99, "integer": True, "direction": "up"},
        {"name": "born", "low": 0, "high": 3, "immutable": True},
    ]  # fmt: skip
    rules = policy(domain={"m": {"kind": "tabular", "columns": columns}})
    told = params_of(MODEL, ("test",), rules, Wish(How.ADVERSARIAL, "label"))[0]["about"]
    values = {"red": [1, 0], "blue": [0, 1], "age": [20, 30], "born": [1.5, 2.0], "label": [0, 1]}
    pd.DataFrame(values).to_parquet(tmp_path / "rows", index=False)
    rows = CODE["read_rows"](str(tmp_path / "rows"), "label", told["domain"], told["inputs"])
    space = Space(rules.domain("m"), ("red", "blue", "age", "born"), 4)
    wanted = np.array([[0.2, 0.9, 70.4, 3], [0.9, 0.1, 19, 0]], np.float32)
    for eps in (0.3, 1.0):
        made = CODE["allowed"](wanted, rows.x, rows, eps)
        np.testing.assert_array_equal(made, space.project(wanted, rows.x, eps))
    assert made.tolist() == [[0, 1, 70, 1.5], [1, 0, 30, 2.0]]


@pytest.mark.filterwarnings("ignore")
def test_a_category_that_attackers_can_change_is_not_relied_on(tmp_path, monkeypatch):
    """A category tells the label always, a number nearly always; at eps 1 the category can be changed, and
    the number, which is immutable, cannot: so the number decides.
    """
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    draw = np.random.default_rng(3)
    y = draw.integers(0, 2, 400)
    number = np.clip(0.5 + 0.3 * (2 * y - 1) + draw.normal(0, 0.15, 400), 0, 1)
    x = np.concatenate([np.eye(2)[y], number[:, None]], axis=1).astype(np.float32)
    table(x, y).to_parquet(tmp_path / "rows", index=False)
    plain = {"low": 0.0, "high": 1.0, "scale": 1.0, "whole": True, "fixed": False, "group": "c", "way": "any"}
    fixed = plain | {"whole": False, "fixed": True, "group": ""}
    domain = {
        "low": 0.0, "high": 1.0, "tabular": True, "apart": [], "shape": [], "channels_first": False,
        "columns": {"f0": plain, "f1": plain, "f2": fixed},
    }  # fmt: skip
    inputs = [{"name": "x", "type": "FP32", "shape": [-1, 3]}]
    about = {"of": "m@1", "label": "label", "domain": domain, "inputs": inputs, "names": ["label", "scores"]}
    out = artifact(tmp_path / "made")
    CODE["adversarial"](
        rows=artifact(tmp_path / "rows"), about=about, settings={"epochs": 20}, eps=1.0, seed=7, hardened=out
    )
    smooth = step("smooth")
    ask = smooth["asked"](smooth["load_graph"](out.path), inputs)
    turned = np.concatenate([x[:, 1::-1], x[:, 2:]], axis=1)
    right = [float((ask(rows)["label"] == y).mean()) for rows in (x, turned)]
    assert min(right) > 0.9
