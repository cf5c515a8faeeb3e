"""What a run read and made: datasets and logged models; and the logged models themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

from tallystick.ports.database import Row, Session
from tallystick.record.asks import LogInputs, LogOutputs, NotPlain, Write
from tallystick.record.entries import DatasetInput, LoggedModel
from tallystick.record.model_asks import (
    CreateLoggedModel,
    DeleteModelTag,
    FinalizeLoggedModel,
    LogModelParams,
    SetModelTags,
)
from tallystick.record.rules import under
from tallystick.tiles.tracking import sql
from tallystick.tiles.tracking.changes import Roots, active_experiment, active_run

__all__ = ["MODEL_CHANGES"]

PENDING = 1
"""MLflow's number for a logged model that is being made."""

Known = dict[tuple[str, str], str]


def _log_inputs(session: Session, ask: LogInputs, workspace: str, roots: Roots) -> None:
    """Of datasets with one name and digest the first counts; one that the run read already stays as it is."""
    experiment_id = active_run(session, ask.run_id, workspace)[1]
    datasets = {(d.name, d.digest): d for d in reversed(ask.datasets)}
    if any(len(dict(d.tags)) < len(d.tags) for d in datasets.values()):
        raise NotPlain
    known = _known_datasets(session, experiment_id, datasets)
    _put_datasets(
        session, experiment_id, {what: d for what, d in datasets.items() if what not in known}, known
    )
    words, told = session.among("source_id", list(known.values()))
    read = {row[0] for row in session.rows(sql.INPUTS_KNOWN.format(among=words), (ask.run_id, *told))}
    inputs: list[Row] = []
    tags: list[Row] = []
    for what, dataset in datasets.items():
        if known[what] not in read:
            input_id = uuid4().hex
            inputs.append((input_id, "DATASET", known[what], "RUN", ask.run_id, 0))
            tags += [(input_id, key, value) for key, value in dataset.tags]
    sql.INPUTS.put(session, inputs)
    sql.INPUT_TAGS.put(session, tags)
    models = sorted(set(ask.models))
    rows: list[Row] = [(uuid4().hex, "RUN_INPUT", ask.run_id, "MODEL_INPUT", model, 0) for model in models]
    sql.MODEL_INPUTS.put(session, rows)


def _known_datasets(
    session: Session, experiment_id: int, wanted: dict[tuple[str, str], DatasetInput]
) -> Known:
    words, told = session.among("name", [name for name, _ in wanted])
    rows = session.rows(sql.DATASETS_KNOWN.format(among=words), (experiment_id, *told))
    return {(name, digest): dataset_id for dataset_id, name, digest in rows if (name, digest) in wanted}


def _put_datasets(
    session: Session, experiment_id: int, new: dict[tuple[str, str], DatasetInput], known: Known
) -> None:
    rows: list[Row] = []
    for what, dataset in new.items():
        known[what] = uuid4().hex
        told = (dataset.source_type, dataset.source, dataset.schema, dataset.profile)
        rows.append((known[what], experiment_id, *what, *told))
    sql.DATASETS.put(session, rows)


def _log_outputs(session: Session, ask: LogOutputs, workspace: str, roots: Roots) -> None:
    """One that is there already is an error of the database, and so not plain."""
    active_run(session, ask.run_id, workspace)
    rows: list[Row] = [
        (uuid4().hex, "RUN_OUTPUT", ask.run_id, "MODEL_OUTPUT", model.model_id, model.step)
        for model in ask.models
    ]
    sql.INPUTS.put(session, rows)


def _create_logged_model(
    session: Session, ask: CreateLoggedModel, workspace: str, roots: Roots
) -> LoggedModel:
    place = under(
        active_experiment(session, ask.experiment_id, workspace), "models", ask.model_id, "artifacts"
    )
    if len(dict(ask.params)) < len(ask.params) or len(dict(ask.tags)) < len(ask.tags):
        raise NotPlain
    begun = (ask.model_id, ask.experiment_id, ask.name, place, ask.now_ms, ask.now_ms, PENDING)
    sql.MODELS.put(session, [(*begun, "active", ask.model_type, ask.source_run_id)])
    whose = (ask.model_id, ask.experiment_id)
    sql.MODEL_PARAMS.put(session, [(*whose, key, value) for key, value in ask.params])
    sql.MODEL_TAGS.put(session, [(*whose, key, value) for key, value in ask.tags])
    told = (ask.model_type, ask.source_run_id, None, "active")
    return LoggedModel(*begun, *told, list(ask.tags), list(ask.params), [])


def _finalize_logged_model(session: Session, ask: FinalizeLoggedModel, workspace: str, roots: Roots) -> None:
    """Only the change: the whole model, which is the answer, is then read."""
    if not session.run(sql.MODEL_FINALIZE, (ask.status, ask.now_ms, ask.model_id, workspace)):
        raise NotPlain


def _model_home(session: Session, model_id: str, workspace: str) -> int:
    """The experiment of a logged model, deleted or not; NotPlain unless it is there."""
    rows = session.rows(sql.MODEL_HOME, (model_id, workspace))
    if not rows:
        raise NotPlain
    experiment_id: int = rows[0][0]
    return experiment_id


def _log_model_params(session: Session, ask: LogModelParams, workspace: str, roots: Roots) -> None:
    """One that is there already is an error of the database, and so not plain."""
    whose = (ask.model_id, _model_home(session, ask.model_id, workspace))
    sql.MODEL_PARAMS.put(session, [(*whose, key, value) for key, value in ask.params])


def _set_model_tags(session: Session, ask: SetModelTags, workspace: str, roots: Roots) -> None:
    whose = (ask.model_id, _model_home(session, ask.model_id, workspace))
    sql.MODEL_TAGS.put(session, [(*whose, key, value) for key, value in ask.tags])


def _delete_model_tag(session: Session, ask: DeleteModelTag, workspace: str, roots: Roots) -> None:
    _model_home(session, ask.model_id, workspace)
    if not session.run(sql.MODEL_TAG_DELETE, (ask.model_id, ask.key)):
        raise NotPlain


MODEL_CHANGES: dict[type[Write[Any]], Callable[[Session, Any, str, Roots], Any]] = {
    LogInputs: _log_inputs,
    LogOutputs: _log_outputs,
    CreateLoggedModel: _create_logged_model,
    FinalizeLoggedModel: _finalize_logged_model,
    LogModelParams: _log_model_params,
    SetModelTags: _set_model_tags,
    DeleteModelTag: _delete_model_tag,
}
"""How each is carried out."""
