"""Logged models, registered models and their versions."""

from __future__ import annotations

from tallystick.ports.database import Row, Session
from tallystick.record.asks import NotPlain
from tallystick.record.entries import (
    Held,
    LoggedModel,
    LoggedModelMetric,
    ModelVersion,
    Page,
    RegisteredModel,
)
from tallystick.record.model_asks import (
    GetLoggedModel,
    GetModelVersion,
    GetRegisteredModel,
    HeldVersions,
    SearchLoggedModels,
)
from tallystick.tiles.tracking import sql
from tallystick.tiles.tracking.runs import among, pairs

__all__ = [
    "get_logged_model", "get_model_version", "get_registered_model", "held_versions", "search_logged_models",
]  # fmt: skip


def get_logged_model(session: Session, ask: GetLoggedModel, workspace: str) -> LoggedModel:
    """See :class:`GetLoggedModel`."""
    found = session.rows(sql.MODEL, [ask.model_id, workspace])
    if not found:
        raise NotPlain
    return _tell_models(session, found)[0]


def search_logged_models(session: Session, ask: SearchLoggedModels, workspace: str) -> Page:
    """See :class:`SearchLoggedModels`."""
    more = [ask.name, ask.name, workspace, ask.max_results + 1, ask.offset]
    found = among(session, sql.MODELS_SEARCH, "experiment_id", ask.experiment_ids, *more)
    then = ask.offset + ask.max_results if len(found) > ask.max_results else None
    return Page(_tell_models(session, found[: ask.max_results]), then)


def _tell_models(session: Session, rows: list[Row]) -> list[LoggedModel]:
    ids = [row[0] for row in rows]
    tags = pairs(among(session, sql.MODELS_TAGS, "model_id", ids))
    params = pairs(among(session, sql.MODELS_PARAMS, "model_id", ids))
    metrics: dict[str, list[LoggedModelMetric]] = {}
    for model_id, *metric in among(session, sql.MODELS_METRICS, "model_id", ids):
        if metric[1] is None or (metric[5] is None) != (metric[6] is None):  # MLflow fails at either
            raise NotPlain
        metrics.setdefault(model_id, []).append(LoggedModelMetric(*metric))
    return [
        LoggedModel._make((*row, tags.get(row[0], []), params.get(row[0], []), metrics.get(row[0], [])))
        for row in rows
    ]


def get_registered_model(session: Session, ask: GetRegisteredModel, workspace: str) -> RegisteredModel:
    """See :class:`GetRegisteredModel`. Its versions are told without aliases, as MLflow tells them here."""
    which = [workspace, ask.name]
    (about,) = session.rows(sql.REGISTERED, which) or (None,)
    if about is None:
        raise NotPlain
    tags = pairs([("", *row) for row in session.rows(sql.REGISTERED_TAGS, which)]).get("", [])
    aliases = [(alias, str(version)) for alias, version in session.rows(sql.REGISTERED_ALIASES, which)]
    latest = _tell_versions(session, session.rows(sql.VERSIONS_LATEST, which), workspace)
    return RegisteredModel._make((*about, tags, aliases, latest))


def get_model_version(session: Session, ask: GetModelVersion, workspace: str) -> ModelVersion:
    """See :class:`GetModelVersion`. The alias ``latest`` is a rule of MLflow's own, and left to it."""
    aliases = session.rows(sql.REGISTERED_ALIASES, [workspace, ask.name])
    version = ask.version
    if ask.alias:
        version = next((number for alias, number in aliases if alias == ask.alias), 0)
    found = session.rows(sql.VERSION, [workspace, ask.name, version])
    if not found or ask.alias.lower() == "latest":
        raise NotPlain
    (told,) = _tell_versions(session, found, workspace)
    return told._replace(aliases=[alias for alias, number in aliases if number == version])


def held_versions(session: Session, _: HeldVersions, workspace: str) -> list[Held]:
    """See :class:`HeldVersions`."""
    return [Held._make(row) for row in session.rows(sql.HELD, [workspace])]


def _tell_versions(session: Session, rows: list[Row], workspace: str) -> list[ModelVersion]:
    if not rows:
        return []
    text, bound = session.among("version", [row[1] for row in rows])
    tagged = session.rows(sql.VERSION_TAGS.format(among=text), [workspace, rows[0][0], *bound])
    tags = pairs(tagged)
    return [ModelVersion._make((*row, tags.get(row[1], []), [])) for row in rows]
