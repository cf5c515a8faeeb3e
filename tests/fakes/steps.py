"""Steps written on the spot, and a way to run them."""

from __future__ import annotations

import uuid

from tallystick.core.pipeline.spec import Component, Function
from tallystick.ports.executor import Job
from tallystick.ports.tile import Place
from tallystick.proofs.executor_steps import HEAD
from tallystick.tiles.bases import local as bases
from tallystick.tiles.executor import local

__all__ = ["opened", "outcome", "place_on", "step"]


def place_on(sandbox, home, options=None, *, environments=None):
    """Where the local executor opens; ``environments`` builds what is not installed."""
    stands = bases.open_tile(Place(home, parts={"environments": environments}))
    return Place(home, options or {}, {"sandbox": sandbox, "bases": stands})


def opened(sandbox, tmp_path, **options):
    """The local executor; its steps may have their folders, inputs and sockets anywhere in ``tmp_path``."""
    options.setdefault("step_folders", [tmp_path])
    return local.open_tile(place_on(sandbox, tmp_path, options))


def step(body, *, returns="", arguments="", **fields):
    """A component with this body; parameters and artifacts come as fields of Component."""
    lines = "\n".join("    " + line for line in body.strip().splitlines())
    arrow = f" -> {returns}" if returns else ""
    return Component("it", Function("it", f"{HEAD}def it({arguments}){arrow}:\n{lines}\n"), **fields)


async def outcome(executor, tmp_path, what, log=None, **fields):
    workdir = tmp_path / f"work-{uuid.uuid4().hex}"
    lines = log if log is not None else []
    return await executor.run(Job("run/it", what, workdir, **fields), lines.append)
