"""A Kubeflow Pipelines server, through its v2beta1 REST API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import yaml

from tallystick.core.errors import BadInput, Failed, NotFound, Refused, Unavailable
from tallystick.ports.runs.cluster import Seen
from tallystick.ports.tile import Place
from tallystick.tiles.kubeflow.states import seen_in

__all__ = ["Kubeflow", "open_tile"]

API = "/apis/v2beta1"
TIMEOUT_S = 30.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024
WORDS_CHARS_MAX = 500


class Kubeflow:
    """The server at ``host``; ``token_file`` holds the bearer token, read anew for each request."""

    def __init__(
        self, host: str, token_file: str = "", transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._host = host.rstrip("/")
        self._token_file = token_file
        self._http = httpx.AsyncClient(
            base_url=self._host + API,
            timeout=TIMEOUT_S,
            follow_redirects=False,
            transport=transport,
            trust_env=False,
        )

    async def submit(
        self, name: str, spec: bytes, params: Mapping[str, Any], *, experiment: str = "", cache: bool = True
    ) -> str:
        """See :class:`tallystick.ports.runs.cluster.Cluster`."""
        if found := await self._find("runs", name, "run_id"):
            return found
        body: dict[str, Any] = {
            "display_name": name,
            "pipeline_spec": await asyncio.to_thread(_struct, spec, cache),
            # One that nobody gave is absent there: of an input artifact Kubeflow knows no such parameter.
            "runtime_config": {"parameters": {n: value for n, value in params.items() if value is not None}},
        }
        if experiment:
            body["experiment_id"] = await self._experiment(experiment)
        return _text(await self._ask("POST", "/runs", json=body), "run_id")

    async def look(self, run: str) -> Seen:
        """See :class:`tallystick.ports.runs.cluster.Cluster`."""
        return await asyncio.to_thread(seen_in, await self._ask("GET", f"/runs/{quote(run, safe='')}"))

    async def stop(self, run: str) -> None:
        """See :class:`tallystick.ports.runs.cluster.Cluster`."""
        if not (await self.look(run)).state.ended:
            await self._ask("POST", f"/runs/{quote(run, safe='')}:terminate")

    def page(self, run: str) -> str:
        """Where Kubeflow's own pages show it."""
        return f"{self._host}/#/runs/details/{quote(run, safe='')}"

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.aclose()

    async def _find(self, what: str, name: str, key: str) -> str:
        """The id, called ``key``, of the one of that name among ``what``: runs or experiments. Or nothing."""
        told = await self._ask("GET", f"/{what}", params={"filter": _called(name), "page_size": 2})
        found = told.get(what)
        return _text(found[0], key) if isinstance(found, list) and found else ""

    async def _experiment(self, name: str) -> str:
        if found := await self._find("experiments", name, "experiment_id"):
            return found
        try:
            return _text(
                await self._ask("POST", "/experiments", json={"display_name": name}), "experiment_id"
            )
        except BadInput:  # two runs were the first in it at the same time
            if found := await self._find("experiments", name, "experiment_id"):
                return found
            raise

    async def _ask(self, method: str, path: str, **what: Any) -> dict[str, Any]:
        """The JSON object that it answers; an error as one of ours, with the server's own words."""
        try:
            async with self._http.stream(method, path, headers=await self._headers(), **what) as answer:
                raw = bytearray()
                async for chunk in answer.aiter_bytes():
                    raw += chunk
                    if len(raw) > ANSWER_BYTES_MAX:
                        raise Failed(f"it answered more than {ANSWER_BYTES_MAX} bytes", where=self._host)
        except httpx.HTTPError as wrong:
            raise Unavailable(
                f"Kubeflow cannot be reached: {str(wrong) or type(wrong).__name__}", where=self._host
            ) from wrong
        try:
            told = json.loads(raw) if raw else {}
        except (ValueError, RecursionError):
            told = None
        self._check(answer.status_code, told)
        if not isinstance(told, dict):
            hint = "is it the address of Kubeflow Pipelines? its pages may lie below /pipeline"
            raise Failed("it did not answer with JSON", where=self._host, hint=hint)
        return told

    async def _headers(self) -> dict[str, str]:
        if not self._token_file:
            return {}
        try:
            token = await asyncio.to_thread(Path(self._token_file).read_text, "utf-8")
        except OSError as wrong:
            raise Unavailable(
                f"the token cannot be read: {wrong.strerror}", where=self._token_file
            ) from wrong
        return {"Authorization": f"Bearer {token.strip()}"}

    def _check(self, status: int, told: Any) -> None:
        if status < 300:
            return
        said = told if isinstance(told, dict) else {}
        words = " ".join(str(said.get("message") or said.get("error") or f"HTTP {status}").split())
        words = words[:WORDS_CHARS_MAX]
        if status in (401, 403) or 300 <= status < 400:
            hint = "a token in the file of the setting kubeflow_token_file lets one in"
            raise Refused(f"Kubeflow does not let us in: {words}", where=self._host, hint=hint)
        if status == 404:
            raise NotFound(words, where=self._host)
        if status in (429, 502, 503, 504):
            raise Unavailable(f"Kubeflow is not ready: {words}", where=self._host)
        if status < 500:
            raise BadInput(f"Kubeflow will not have it: {words}", where=self._host)
        raise Failed(f"Kubeflow failed: {words}", where=self._host)


def _called(name: str) -> str:
    """Kubeflow's filter for what bears a name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "string_value": name}]})


def _struct(spec: bytes, cache: bool) -> dict[str, Any]:
    """The pipeline as the API takes it, of its one or two YAML documents."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    documents = [d for d in yaml.load_all(spec, loader) if d]
    pipeline = documents[0]
    if not cache:
        _uncached(pipeline.get("root"))
        for component in (pipeline.get("components") or {}).values():
            _uncached(component)
    if len(documents) == 1:
        return dict(pipeline)
    return {"pipeline_spec": pipeline, "platform_spec": documents[1]}


def _uncached(graph: Any) -> None:
    tasks = (graph or {}).get("dag", {}).get("tasks", {})
    for task in tasks.values():
        task.pop("cachingOptions", None)


def _text(told: Any, name: str) -> str:
    value = told.get(name) if isinstance(told, dict) else None
    if not isinstance(value, str) or not value:
        raise Failed(f"Kubeflow answered without {name}", where="kubeflow")
    return value


def open_tile(place: Place) -> Kubeflow:
    """The server of option ``kubeflow_host``; the token is in the file ``kubeflow_token_file``, if any."""
    host = str(place.options.get("kubeflow_host") or "")
    parts = urlsplit(host)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.username
        or parts.query
        or parts.fragment
    ):
        raise BadInput(
            f"{host[:200]!r} is not the address of a Kubeflow",
            where="host",
            hint="https://HOST[:PORT][/pipeline]",
        )
    token_file = str(place.options.get("kubeflow_token_file") or "")
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if token_file and parts.scheme == "http" and not local:
        raise Refused("a token is not sent without TLS", where=host, hint="use https://")
    return Kubeflow(host, str(Path(token_file).expanduser()) if token_file else "")
