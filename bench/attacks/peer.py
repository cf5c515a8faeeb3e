#!/usr/bin/env python3
"""One way to attack a net, in a process of its own: reads an order in JSON, prints what came of it in JSON.

    python bench/attacks/peer.py ORDER.json

All get the same net, rows and threads. What is timed is the attack alone, after a short one that warms up.
What a peer hands back is looked at here, the same for all: a row counts as turned where it is in range,
within eps and answered wrongly.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).parent))

from nets import CLASSES, net

BATCH = 256
WARM_ROWS = 32
SLACK = 1e-5


@dataclass(frozen=True)
class Order:
    """``kind`` is pgd or ensemble; ``weights`` a file of the net's, ``rows`` one of x and y."""

    peer: str
    kind: str
    side: int
    weights: str
    rows: str
    samples: int
    eps: list[float]
    steps: int
    threads: int
    queries: int = 5000


Attack = Callable[[Any, Any, float], Any]
"""From rows and labels (tensors) and eps to rows."""


def art(model: Any, order: Order) -> Attack:
    """The Adversarial Robustness Toolbox, with its own estimator for PyTorch."""
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    shape = (1, order.side, order.side)
    seen = PyTorchClassifier(model, torch.nn.CrossEntropyLoss(), shape, CLASSES, clip_values=(0.0, 1.0))

    def pgd(x: Any, y: Any, eps: float) -> Any:
        step = 2.5 * eps / order.steps
        settings = {"num_random_init": 1, "batch_size": BATCH, "verbose": False}
        attack = evasion.ProjectedGradientDescent(seen, np.inf, eps, step, max_iter=order.steps, **settings)
        return torch.from_numpy(attack.generate(x.numpy(), y=np.eye(CLASSES, dtype=np.float32)[y.numpy()]))

    def ensemble(x: Any, y: Any, eps: float) -> Any:
        """Its AutoAttack as it is, but for progress bars."""
        attack = evasion.AutoAttack(seen, np.inf, eps, 2 * eps, batch_size=BATCH)
        for part in attack.attacks:
            part.verbose = False
        made = attack.generate(x.numpy(), y=np.eye(CLASSES, dtype=np.float32)[y.numpy()])
        return torch.from_numpy(made)

    return pgd if order.kind == "pgd" else ensemble


def _in_batches(attack: Callable[[Any, Any], Any], x: Any, y: Any) -> Any:
    return torch.cat([attack(a, b) for a, b in zip(x.split(BATCH), y.split(BATCH), strict=True)])


def torchattacks(model: Any, order: Order) -> Attack:
    """torchattacks: PGD, or its AutoAttack (standard)."""
    import torchattacks as theirs

    def run(x: Any, y: Any, eps: float) -> Any:
        if order.kind == "pgd":
            attack = theirs.PGD(model, eps=eps, alpha=2.5 * eps / order.steps, steps=order.steps)
        else:
            attack = theirs.AutoAttack(model, eps=eps, n_classes=CLASSES, seed=0)
        return _in_batches(attack, x, y)

    return run


def foolbox(model: Any, order: Order) -> Attack:
    """Foolbox: LinfPGD; it has no ensemble."""
    import foolbox as theirs

    seen = theirs.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = theirs.attacks.LinfPGD(rel_stepsize=2.5 / order.steps, steps=order.steps)

    def run(x: Any, y: Any, eps: float) -> Any:
        return _in_batches(lambda a, b: attack(seen, a, b, epsilons=eps)[1], x, y)

    return run


