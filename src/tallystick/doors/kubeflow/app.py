"""The routes of the API, as the stock client asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from tallystick.core.errors import NotSupported
from tallystick.core.pipeline.spec import Pipeline
from tallystick.doors.kubeflow.answer import Handler, answer
from tallystick.doors.kubeflow.recurring import RecurringRuns
from tallystick.doors.kubeflow.runs import Runs
from tallystick.doors.kubeflow.shelf import Experiments, Pipelines
from tallystick.doors.kubeflow.stored import Shelf
from tallystick.hub.house import House
from tallystick.ports.runs.calendar import Calendar
from tallystick.routines.library import Library

__all__ = ["kubeflow_routes"]

ROOT = "/apis/v2beta1"


async def _healthz(_: Request) -> Any:
    return {"multi_user": False, "pipeline_store": "database"}


async def _unknown(request: Request) -> Any:
    raise NotSupported(
        f"{request.method} {request.url.path[:200]} is not answered here",
        where="Kubeflow API",
        hint="docs/kubeflow.md lists what is",
    )


def kubeflow_routes(house: House, read: Callable[[bytes], Pipeline], calendar: Calendar) -> list[BaseRoute]:
    """Routes under ``/apis/v2beta1``; ``read`` makes a pipeline of a file's bytes."""
    library = Library(house, read)
    shelf, experiments = Pipelines(Shelf(library)), Experiments(library)
    runs, recurring = Runs(library), RecurringRuns(library, calendar)

    def get(path: str, handler: Handler) -> Route:
        return Route(ROOT + path, answer(handler), methods=["GET"])

    def post(path: str, handler: Handler) -> Route:
        return Route(ROOT + path, answer(handler), methods=["POST"])

    def delete(path: str, handler: Handler) -> Route:
        return Route(ROOT + path, answer(handler), methods=["DELETE"])

    return [
        get("/healthz", _healthz),
        post("/pipelines/upload", shelf.upload),
        post("/pipelines/upload_version", shelf.upload_version),
        post("/pipelines", shelf.refuse),
        post("/pipelines/create", shelf.refuse),
        post("/pipelines/{pipeline}/versions", shelf.refuse),
        get("/pipelines", shelf.all),
        get("/pipelines/names/{name}", shelf.named),
        get("/pipelines/{pipeline}", shelf.one),
        delete("/pipelines/{pipeline}", shelf.remove),
        get("/pipelines/{pipeline}/versions", shelf.versions),
        get("/pipelines/{pipeline}/versions/{version}", shelf.version),
        delete("/pipelines/{pipeline}/versions/{version}", shelf.remove_version),
        post("/experiments", experiments.create),
        get("/experiments", experiments.all),
        get("/experiments/{experiment}", experiments.one),
        delete("/experiments/{experiment}", experiments.remove),
        post("/experiments/{experiment}:archive", experiments.archive),
        post("/experiments/{experiment}:unarchive", experiments.unarchive),
        post("/runs", runs.create),
        get("/runs", runs.all),
        get("/runs/{run}", runs.one),
        delete("/runs/{run}", runs.remove),
        post("/runs/{run}:terminate", runs.terminate),
        post("/runs/{run}:retry", runs.retry),
        post("/runs/{run}:archive", runs.archive),
        post("/runs/{run}:unarchive", runs.unarchive),
        post("/recurringruns", recurring.create),
        get("/recurringruns", recurring.all),
        get("/recurringruns/{recurring_run}", recurring.one),
        delete("/recurringruns/{recurring_run}", recurring.remove),
        post("/recurringruns/{recurring_run}:enable", recurring.enable),
        post("/recurringruns/{recurring_run}:disable", recurring.disable),
        Route(
            "/apis/{rest:path}", answer(_unknown), methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]
        ),
    ]
