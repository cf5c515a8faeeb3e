"""What every inspection must do. Subclass it and say how the tile opens."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput
from tallystick.evidence.supply import Inspected, Standing
from tallystick.ports.models.inspection import Inspection

__all__ = ["InspectionProof"]

HOSTILE = b"cos\nsystem\n(S'touch ran'\ntR."


def _zipped(**members: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return made.getvalue()


class InspectionProof:
    """The conformance suite of :class:`tallystick.ports.models.inspection.Inspection`."""

    def open(self, home: Path) -> Inspection:
        """Open the tile."""
        raise NotImplementedError

    def inspect(self, home: Path, **files: bytes) -> Inspected:
        """Files by name, looked at."""
        folder = home / "model"
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return self.open(home).inspect(folder, lambda share, text: None)

    def test_it_is_of_the_port(self, tmp_path: Path) -> None:
        tile = self.open(tmp_path)
        assert isinstance(tile, Inspection)
        assert tile.versions()

    def test_every_file_is_named_with_its_digest_and_size(self, tmp_path: Path) -> None:
        found = self.inspect(tmp_path, a=b'{"x": 1}', b=b"plain words\n")
        assert [(f.path, f.size_bytes, f.standing) for f in found.files] == [
            ("a", 8, Standing.DATA),
            ("b", 12, Standing.DATA),
        ]
        assert found.files[0].digest == "sha256:" + hashlib.sha256(b'{"x": 1}').hexdigest()
        assert found.standing is Standing.DATA

    def test_members_of_an_archive_are_named_behind_it(self, tmp_path: Path) -> None:
        found = self.inspect(tmp_path, z=_zipped(one=b'{"x": 1}', two=pickle.dumps([1])))
        looked = {f.path: f for f in found.files}
        assert set(looked) == {"z", "z!one", "z!two"}
        assert looked["z!one"].digest == "sha256:" + hashlib.sha256(b'{"x": 1}').hexdigest()
        assert looked["z!two"].standing is Standing.CODE

    @pytest.mark.parametrize("name", ["model.onnx", "model.safetensors", "notes.txt", "MLmodel"])
    def test_a_name_makes_nothing_better(self, tmp_path: Path, name: str) -> None:
        found = self.inspect(tmp_path, **{name: b"\x80\x02" + HOSTILE})
        assert found.standing is Standing.REFUSED
        [looked] = found.worst
        assert looked.path == name
        assert looked.why

    def test_nothing_is_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        self.inspect(tmp_path, a=b"\x80\x02" + HOSTILE, b=HOSTILE, c=_zipped(x=HOSTILE))
        assert not list(tmp_path.rglob("ran"))

    def test_what_cannot_be_made_out_is_refused_and_no_error(self, tmp_path: Path) -> None:
        odd = {f"f{n}": data for n, data in enumerate(_odd())}
        found = self.inspect(tmp_path, **odd)
        assert {f.path for f in found.worst if f.standing is Standing.REFUSED} == set(odd)

    def test_links_and_pipes_are_refused_without_being_opened(self, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "link").symlink_to("/etc/passwd")
        (folder / "folder").symlink_to("/etc")
        os.mkfifo(folder / "pipe")
        found = self.open(tmp_path).inspect(folder, lambda share, text: None)
        assert {f.path for f in found.worst if f.standing is Standing.REFUSED} == {"link", "folder", "pipe"}
        assert len(found.files) == 3

    def test_what_is_no_folder_is_bad_input(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"x")
        (tmp_path / "link").symlink_to(tmp_path)
        for path in ("file", "link", "absent"):
            with pytest.raises(BadInput):
                self.open(tmp_path).inspect(tmp_path / path, lambda share, text: None)

    def test_progress_is_a_growing_share(self, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        folder.mkdir()
        for n in range(5):
            (folder / f"{n}.json").write_text(json.dumps(list(range(100))))
        said: list[float] = []
        self.open(tmp_path).inspect(folder, lambda share, text: said.append(share))
        assert said == sorted(said)
        assert all(0 <= share <= 1 for share in said)

    def test_an_empty_folder_has_no_files(self, tmp_path: Path) -> None:
        assert self.inspect(tmp_path).files == ()


def _odd() -> list[bytes]:
    """Beginnings of known formats that come to nothing, and bytes of none."""
    archive = _zipped(a=b"x" * 100)
    whole = pickle.dumps({"a": [1, 2, 3]})
    return [
        b"\x7fELF" + bytes(60),
        b"#!/bin/sh\ntrue\n",
        archive[:-3],
        archive[:40],
        archive + b"x",
        b"x" + archive,
        whole[:-2],
        whole + b"\xff",
        b"\x93NUMPY\x01\0\xff\xff{",
        b"\x93NUMPY\x01\0\x02\0{}",
        b"\x89HDF\r\n\x1a\n" + bytes(20),
        b"PAR1" + bytes(9),
        b"\x1f\x8b" + bytes(30),
        b"BZh91AY&SY" + bytes(9),
        b"\xfd7zXZ\0" + bytes(9),
        b"\x89PNG\r\n\x1a\n" + bytes(9),
        bytes(range(256)),
        b"\x08\x09\x12\x03abc",
        b"{L" + bytes(8) + b"\xff",
    ]
