"""Bodies that are about models. ``said`` is a body, or a query, that was read."""

from __future__ import annotations

import base64
import re
import uuid
from typing import Any

import msgspec

from tallystick.doors.tracking import plain, writes
from tallystick.doors.tracking.words import new_name
from tallystick.record import model_asks
from tallystick.record.asks import NotPlain
from tallystick.record.rules import TAG_CHARS_MAX

__all__ = [
    "ModelsToken", "create_logged_model", "delete_model_tag", "finalize_logged_model", "log_model_params",
    "model_version", "search_logged_models", "set_model_tags",
]  # fmt: skip

_MANY = 1000
_INT32_MAX = 2**31 - 1
_STATUSES = ("LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED")
_STATUS: dict[Any, int] = {s: n for n, s in enumerate(_STATUSES, 1)} | {n: n for n in (1, 2, 3)}
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_ALIAS = re.compile(r"(?!v[0-9]+$)(?!latest$)[\w\-]{1,255}", re.IGNORECASE)
_NAMED = re.compile(r"name ?= ?'([\w\- ]{1,500})'")


def create_logged_model(said: Any, now: writes.Now) -> model_asks.CreateLoggedModel:
    """A logged model; what is left out is empty in MLflow's record, not absent."""
    plain.bounded(_MANY, said.params, said.tags)
    if any(ch in said.name for ch in "/:.%\"'"):
        raise NotPlain
    return model_asks.CreateLoggedModel(
        f"m-{uuid.uuid4().hex}",
        plain.experiment_id(said.experiment_id),
        plain.text(said.name, 500) or new_name(),
        now(),
        plain.run_id(said.source_run_id) if said.source_run_id else "",
        plain.text(said.model_type, 500),
        plain.items(said.params, writes.PARAM_MAX),
        plain.items(said.tags, TAG_CHARS_MAX),
    )


def finalize_logged_model(said: Any, now: writes.Now) -> model_asks.FinalizeLoggedModel:
    """A logged model is whole, or has failed."""
    status = plain.one_of(_STATUS, said.status)
    return model_asks.FinalizeLoggedModel(plain.run_id(said.model_id), status, now())


def log_model_params(said: Any, _: writes.Now) -> model_asks.LogModelParams:
    """Params of a logged model."""
    plain.bounded(_MANY, said.params)
    return model_asks.LogModelParams(plain.run_id(said.model_id), plain.items(said.params, writes.PARAM_MAX))


def set_model_tags(said: Any, _: writes.Now) -> model_asks.SetModelTags:
    """Tags of a logged model."""
    plain.bounded(_MANY, said.tags)
    return model_asks.SetModelTags(plain.run_id(said.model_id), plain.items(said.tags, TAG_CHARS_MAX))


def delete_model_tag(said: Any, _: writes.Now) -> model_asks.DeleteModelTag:
    """A tag of a logged model."""
    return model_asks.DeleteModelTag(plain.run_id(said.model_id), plain.key(said.key))


class ModelsToken(plain.Body):
    """Where a search of logged models goes on, as MLflow says it."""

    experiment_ids: list[str]
    filter_string: None
    order_by: None
    offset: int


def search_logged_models(said: Any, _: Any) -> model_asks.SearchLoggedModels:
    """The plain listing of logged models, the newest first, or of those of one name."""
    named = _NAMED.fullmatch(said.filter) if said.filter else None
    plain.bounded(0, "" if named else said.filter or "")
    offset = 0
    if said.page_token:
        plain.bounded(0, said.filter or "")
        token = msgspec.json.decode(base64.b64decode(said.page_token, validate=True), type=ModelsToken)
        offset = plain.between(token.offset, _INT32_MAX if token.experiment_ids == said.experiment_ids else 0)
    experiment_ids = tuple(map(plain.experiment_id, said.experiment_ids))
    most, name = plain.between(said.max_results, 1000), named[1] if named else ""
    return model_asks.SearchLoggedModels(experiment_ids, most, offset, name)


def model_version(said: Any, _: Any) -> model_asks.GetModelVersion:
    """A version by number, or by an alias that is no word of MLflow's own."""
    by_alias = hasattr(said, "alias")
    if not (_ALIAS.fullmatch(said.alias) if by_alias else _VERSION.fullmatch(said.version)):
        raise NotPlain
    name = plain.text(said.name, 256, 1)
    if by_alias:
        return model_asks.GetModelVersion(name, alias=said.alias)
    return model_asks.GetModelVersion(name, int(said.version))
