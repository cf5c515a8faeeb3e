"""What `tally verify` says of each kind of damage, word for word: a person acts on it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.doors.vouch.checking import PAPERS, verify


def change(name: str) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        raw = bytearray((folder / name).read_bytes())
        raw[len(raw) // 2] ^= 1
        (folder / name).write_bytes(raw)

    return do


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return do


def gone(name: str) -> Callable[[Path], None]:
    return lambda folder: (
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
    )


def linked(folder: Path) -> None:
    (folder / "model" / "model.onnx").unlink()
    (folder / "model" / "model.onnx").symlink_to("MLmodel")


def swapped(name: str, other: str) -> Callable[[Path], None]:
    return lambda folder: shutil.copy(folder / other, folder / name)


def unsigned(folder: Path) -> None:
    wire = json.loads((folder / "provenance.json").read_bytes())
    wire["signatures"][0]["sig"] = "AAAA"
    (folder / "provenance.json").write_text(json.dumps(wire))


CHANGED = "it names 'hub.pem', so it was changed since, or somebody else wrote that name on it"
DAMAGE = {
    "a file changed": (
        change("model/model.onnx"),
        "provenance: the files are not those of provenance.json: model.onnx is changed",
    ),
    "a file cut off": (
        write("model/model.onnx", b""),
        "provenance: the files are not those of provenance.json: model.onnx is changed",
    ),
    "a file missing": (
        gone("model/MLmodel"),
        "provenance: the files are not those of provenance.json: MLmodel is missing",
    ),
    "a file added": (
        write("model/setup.py", b"x"),
        "provenance: the files are not those of provenance.json: setup.py is not in it",
    ),
    "a file added beside": (
        write("README", b"x"),
        "files: FOLDER: there is more than belongs to a model: README",
    ),
    "a file in a folder added": (
        write("model/deep/er/x", b"x"),
        "provenance: the files are not those of provenance.json: deep/er/x is not in it",
    ),
    "a link": (linked, "files: model.onnx: it is a link"),
    "a pipe": (lambda folder: os.mkfifo(folder / "model" / "pipe"), "files: pipe: it is no regular file"),
    "no model": (gone("model"), "files: FOLDER/model: it is no folder: No such file or directory"),
    "provenance changed": (
        change("provenance.json"),
        "provenance: provenance.json: no trusted key signed it as it is: " + CHANGED,
    ),
    "provenance unsigned": (
        unsigned,
        "provenance: provenance.json: no trusted key signed it as it is: " + CHANGED,
    ),
    "provenance missing": (gone("provenance.json"), "provenance: FOLDER: there is no provenance.json"),
    "provenance no JSON": (
        write("provenance.json", b"<html>"),
        "provenance: provenance.json: it is not plain JSON: Expecting value: line 1 column 1 (char 0)",
    ),
    "signature changed": (
        change("model.sig"),
        "signature: model.sig: it is not the one that the provenance names",
    ),
    "signature missing": (gone("model.sig"), "signature: FOLDER: there is no model.sig"),
    "bom changed": (change("bom.json"), "bom: bom.json: it is not the one that the provenance names"),
    "bom missing": (gone("bom.json"), "bom: FOLDER: there is no bom.json"),
    "verdict changed": (
        change("verdict.json"),
        "verdict: verdict.json: no trusted key signed it as it is: " + CHANGED,
    ),
    "verdict missing": (
        gone("verdict.json"),
        "verdict: there is no verdict.json: it was not judged, or that paper was taken away",
    ),
    "verdict is a provenance": (
        swapped("verdict.json", "provenance.json"),
        "verdict: verdict.json: it is a statement of another kind ('https://slsa.dev/provenance/v1')",
    ),
    "bom is a signature": (
        swapped("bom.json", "model.sig"),
        "bom: bom.json: it is not the one that the provenance names",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_each_kind_of_damage_is_said_exactly(desk, key, download, what):
    damage, words = DAMAGE[what]
    assert sorted(path.name for path in download.iterdir()) == sorted(["model", *PAPERS])
    damage(download)
    said = verify(desk, key, download)
    assert said.status == 1
    assert said.json["why"].replace(str(download), "FOLDER") == words
    assert said.err.replace("\n", " ").strip().endswith(said.json["why"])
