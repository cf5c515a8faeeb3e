"""PyTorch models for tests, made once a session by a process of its own: torch and MLflow warn and weigh.

``python -m tests.tiles.runtime.made FOLDER`` makes them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.fakes.machine.maker import run_maker
from tests.fakes.machine.once import once

__all__ = ["ENDS", "Net", "build", "exported"]

QUICK = {"pip_requirements": ["mlflow"]}  # else MLflow starts a process for each model to find them out
ENDS = {"plain": None, "softmax": nn.Softmax(1), "log_softmax": nn.LogSoftmax(1)}


class Net(nn.Module):
    """A small network of most layers that image classifiers have: (n, 1, 12, 12) to (n, 5)."""

    def __init__(self, end: nn.Module | None = None) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(4, 8, 3, stride=2, groups=2), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(8, 16), nn.LayerNorm(16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 5),
        )  # fmt: skip
        self.end = end or nn.Identity()
        with torch.no_grad():
            self.body[1].running_mean.uniform_(-0.3, 0.3)
            self.body[1].running_var.uniform_(0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.end(self.body(x))


class Functional(Net):
    """Its softmax is a call, not a layer, and it raises for numbers over 1000."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.max() > 1000:
            raise ValueError("a pixel is over 1000")
        return nn.functional.softmax(8 * self.body(x), dim=1)


class Mixed(Net):
    """Probabilities that no softmax has made: the mean of two."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.body(x).softmax(1) + (2 * self.body(x)).softmax(1)) / 2


class Odd(nn.Module):
    """What it answers with, by ``kind``."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.layer = kind, nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> object:
        said = self.layer(x)
        answers = {
            "pair": (said, said),
            "nan": said / 0 - said / 0,
            "steps": said.round().detach(),
            "one": said[:, :1],
        }
        return answers.get(self.kind, said)


def build(factory) -> Path:
    """The folder with all models, one folder each: see :func:`main`. ``factory`` is tmp_path_factory."""
    return once(factory, "torch-models", _build)


def _build(folder: Path) -> None:
    run_maker("-m", "tests.tiles.runtime.made", str(folder), seconds=300)


def exported(module: nn.Module, x: torch.Tensor, file: Path) -> None:
    """``module`` as ONNX: input ``x``, output ``y``, any number of rows."""
    axes = {"x": {0: "n"}, "y": {0: "n"}}
    torch.onnx.export(
        module.eval(),
        (x,),
        str(file),
        dynamo=False,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes=axes,
        opset_version=17,
    )


def main(folder: Path) -> None:
    import mlflow.onnx
    import mlflow.pytorch
    import onnx
    import pandas as pd
    from mlflow.models import infer_signature

    def save(name: str, module: nn.Module, x: object, y: object = None, **more: object) -> None:
        told = module.eval()(x).detach().numpy() if y is None else y
        given = x.numpy() if isinstance(x, torch.Tensor) else x
        how = {"serialization_format": "pickle", **QUICK, **more}
        mlflow.pytorch.save_model(module, str(folder / name), signature=infer_signature(given, told), **how)

    torch.manual_seed(0)
    x = torch.rand(6, 1, 12, 12)
    np.savez(folder / "x.npz", x=x.numpy())
    for name, end in ENDS.items():
        torch.manual_seed(1)
        net = Net(end)
        save(name, net, x)
        exported(net, x, folder / "net.onnx")
        mlflow.onnx.save_model(onnx.load(folder / "net.onnx"), str(folder / f"onnx-{name}"), **QUICK)
    save("functional", Functional(), x)
    save("mixed", Mixed(), x)
    save("double", Net().double(), x.double())
    scripted = torch.jit.script(Net(nn.Softmax(1)).eval())
    save("scripted", scripted, x)
    save("program", Net(nn.Softmax(1)).eval(), x, serialization_format="pt2", input_example=x.numpy())
    table = torch.rand(6, 3)
    frame = pd.DataFrame(table.numpy(), columns=["a", "b", "c"]).astype("float64")
    save("columns", Odd(""), frame, Odd("")(table).detach().numpy())
    for kind in ("pair", "nan", "steps", "one"):
        save(kind, Odd(kind), table, np.zeros((6, 1 if kind == "one" else 2), np.float32))
    save("whole", nn.Embedding(7, 2), torch.arange(6))
    mlflow.pytorch.save_model(Odd(""), str(folder / "unsigned"), serialization_format="pickle", **QUICK)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
