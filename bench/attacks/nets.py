"""The models under attack: a small convolutional net of the digits, and its twin from adversarial training.

scikit-learn's digits, 8 x 8 pixels, as they are or scaled up to 28 x 28 (bilinear), values 0 to 1. Both nets
are seeded and trained here; 1,000 rows that neither has seen are attacked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

__all__ = ["CLASSES", "digits", "net", "trained"]

CLASSES = 10
HELD_OUT = 1000
HARDENED_EPS = 0.15


def digits(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows to train on and their labels, then 1,000 others: float32 (n, 1, side, side) from 0 to 1, int64."""
    x, y = load_digits(return_X_y=True)
    images = torch.from_numpy((x / 16).astype(np.float32)).reshape(-1, 1, 8, 8)
    if side != 8:
        images = functional.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)
    rows = images.clamp(0, 1).numpy()
    order = np.random.default_rng(0).permutation(len(rows))
    rows, labels = np.ascontiguousarray(rows[order]), y[order].astype(np.int64)
    return rows[HELD_OUT:], labels[HELD_OUT:], rows[:HELD_OUT], labels[:HELD_OUT]


def net(side: int) -> nn.Sequential:
    """Two convolutions and two dense layers; logits."""
    flat = 32 * (side // 4) ** 2
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(flat, 64), nn.ReLU(), nn.Linear(64, CLASSES),
    )  # fmt: skip


def trained(side: int, hardened: bool, epochs: int = 30) -> nn.Sequential:
    """A net, trained; ``hardened`` on what PGD-7 makes of each batch (Madry et al. 2018) at eps 0.15."""
    torch.manual_seed(7)
    x, y, *_ = digits(side)
    rows, labels = torch.from_numpy(x), torch.from_numpy(y)
    model = net(side)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for epoch in range(epochs):
        eps = HARDENED_EPS * min(1.0, (epoch + 1) / 10)  # rising, else it learns nothing
        for batch in torch.randperm(len(rows)).split(64):
            made = _worse(model, rows[batch], labels[batch], eps) if hardened else rows[batch]
            optimizer.zero_grad()
            functional.cross_entropy(model(made), labels[batch]).backward()
            optimizer.step()
    return model.eval()


def _worse(model: nn.Sequential, x: Any, y: Any, eps: float) -> Any:
    made = (x + eps * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
    for _ in range(7):
        made.requires_grad_()
        (slope,) = torch.autograd.grad(functional.cross_entropy(model(made), y), made)
        made = torch.min(torch.max(made.detach() + eps / 4 * slope.sign(), x - eps), x + eps).clamp(0, 1)
    return made
