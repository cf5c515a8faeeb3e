"""What tests of `tally verify` share: to check a download elsewhere, and to sign a paper anew."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from tests.fakes.house.made import judged, made_model

PAPERS = ["bom.json", "model.sig", "provenance.json", "verdict.json"]


def verify(desk, key, folder, *more):
    return desk.elsewhere("verify", str(folder), "--key", str(key), "--json", *more)


def refused(desk, key, folder, check, words, *more):
    """It ends with status 1, and the first thing that is wrong is ``check``, for ``words``."""
    said = verify(desk, key, folder, *more)
    assert said.status == 1, said
    assert said.json["ok"] is False
    first = next(c for c in said.json["checks"] if not c["ok"])
    assert first["name"] == check, said.json
    assert words in first["text"]
    assert said.json["why"] == f"{check}: {first['text']}"
    assert said.json["why"] in said.err.replace("\n", " ")
    return said.json


def other_download(desk, tmp_path, version=2):
    other, _ = desk.run(made_model, version=version)
    desk.run(judged, other)
    folder = tmp_path / "out" / f"other-{version}"
    assert desk.type("download", other.key, str(folder)).status == 0
    return folder


def resigned(folder: Path, name: str, signer: Any, change: Any) -> None:
    """A paper with ``change`` made to its statement, under somebody's own signature."""
    wire = json.loads((folder / name).read_bytes())
    statement = json.loads(base64.b64decode(wire["payload"]))
    change(statement)
    envelope = signer.sign(wire["payloadType"], json.dumps(statement).encode())
    (folder / name).write_text(json.dumps(envelope))