def ours(model: Any, order: Order, x: Any, y: Any) -> tuple[Callable[[], Any], dict[str, Any]]:
    """The judge's own: its victim over the PyTorch runtime, and its probes, one after another."""
    from mlflow.types import Schema, TensorSpec

    from tallystick.crew.measure.target import Seen
    from tallystick.evidence.domain import Budget, Domain, DomainKind
    from tallystick.ports.models.attack import Case
    from tallystick.ports.tile import Place
    from tallystick.tiles.attack.black import run_black
    from tallystick.tiles.torch.runtime import TorchPredictor
    from tallystick.tiles.white.tile import open_tile

    shape = (1, order.side, order.side)
    schema = Schema([TensorSpec(np.dtype(np.float32), (-1, *shape), "x")])
    said = Schema([TensorSpec(np.dtype(np.float32), (-1, CLASSES), "logits")])
    predictor = TorchPredictor(model, (schema.inputs, said.inputs), "bench")
    rows, more = x.numpy().reshape(len(x), -1), {}
    truth = np.array([str(int(label)) for label in y], object)
    budget = Budget(
        tuple(order.eps), samples_max=len(rows), queries_max=order.queries, steps_max=order.steps, seed=7
    )
    probes = ("fgsm", "pgd") if order.kind == "pgd" else ("fgsm", "pgd", "auto", "square")

    def run() -> Any:
        victim = Seen(predictor, rows, truth)
        right = victim.clean.argmax(axis=1) == victim.y
        case = Case(
            victim, rows, victim.y, victim.clean, np.arange(len(rows)), np.where(right, np.inf, 0.0),
            np.full_like(rows, np.nan), Domain(DomainKind.IMAGE, (*shape[1:], 1)), budget,
        )  # fmt: skip
        for name in probes:
            run_one = run_black if name == "square" else open_tile(Place(Path())).run
            found = run_one(name, case, lambda share, text: None)
            more[name] = {"gradients": found.probe.gradients, "queries": found.probe.queries,
                          "seconds": found.probe.seconds, "notes": found.probe.notes}  # fmt: skip
            case.distance, case.adversarial = found.distance, found.adversarial
        return torch.from_numpy(np.where(np.isfinite(case.adversarial), case.adversarial, rows)).reshape(
            x.shape
        )

    return run, more


def turned(model: Any, made: Any, x: Any, y: Any, eps: float) -> Any:
    """Which rows are wrong: as they are, or as made, where that is in range and within eps. bool (n,)."""
    with torch.inference_mode():
        clean, after = model(x).argmax(1) != y, model(made).argmax(1) != y
    far = (made - x).abs().flatten(1).max(1).values
    fair = (far <= eps + SLACK) & (made.flatten(1).min(1).values >= 0) & (made.flatten(1).max(1).values <= 1)
    return (clean | (after & fair)).numpy()


def main() -> None:
    """See the module."""
    warnings.simplefilter("ignore")
    order = Order(**json.loads(Path(sys.argv[1]).read_text()))
    torch.set_num_threads(order.threads)
    torch.manual_seed(0)
    np.random.seed(0)
    model = net(order.side)
    model.load_state_dict(torch.load(order.weights, weights_only=True))
    model.eval()
    given = np.load(order.rows)
    x, y = (torch.from_numpy(given[name][: order.samples]) for name in ("x", "y"))
    robust, more = [], {}
    if order.peer == "ours":
        ours(model, order, x[:WARM_ROWS], y[:WARM_ROWS])[0]()
        run, more = ours(model, order, x, y)
        began, cpu_began = time.perf_counter(), time.process_time()
        made = run()
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
        robust = [int((~turned(model, made, x, y, eps)).sum()) for eps in order.eps]
    else:
        attack = {"art": art, "torchattacks": torchattacks, "foolbox": foolbox}[order.peer](model, order)
        if order.kind == "pgd":
            attack(x[:WARM_ROWS], y[:WARM_ROWS], order.eps[0])
        seconds = cpu_s = 0.0
        for eps in order.eps:
            began, cpu_began = time.perf_counter(), time.process_time()
            made = attack(x, y, eps)
            seconds, cpu_s = seconds + time.perf_counter() - began, cpu_s + time.process_time() - cpu_began
            robust.append(int((~turned(model, made.detach(), x, y, eps)).sum()))
    print(json.dumps({"seconds": seconds, "cpu_s": cpu_s, "robust": robust, "of": len(x), "more": more}))


if __name__ == "__main__":
    main()
