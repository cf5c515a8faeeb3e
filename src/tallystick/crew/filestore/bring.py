"""One import, from what was read to a database: experiments, then artifacts, then all rows at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tallystick.crew.filestore.carry import Addresses, keep
from tallystick.crew.filestore.join import Join, Row
from tallystick.crew.filestore.outcome import Outcome

__all__ = ["bring"]

TRACE_PLACE = "mlflow.artifactLocation"
_ELSEWHERE = {
    "mlflow-artifacts": "are with the server that ran on this folder: copy its folder of artifacts into the"
    " hub's, or name it with --artifact-store",
}


def bring(
    read: Any, engine: Any, mlruns: Path, store: str, outcome: Outcome, told: Callable[[float, str], None]
) -> None:
    """Join what ``read`` has to the database of ``engine``.

    Rows come in one transaction, or none does. Artifacts are copied to ``store`` before: where it breaks off
    afterwards, another try finds them there.
    """
    with engine.begin() as db:
        join = Join(read, db, outcome)
        ids, made = join.experiments()
        addresses = Addresses(mlruns, ids)
        for row in join.rows("experiments"):
            location = addresses.of(row["artifact_location"], int(row["experiment_id"]))
            if int(row["experiment_id"]) in made:
                join.relocate(ids[int(row["experiment_id"])], location)
    with engine.connect() as db:
        new = _New(Join(read, db, outcome), addresses)
    for number, (folder, target) in enumerate(addresses.folders.items()):
        told(0.7 * number / len(addresses.folders), f"artifacts {number + 1:,} of {len(addresses.folders):,}")
        outcome.brought["files"] += keep(store, folder, target, mlruns, outcome)
    told(0.7, f"{len(new.runs):,} runs and what belongs to them")
    with engine.begin() as db:
        join = Join(read, db, outcome)
        _runs(join, new)
        _datasets(join, new)
        told(0.9, "traces and models")
        _traces(join, new)
        _models(join, new)
        _registered(join, new)
    _say_elsewhere(addresses, outcome)


class _New:
    """What the database does not have yet, and the address of each one's artifacts from now on."""

    def __init__(self, join: Join, addresses: Addresses) -> None:
        self.addresses = addresses
        self.runs = join.new("runs", "run_uuid", "runs")
        self.models = join.new("logged_models", "model_id", "models")
        self.traces = join.new("trace_info", "request_id", "traces")
        self.registered = join.new_registered()
        self.places: dict[str, str | None] = {}
        of_trace = {str(r["request_id"]): int(r["experiment_id"]) for r in join.rows("trace_info")}
        for row in join.rows("runs"):
            self._place(self.runs, row["run_uuid"], row["artifact_uri"], row["experiment_id"])
        for row in join.rows("logged_models"):
            self._place(
                self.models, row["model_id"], row["artifact_location"], row["experiment_id"], "models"
            )
        for row in join.rows("trace_tags"):
            if row["key"] == TRACE_PLACE and row["request_id"] in of_trace:
                key = str(row["request_id"])
                self._place(self.traces, key, row["value"], of_trace[key], "traces")

    def _place(self, new: set[str], key: str, uri: str | None, experiment_id: int, *folder: str) -> None:
        if key in new:
            self.places[key] = self.addresses.of(uri, experiment_id, *folder, key, "artifacts")

    def moved(self, row: Row) -> Row:
        """The row, with its experiment's number in the database."""
        return {**row, "experiment_id": self.addresses.ids[row["experiment_id"]]}


def _runs(join: Join, new: _New) -> None:
    def placed(row: Row) -> Row:
        return {**new.moved(row), "artifact_uri": new.places[row["run_uuid"]]}

    def of_run(row: Row) -> bool:
        return row["run_uuid"] in new.runs

    join.copy("experiment_tags", lambda _: True, new.moved, absent=("experiment_id", "key"))
    join.copy("runs", of_run, placed, word="runs")
    for name, word in (("params", "params"), ("tags", "tags"), ("metrics", "metric points")):
        join.copy(name, of_run, word=word)
    join.copy("latest_metrics", of_run)


def _datasets(join: Join, new: _New) -> None:
    uuids = join.datasets(new.addresses.ids)
    inputs: set[str] = set()

    def of_run(row: Row) -> bool:
        if row["source_type"] == "DATASET":
            fits = row["destination_id"] in new.runs and row["source_id"] in uuids
        else:
            fits = row["source_id"] in new.runs
        if fits:
            inputs.add(row["input_uuid"])
        return fits

    def changed(row: Row) -> Row:
        return {**row, "source_id": uuids.get(row["source_id"], row["source_id"])}

    join.copy("inputs", of_run, changed)
    join.copy("input_tags", lambda row: row["input_uuid"] in inputs)


def _traces(join: Join, new: _New) -> None:
    def tag(row: Row) -> Row:
        place = new.places.get(row["request_id"]) if row["key"] == TRACE_PLACE else None
        return {**row, "value": place or row["value"]}

    def of_trace(row: Row) -> bool:
        return row["request_id"] in new.traces

    join.copy("trace_info", of_trace, new.moved, word="traces")
    join.copy("trace_tags", of_trace, tag)
    join.copy("trace_request_metadata", of_trace)
    join.copy("assessments", lambda row: row["trace_id"] in new.traces, new.moved, word="assessments")


def _models(join: Join, new: _New) -> None:
    def placed(row: Row) -> Row:
        return {**new.moved(row), "artifact_location": new.places[row["model_id"]]}

    def of_model(row: Row) -> bool:
        return row["model_id"] in new.models

    join.copy("logged_models", of_model, placed, word="models")
    for name in ("logged_model_params", "logged_model_tags", "logged_model_metrics"):
        join.copy(name, of_model, new.moved)


def _registered(join: Join, new: _New) -> None:
    def known(row: Row) -> bool:
        return row["name"] in new.registered

    def moved(row: Row) -> Row:
        inside = new.addresses.inside
        return {**row, "source": inside(row["source"]), "storage_location": inside(row["storage_location"])}

    join.copy("registered_models", known, word="registered models", absent=("name",))
    join.copy("model_versions", known, moved, word="model versions", absent=("name", "version"))
    join.copy("registered_model_tags", known, absent=("name", "key"))
    join.copy("registered_model_aliases", known, absent=("name", "alias"))
    join.copy("model_version_tags", known, absent=("name", "version", "key"))


def _say_elsewhere(addresses: Addresses, outcome: Outcome) -> None:
    for kind, count in addresses.elsewhere.items():
        where = _ELSEWHERE.get(
            kind, f"are at {kind} addresses" if kind != "folders" else "are in folders outside"
        )
        outcome.note(f"the artifacts of {count:,} runs, models or traces {where}; they stayed there")
