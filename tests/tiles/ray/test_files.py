"""Files between machines: a stream that becomes what it was, hostile ones, and a bounded shelf."""

from __future__ import annotations

import json
import os

import pytest

from tallystick.core.errors import BadInput, Damaged
from tallystick.crew.ray.parcel import CHUNK_BYTES, Unpacking, digest_of_tree, pack
from tallystick.crew.ray.shelf import Shelf


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    (root / "b" / "empty").mkdir(parents=True)
    (root / "b" / "large").write_bytes(os.urandom(CHUNK_BYTES + 7))
    (root / "ä\n").write_text("")
    (root / "run").write_text("#!")
    (root / "run").chmod(0o755)
    (root / "link").symlink_to("b/large")
    return root


def unpacked(root, pieces):
    unpacking = Unpacking(root)
    for piece in pieces:
        unpacking.feed(piece)
    return unpacking.close()


def seen(root):
    return {
        str(path.relative_to(root)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in root.rglob("*")
    }


def test_a_folder_comes_out_as_it_went_in(tree, tmp_path):
    pieces = list(pack(tree))
    assert max(map(len, pieces)) <= CHUNK_BYTES
    assert unpacked(tmp_path / "other", pieces) == digest_of_tree(tree)
    assert seen(tmp_path / "other") == seen(tree)
    assert os.access(tmp_path / "other" / "run", os.X_OK)
    assert digest_of_tree(tmp_path / "other") == digest_of_tree(tree)


def test_it_does_not_matter_where_the_stream_is_cut(tree, tmp_path):
    whole = b"".join(pack(tree / "ä\n"))
    assert unpacked(tmp_path / "other", [whole[i : i + 1] for i in range(len(whole))])
    assert (tmp_path / "other").read_bytes() == b""


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInput, match="neither a file nor a folder"):
        list(pack(tmp_path / "pipe"))


def _head(kind, *names, **more):
    return json.dumps({"kind": kind, "path": names, **more}).encode() + b"\n"


@pytest.mark.parametrize(
    "stream",
    [
        _head("file", "..", "out", size=0, mode=0o600),
        _head("folder") + _head("folder", ".."),
        _head("folder") + _head("file", "/etc/out", size=0, mode=0o600),
        _head("folder") + _head("file", "a\0b", size=0, mode=0o600),
        _head("folder") + _head("file", "a", size=3, mode=0o600) + b"ab",
        _head("folder") + _head("folder"),
        _head("folder") + _head("end") + b"more",
        _head("folder") + _head("file", "a", size=-1, mode=0o600) + b"ab",
        _head("folder")
        + _head("link", "a", target="..")
        + _head("link", "a", "out", target="x")
        + _head("end"),
        _head("folder") + _head("folder", "a") + _head("link", "a", target="..") + _head("end"),
        _head("folder"),
        b"[]\n",
        b"not json\n",
        b"x" * 100_000,
    ],
)
def test_a_stream_that_lies_makes_nothing_elsewhere(stream, tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(Damaged):
        unpacked(tmp_path / "in" / "root", [stream])
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert not (tmp_path / "in" / "out").is_symlink()


def test_nothing_is_written_through_a_link(tmp_path):
    (tmp_path / "in").mkdir()
    stream = (
        _head("folder")
        + _head("link", "way", target=str(tmp_path))
        + _head("file", "way", "out", size=0, mode=0o600)
        + _head("end")
    )
    with pytest.raises(Damaged):
        unpacked(tmp_path / "in" / "root", [stream])
    assert not (tmp_path / "out").exists()


def put(shelf, path):
    digest = digest_of_tree(path)
    pieces = list(pack(path))
    for number, piece in enumerate(pieces):
        shelf.put(digest, piece, first=number == 0, last=number == len(pieces) - 1)
    return digest


def test_a_full_shelf_lets_go_of_what_nobody_has_open(tmp_path):
    shelf = Shelf(tmp_path / "c", 2500)
    digests = []
    for number in range(4):
        (tmp_path / f"{number}").write_bytes(bytes([number]) * 1000)
        digests.append(put(shelf, tmp_path / f"{number}"))
        if number == 0:
            assert shelf.take(digests[0])
    assert [shelf.path(digest).exists() for digest in digests] == [True, False, False, True]
    shelf.give_back(digests[0])
    put(shelf, tmp_path / "1")
    assert not shelf.path(digests[0]).exists()


def test_what_is_not_its_digest_is_not_kept(tmp_path):
    shelf = Shelf(tmp_path / "c", 10**6)
    (tmp_path / "x").write_text("x")
    with pytest.raises(Damaged, match="changed while it was sent"):
        shelf.put("sha256:" + "0" * 64, b"".join(pack(tmp_path / "x")), first=True, last=True)
    assert not list((tmp_path / "c").iterdir())
