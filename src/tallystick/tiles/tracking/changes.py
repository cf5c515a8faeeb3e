"""The rarer asks, one at a time: each finds out first whether it is plain, and only then changes anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tallystick.ports.database import Row, Session
from tallystick.ports.tracking import DEFAULT_WORKSPACE
from tallystick.record.asks import (
    CreateExperiment,
    DeleteExperimentTag,
    DeleteTag,
    LogModel,
    MoveExperiment,
    MoveRun,
    NotPlain,
    RenameExperiment,
    SetExperimentTag,
    UpdateRun,
    Write,
)
from tallystick.record.entries import Run
from tallystick.record.rules import MODELS_LOGGED, RUN_NAME, under, with_model
from tallystick.tiles.tracking import sql

__all__ = ["CHANGES", "Roots", "active_experiment", "active_run"]


class Roots(NamedTuple):
    """Where new experiments keep their artifacts, and whether there are workspaces."""

    artifact_root: str
    workspaces: bool


def active_run(session: Session, run_id: str, workspace: str) -> Row:
    """The run's row (``sql.RUN``); NotPlain unless it is there and active."""
    rows = session.rows(sql.RUN, (run_id, workspace))
    if not rows or rows[0][0] != "active":
        raise NotPlain
    return rows[0]


def active_experiment(session: Session, key: int, workspace: str, stage: str = "active") -> str | None:
    """Where the experiment's artifacts lie; NotPlain unless it is there, and of ``stage``."""
    rows = session.rows(sql.EXPERIMENT, (key, workspace))
    if not rows or rows[0][0] != stage:
        raise NotPlain
    location: str | None = rows[0][1]
    return location


def _update_run(session: Session, ask: UpdateRun, workspace: str, roots: Roots) -> Run:
    row = active_run(session, ask.run_id, workspace)
    stage, experiment_id, name, user_id, status, start_ms, end_ms, uri = row
    status = status if ask.status is None else ask.status
    end_ms = end_ms if ask.end_ms is None else ask.end_ms
    name = ask.name or name
    session.run(sql.RUN_UPDATE, (status, end_ms, name, ask.run_id))
    if ask.name:
        sql.TAGS.put(session, [(RUN_NAME, ask.name, ask.run_id)])
    told = (ask.run_id, experiment_id, name, user_id, status, start_ms, end_ms, uri, stage)
    return Run(*told, [], [], [], [], [], [])


def _move_run(session: Session, ask: MoveRun, workspace: str, roots: Roots) -> None:
    deleted = ask.stage == "deleted"
    if not session.rows(sql.RUN, (ask.run_id, workspace)):
        raise NotPlain
    if deleted and session.rows(sql.ANY_ASSESSMENT):
        raise NotPlain
    session.run(sql.RUN_MOVE, (ask.stage, ask.now_ms if deleted else None, ask.run_id))


def _delete_tag(session: Session, ask: DeleteTag, workspace: str, roots: Roots) -> None:
    active_run(session, ask.run_id, workspace)
    if not session.run(sql.TAG_DELETE, (ask.key, ask.run_id)):
        raise NotPlain


def _log_model(session: Session, ask: LogModel, workspace: str, roots: Roots) -> None:
    active_run(session, ask.run_id, workspace)
    found = session.rows(sql.TAG, (MODELS_LOGGED, ask.run_id))
    text = with_model(found[0][0] if found else None, ask.model_json)
    sql.TAGS.put(session, [(MODELS_LOGGED, text, ask.run_id)])


def _create_experiment(session: Session, ask: CreateExperiment, workspace: str, roots: Roots) -> int:
    base = _base_of(session, ask, workspace, roots)
    if base is not None:
        under(base, "0")  # whether it can be: NotPlain comes before any change
    if session.rows(sql.EXPERIMENT_BY_NAME, (workspace, ask.name)) or len(dict(ask.tags)) < len(ask.tags):
        raise NotPlain
    row = (ask.name, ask.artifact_location or None, "active", ask.now_ms, ask.now_ms, workspace)
    sql.EXPERIMENTS.put(session, [row])
    experiment_id: int = session.rows(sql.EXPERIMENT_BY_NAME, (workspace, ask.name))[0][0]
    if base is not None:
        session.run(sql.EXPERIMENT_LOCATE, (under(base, str(experiment_id)), experiment_id))
    sql.EXPERIMENT_TAGS.put(session, [(key, value, experiment_id) for key, value in ask.tags])
    return experiment_id


def _base_of(session: Session, ask: CreateExperiment, workspace: str, roots: Roots) -> str | None:
    """Below which place the experiment's artifacts are to lie; None where it says itself."""
    if not roots.workspaces:
        return None if ask.artifact_location else roots.artifact_root
    found = session.rows(sql.WORKSPACE_ROOT, (workspace,))
    if ask.artifact_location or (not found and workspace != DEFAULT_WORKSPACE):
        raise NotPlain
    own = found[0][0] if found else None
    return own or under(roots.artifact_root, "workspaces", workspace)


def _rename_experiment(session: Session, ask: RenameExperiment, workspace: str, roots: Roots) -> None:
    active_experiment(session, ask.experiment_id, workspace)
    if session.rows(sql.EXPERIMENT_BY_NAME, (workspace, ask.name)) not in ([], [(ask.experiment_id,)]):
        raise NotPlain
    session.run(sql.EXPERIMENT_RENAME, (ask.name, ask.now_ms, ask.experiment_id))


def _move_experiment(session: Session, ask: MoveExperiment, workspace: str, roots: Roots) -> None:
    """With all its runs, whatever stage they were in."""
    deleted = ask.stage == "deleted"
    active_experiment(session, ask.experiment_id, workspace, "active" if deleted else "deleted")
    if deleted and session.rows(sql.ANY_ASSESSMENT):
        raise NotPlain
    session.run(sql.EXPERIMENT_MOVE, (ask.stage, ask.now_ms, ask.experiment_id))
    session.run(sql.EXPERIMENT_MOVE_RUNS, (ask.stage, ask.now_ms if deleted else None, ask.experiment_id))


def _set_experiment_tag(session: Session, ask: SetExperimentTag, workspace: str, roots: Roots) -> None:
    active_experiment(session, ask.experiment_id, workspace)
    sql.EXPERIMENT_TAGS.put(session, [(ask.key, ask.value, ask.experiment_id)])


def _delete_experiment_tag(session: Session, ask: DeleteExperimentTag, workspace: str, roots: Roots) -> None:
    active_experiment(session, ask.experiment_id, workspace)
    if not session.run(sql.EXPERIMENT_TAG_DELETE, (ask.key, ask.experiment_id)):
        raise NotPlain


CHANGES: dict[type[Write[Any]], Callable[[Session, Any, str, Roots], Any]] = {
    UpdateRun: _update_run,
    MoveRun: _move_run,
    DeleteTag: _delete_tag,
    LogModel: _log_model,
    CreateExperiment: _create_experiment,
    RenameExperiment: _rename_experiment,
    MoveExperiment: _move_experiment,
    SetExperimentTag: _set_experiment_tag,
    DeleteExperimentTag: _delete_experiment_tag,
}
"""How each is carried out."""
