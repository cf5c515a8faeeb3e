"""Settings: one typed object, from ``tallystick.toml``, then ``TALLY_*`` variables, then flags.

Each field's metadata says what it is for, its unit and its limits; ``docs/settings.md`` is made
from here. An unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tallystick.core.errors import BadInput

__all__ = ["FILE_NAME", "WITH_PARENT", "Settings", "describe", "load"]

FILE_NAME = "tallystick.toml"
PREFIX = "TALLY_"


def _setting(
    default: Any, doc: str, *, unit: str = "", low: float | None = None, high: float | None = None
) -> Any:
    return field(default=default, metadata={"doc": doc, "unit": unit, "low": low, "high": high})


def _cores() -> int:
    return max(1, len(os.sched_getaffinity(0)))


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a person may choose; see :func:`load` for where the values come from."""

    home: str = _setting("tally-home", "The folder that holds all state; made when it does not exist.")
    host: str = _setting(
        "127.0.0.1", "The address to listen on; beyond loopback is refused without authentication."
    )
    port: int = _setting(5000, "The TCP port to listen on; 0 takes a free one.", low=0, high=65535)
    database: str = _setting(
        "",
        "MLflow's database, as SQLAlchemy has it (`sqlite:///file.db`, `postgresql://user@host/name`);"
        " empty means `mlflow.db` in the home. A password belongs in the variable or in"
        " `~/.pgpass`: a command line is everybody's to read.",
    )
    workspaces: bool = _setting(False, "Whether MLflow's workspaces are on, as in MLflow's own server.")
    artifact_store: str = _setting(
        "",
        "Where MLflow's artifacts are kept: a folder or `s3://bucket/prefix`; empty means `mlartifacts`"
        " in the home.",
    )
    artifact_roots: str = _setting(
        "",
        "Further folders or URIs, separated by commas, whose artifacts MLflow's pages may show.",
    )
    mlflow_idle_s: int = _setting(
        600,
        "Time without a request after which MLflow's own server rests until it is needed again.",
        unit="s",
        low=1,
        high=1_000_000,
    )
    policy: str = _setting("", "The gate's rules, a TOML file; empty means the ones that tallystick brings.")
    unsigned_code: str = _setting(
        "refuse",
        "What to do with a model whose files can run code and that no trusted key vouches for: `refuse` never"
        " loads it; `sandbox` loads it behind the wall all the same, and its verdict says so.",
    )
    rejudge: str = _setting(
        "0 3 * * *",
        "When what serves is judged again, against the threats known by then and on what it is asked: a cron"
        " expression in UTC; empty is never.",
    )
    label: str = _setting("label", "The column that holds the right answer, where nothing else is said.")
    ledger: str = _setting("sqlite", "The ledger tile.")
    artifacts: str = _setting("local", "The artifacts tile.")
    catalogue: str = _setting("iceberg", "The catalogue tile.")
    executor: str = _setting("local", "The executor tile.")
    registry: str = _setting("mlflow", "The registry tile.")
    attack: str = _setting("art", "The attack tile.")
    sandbox: str = _setting("auto", "The sandbox tile; auto is bubblewrap where it works, else process.")
    ray_address: str = _setting(
        "",
        "Where `--on ray` runs steps: `auto` or `host:port` joins a cluster; empty starts Ray on this"
        " machine.",
    )
    kubeflow_hosts: str = _setting(
        "",
        "Addresses of Kubeflow Pipelines, separated by commas, that `--on kubeflow` may hand runs to, beside"
        " those on this machine.",
    )
    kubeflow_token_file: str = _setting("", "The file with the bearer token for those, read at each request.")
    steps_at_once: int = _setting(
        _cores() + 1,
        "Steps of pipelines that run at once on this machine (default: one more than CPU cores, as one of"
        " them mostly begins or ends).",
        low=1,
        high=256,
    )
    step_threads: int = _setting(1, "Threads that numeric libraries use in one step.", low=1, high=256)
    step_cpu_s: int = _setting(3600, "CPU time of one step.", unit="s", low=1, high=10_000_000)
    judge_cpu_s: int = _setting(3600, "CPU time of one judgement.", unit="s", low=1, high=10_000_000)
    probe_s: int = _setting(
        1800,
        "Time of one probe of a judgement: one that takes longer is stopped, and the others go on.",
        unit="s",
        low=1,
        high=10_000_000,
    )
    memory_mib: int = _setting(
        4096, "Memory of one step, judgement or serving process.", unit="MiB", low=64, high=10_000_000
    )
    package_indexes: str = _setting(
        "",
        "Package indexes that components may name beside the one that this machine is set up for, as URLs"
        " separated by commas.",
    )
    package_lock_age_s: int = _setting(
        0,
        "Age at which a component's packages are resolved anew instead of as before; 0 is never.",
        unit="s",
        low=0,
        high=1_000_000_000,
    )
    environments_gib: int = _setting(
        10,
        "Disk that environments of components and uv's cache take; what is not in use and was not for longest"
        " is removed.",
        unit="GiB",
        low=1,
        high=1_000_000,
    )
    upload_mib_max: int = _setting(2048, "Size of one uploaded file.", unit="MiB", low=1, high=10_000_000)
    infer_mib_max: int = _setting(64, "Size of one prediction request.", unit="MiB", low=1, high=4096)
    traffic_mib_max: int = _setting(
        64, "Recorded requests kept for each endpoint.", unit="MiB", low=1, high=1_000_000
    )
    start_s: int = _setting(60, "Time for a serving process to become ready.", unit="s", low=1, high=3600)
    drift_alpha: float = _setting(
        0.01, "Error probability at which a column counts as drifted, over all columns.", low=1e-12, high=0.5
    )
    drift_share_max: float = _setting(
        0.1, "Share of drifted columns above which a signal is raised.", low=0, high=0.99
    )
    drift_rows_min: int = _setting(
        100,
        "Rows that an endpoint must have seen before drift is weighed.",
        unit="rows",
        low=2,
        high=100_000_000,
    )
    drift_rows_max: int = _setting(
        1000, "The newest rows that drift is weighed on.", unit="rows", low=2, high=100_000_000
    )
    drift_ks_min: float = _setting(
        0.1, "KS statistic below which a column has not drifted, however sure that is.", low=0, high=1
    )
    drift_ks_alone: float = _setting(
        0.5, "KS statistic at which a single column is enough for a signal.", low=0, high=1
    )
    worker_idle_s: int = _setting(
        600, "Time without work after which the catalogue's worker ends.", unit="s", low=1, high=1_000_000
    )


