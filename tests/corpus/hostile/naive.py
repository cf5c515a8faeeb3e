"""Careless readers: load each hostile model the way that it wants, each in a process of its own.

``python -m tests.corpus.hostile.naive FOLDER`` reads ``{case: [reader, file]}`` from standard input and loads
``FOLDER/case/file``; then ``FOLDER/case.at/ran`` is there where the model ran something.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import sys
import zipfile
from pathlib import Path

import cloudpickle
import joblib
import numpy as np
import yaml


def load(reader: str, path: Path) -> None:
    if reader in ("pickle", "pickle-twice"):
        with path.open("rb") as file:
            for _ in range(1 + (reader == "pickle-twice")):
                pickle.load(file)  # noqa: S301  reason: that is what is to be shown
    elif reader == "cloudpickle":
        cloudpickle.loads(path.read_bytes())  # noqa: TID251  reason: that is what is to be shown
    elif reader == "joblib":
        joblib.load(path)  # noqa: TID251  reason: that is what is to be shown
    elif reader in ("numpy", "numpy-zip"):
        found = np.load(path, allow_pickle=True)
        _ = [found[key] for key in found.files] if reader == "numpy-zip" else found
    elif reader == "torch":
        import torch

        torch.load(path, weights_only=False)
    elif reader == "pickle-then-zip":
        with zipfile.ZipFile(path) as archive:
            pickle.loads(archive.read("archive/data.pkl"))  # noqa: S301  reason: that is what is to be shown
    elif reader == "yaml":
        yaml.unsafe_load(path.read_text())
    elif reader == "run":
        os.execv(path, [str(path)])  # noqa: S606  reason: that is what is to be shown
    elif reader == "python-zip":
        os.execv(sys.executable, [sys.executable, str(path)])  # noqa: S606  reason: the same
    elif reader == "import":
        sys.path.insert(0, str(path.parent))
        __import__(path.stem)
    else:
        raise AssertionError(reader)


def main(folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
    os.dup2(os.open(os.devnull, os.O_RDWR), 2)
    wanted = json.load(sys.stdin)
    if any(reader == "torch" for reader, _ in wanted.values()):
        import torch

        torch.set_num_threads(1)
    for case, (reader, file) in wanted.items():
        at = folder / f"{case}.at"
        at.mkdir()
        child = os.fork()
        if child == 0:
            os.chdir(at)
            try:
                load(reader, folder / case / file)
            finally:
                os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
