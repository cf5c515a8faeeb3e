"""What processes see of the tile: the same results, no words, no files in the home, no heavy imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import hashlib, sys
from dataclasses import replace
from tallystick.evidence.domain import Budget
from tallystick.proofs.attack import toy_case, toy_rows
from tallystick.tiles.attack.art import ArtAttack
from tallystick.tiles.attack.black import OFFERS
from tests.tiles.attack.test_black import table

budget = Budget(eps=(0.05, 0.1), samples_max=20, queries_max=1000)
seen = hashlib.sha256()
for make in (lambda: toy_case(*toy_rows(), budget), table):
    for offer in OFFERS:
        case = make()
        if case.domain.kind in offer.needs.kinds:
            found = ArtAttack().run(offer.name, case, lambda share, text: None)
            for part in (found.distance, found.adversarial):
                seen.update(part.tobytes())
            seen.update(repr(replace(found.probe, seconds=0.0)).encode())
print(seen.hexdigest())
print([m for m in ("art", "torch", "tensorflow", "matplotlib") if m in sys.modules])
"""


def test_two_processes_find_the_same_in_silence_and_leave_the_home_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    env = {**os.environ, "HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    env["PYTHONPATH"] = str(Path(__file__).parents[3])
    said = []
    for seed in ("1", "2"):
        argv = [sys.executable, "-c", PROGRAM]
        ended = subprocess.run(
            argv,
            env={**env, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        said.append(ended.stdout.splitlines())
    assert said[0] == said[1]
    assert said[0][1:] == ["[]"]
    assert list(home.iterdir()) == []


def test_the_tiles_are_cheap_to_import() -> None:
    code = (
        "import sys; import tallystick.tiles.attack.art, tallystick.tiles.certify.tile; "
        "print([m for m in ('art', 'scipy', 'onnx', 'torch') if m in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "[]\n"