def describe() -> list[dict[str, Any]]:
    """Each setting: name, type, default, unit, limits, doc and environment variable."""
    rows = []
    for item in dataclasses.fields(Settings):
        default = "CPU cores + 1" if item.name == "steps_at_once" else item.default
        rows.append(
            {
                "name": item.name,
                "type": item.type,
                "default": default,
                "env": PREFIX + item.name.upper(),
                **item.metadata,
            }
        )
    return rows


def load(
    flags: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None, file: Path | None = None
) -> Settings:
    """Settings from ``file`` (``tallystick.toml`` here, if there is one), ``env``, and ``flags``; later wins.

    Flags that are None were not given. BadInput names the source and the key of what does not fit.
    """
    path = file or Path(FILE_NAME)
    values: dict[str, Any] = {}
    if file or path.is_file():
        for key, value in _read(path).items():
            name = _known(key, str(path))
            values[name] = _fit(name, value, str(path))
    for key, text in (os.environ if env is None else env).items():
        if key.startswith(PREFIX) and key not in _OTHER_VARIABLES:
            name = _known(key.removeprefix(PREFIX).lower(), f"environment variable {key}", PREFIX)
            values[name] = _fit(name, text, f"environment variable {key}")
    for key, value in (flags or {}).items():
        if value is not None:
            name = _known(key, "flag")
            values[name] = _fit(name, value, f"--{key.replace('_', '-')}")
    return Settings(**values)


WITH_PARENT = "TALLY_WITH_PARENT"
_OTHER_VARIABLES = {
    *("TALLY_RUN", "TALLY_STEP", "TALLY_PARENT_RUN", "TALLY_URL", WITH_PARENT),
    *("TALLY_WORKERS", "TALLY_SEED", "TALLY_NODE", "TALLY_KFP_PYTHON"),
}
"""Set by the hub for a step, or by one command for another, or said to one command; not settings."""


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as wrong:
        raise BadInput(f"cannot be read: {wrong.strerror}", where=str(path)) from wrong
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as wrong:
        raise BadInput(f"is not TOML: {wrong}", where=str(path)) from wrong


def _known(key: str, where: str, prefix: str = "") -> str:
    names = [f.name for f in dataclasses.fields(Settings)]
    if key in names:
        return key
    near = difflib.get_close_matches(key, names, n=1)
    shown = prefix + near[0].upper() if near and prefix else (near[0] if near else "")
    hint = f"did you mean {shown}?" if near else "known: " + ", ".join(names)
    raise BadInput(f"no setting {key!r}", where=where, hint=hint)


def _fit(key: str, value: Any, where: str) -> Any:
    """``value`` as its setting's type, within its limits; text is read, as from an environment variable."""
    item = next(f for f in dataclasses.fields(Settings) if f.name == key)
    if item.type == "bool":
        return _switch(key, value, where)
    kind = {"str": str, "int": int, "float": float}[str(item.type)]
    try:
        if isinstance(value, bool) or (kind is str and not isinstance(value, str | Path)):
            raise ValueError
        fitted = kind(value) if isinstance(value, str | Path) or kind is float else value
        if not isinstance(fitted, kind):
            raise ValueError
    except (ValueError, TypeError):
        raise BadInput(f"{key} must be {item.type}, got {value!r}", where=where) from None
    low, high, unit = item.metadata["low"], item.metadata["high"], item.metadata["unit"]
    if isinstance(fitted, int | float) and not (
        (low is None or fitted >= low) and (high is None or fitted <= high)
    ):
        raise BadInput(
            f"{key} must be from {low:g} to {high:g} {unit}".rstrip() + f", got {fitted:g}", where=where
        )
    return fitted


_ON, _OFF = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
_SWITCH = {**dict.fromkeys(_ON, True), **dict.fromkeys(_OFF, False)}


def _switch(key: str, value: Any, where: str) -> bool:
    """``value`` as a switch; text is read, as from an environment variable."""
    said = _SWITCH.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(said, bool):
        raise BadInput(f"{key} must be true or false, got {value!r}", where=where)
    return said
