"""Adversarial training as `tally harden` does it, beside ART's `AdversarialTrainerMadryPGD`.

    python -m bench.attacks.harden [--epochs 30] [--seeds 2]

The same network for as many epochs, on pictures (scikit-learn's digits) and on a table with categories, whole
numbers and a column that nobody can change. Judged by the gate's own probes on rows that none of them saw.
Printed for each: accuracy, accuracy under attack, seconds of processor that training took, and the share of
what its attack made for training that the domain allows.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "harden"))

from tallystick.core.facts import to_json
from tallystick.crew.judging.offers import list_threats
from tallystick.evidence.domain import Budget, Column, Domain, DomainKind
from tallystick.ports.tile import Place
from tallystick.tiles.attack.project import Space
from tallystick.wiring.tiles import open_tile

PROBES = ("pgd", "ensemble", "hop_skip_jump", "square")


def digits() -> tuple[np.ndarray, np.ndarray, Domain, float]:
    """Pictures of 8 by 8, their digits, the domain and eps."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), y, Domain(), 0.15


def table(rows: int = 2400) -> tuple[np.ndarray, np.ndarray, Domain, float]:
    """A label that four columns tell together; an attacker reaches three, within a fifth of their range."""
    draw = np.random.default_rng(5)
    job, age = draw.integers(0, 4, rows), draw.integers(18, 80, rows)
    born, pay = draw.integers(0, 2, rows), draw.uniform(0, 9000, rows)
    score = 0.5 * (job >= 2) + 0.02 * (age - 49) + 0.9 * born + pay / 4500 + draw.normal(0, 0.3, rows)
    x = np.concatenate([np.eye(4)[job], np.stack([age, born, pay], axis=1)], axis=1)
    jobs = tuple(Column(f"job{i}", one_hot="job", scale=5.0) for i in range(4))
    rest = (Column("age", 18, 80, integer=True, direction="up"), Column("born", 0, 1, immutable=True))
    domain = Domain(DomainKind.TABULAR, columns=(*jobs, *rest, Column("pay", 0, 9000)))
    return x.astype(np.float32), (score > np.median(score)).astype(int), domain, 0.2


def as_rows(x: np.ndarray, y: np.ndarray, domain: Domain) -> SimpleNamespace:
    """What the steps' ``read_rows`` gives."""
    from tests.harden.steps import rules_of

    plain = Column("", domain.low, domain.high, scale=1.0)
    rules = rules_of(domain.columns or (plain,) * x.shape[1])
    return SimpleNamespace(x=x, y=y, classes=np.unique(y), **rules)


def trained(rows: SimpleNamespace, eps: float, epochs: int, seed: int, stock: bool) -> tuple[Any, float]:
    """A network, and how many seconds it trained; ``stock`` with ART's own trainer."""
    from art.defences.trainer import AdversarialTrainer, AdversarialTrainerMadryPGD
    from domain import as_attack
    from network import as_network, batch_of, learn

    network, batch = as_network(rows, seed), batch_of(len(rows.x))
    network.fit(rows.x, np.eye(len(rows.classes), dtype=np.float32)[rows.y], batch_size=batch, nb_epochs=5)
    np.random.seed(seed)
    if stock:
        network._clip_values = rows.low.astype(np.float32), rows.high.astype(np.float32)
        far = (eps * rows.reach)[None].astype(np.float32)
        how = {"eps": far, "eps_step": np.maximum(far / 4, 1e-12)}  # as its own 8 and 2
        trainer = AdversarialTrainerMadryPGD(network, **how)
    else:
        trainer = AdversarialTrainer(network, as_attack(network, rows, eps, 5, seed), ratio=1.0)

    def fit(x: np.ndarray, y: np.ndarray, size: int, count: int) -> None:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            trainer.fit(x, y, batch_size=size, nb_epochs=count)

    began = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        learn(network, rows, epochs, fit)
    took = time.process_time() - began
    network.attack = getattr(trainer, "attack", None) or trainer.attacks[0]
    return network, took


def judged(network: Any, rows: SimpleNamespace, test: Any, domain: Domain, eps: float) -> tuple[float, float]:
    """Accuracy on rows of ``test``, and under the gate's attacks."""
    import mlflow
    from network import network_graph
    from tests.crew.judging.orders import order, told

    x, y = test
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = [{"name": "x", "type": "FP32", "shape": [-1, x.shape[1]]}]
        mlflow.onnx.save_model(network_graph(network, rows, inputs, ["label", "odds"]), str(folder / "model"))
        tiles = {kind: open_tile("attack", kind, Place(folder)) for kind in ("white", "art")}
        chosen = [p for p in list_threats(tiles, {}).chosen() if p.name in PROBES]
        names = [c.name for c in domain.columns] or [f"f{i}" for i in range(x.shape[1])]
        columns = {n: x[:, i] for i, n in enumerate(names)} | {"label": y}
        budget = Budget(eps=(eps,), samples_max=100, queries_max=500)
        more = {"budget": to_json(budget), "domain": to_json(domain)}
        found = told(order(folder, folder / "model", columns, to_json(chosen), **more))
        left = next(part["robust"] for part in found.parts[::-1] if part["robust"])[0]
        if found.base is None:
            raise SystemExit("the judge told nothing of the rows as they are")
        return found.base.clean.value, left / found.base.right.total


def main() -> None:
    """Train and judge each, and print a line for it."""
    said = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    said.add_argument("--epochs", type=int, default=20)
    said.add_argument("--seeds", type=int, default=2)
    options = said.parse_args()
    warnings.simplefilter("ignore")
    for what, (x, y, domain, eps) in (("digits", digits()), ("table", table())):
        space = Space(domain, tuple(c.name for c in domain.columns), x.shape[1])
        for seed in range(options.seeds):
            order = np.random.default_rng(seed).permutation(len(x))
            train, test = order[len(x) // 4 :], order[: len(x) // 4]
            for stock in (False, True):
                rows = as_rows(x[train], y[train], domain)
                network, took = trained(rows, eps, options.epochs, seed, stock)
                right = np.eye(len(rows.classes), dtype=np.float32)[rows.y]
                made = network.attack.generate(rows.x[:500], y=right[:500])
                possible = space.allows(np.asarray(made, np.float32), rows.x[:500]).mean()
                clean, robust = judged(network, rows, (x[test], y[test]), domain, eps)
                name = "ART Madry" if stock else "ours"
                figures = (
                    f"clean {clean:.1%}  at eps {eps:g} {robust:.1%}  {took:5.1f} s  allowed {possible:.0%}"
                )
                print(f"{what:<7} seed {seed}  {name:<10} {figures}", flush=True)


if __name__ == "__main__":
    main()
