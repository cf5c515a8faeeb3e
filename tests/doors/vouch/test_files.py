"""Files of a download: links, pipes and what has no end are refused, and memory stays small."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from tallystick.core.errors import Refused
from tallystick.doors.vouch.files import members_in, names_in
from tallystick.evidence.papers.tree import tree_digest
from tests.doors.vouch.checking import PAPERS, refused, verify


def test_a_file_more_is_refused_wherever_it_is(desk, key, download):
    (download / "model" / "extra.py").write_text("import os")
    refused(desk, key, download, "provenance", "extra.py is not in it")
    (download / "model" / "extra.py").unlink()
    (download / "conftest.py").write_text("import os")
    refused(desk, key, download, "files", "conftest.py")


@pytest.mark.parametrize("name", ["model/link", "model", "model/MLmodel", *PAPERS])
def test_a_link_is_never_followed(desk, key, download, tmp_path, name):
    place = download / name
    if place.exists():
        place.rename(tmp_path / "elsewhere")
    else:
        (tmp_path / "elsewhere").write_text("x")
    place.symlink_to(tmp_path / "elsewhere")
    assert verify(desk, key, download).status == 1


def test_a_pipe_is_not_waited_for(desk, key, download):
    os.mkfifo(download / "model" / "pipe")
    refused(desk, key, download, "files", "no regular file")
    (download / "model" / "pipe").unlink()
    (download / "verdict.json").unlink()
    os.mkfifo(download / "verdict.json")
    refused(desk, key, download, "verdict", "no regular file")


def test_a_name_that_is_no_text_is_refused(desk, key, download):
    (Path(os.fsdecode(os.fsencode(download / "model") + b"/\xff"))).write_text("x")
    refused(desk, key, download, "files", "UTF-8")


def test_memory_stays_small_whatever_the_files_are(tmp_path):
    """A file of 1 GiB that takes no room on the disk: sparse."""
    (tmp_path / "model").mkdir()
    with (tmp_path / "model" / "huge").open("wb") as file:
        file.truncate(2**30)
    seen = []
    tracemalloc.start()
    try:
        (member,) = members_in(tmp_path / "model", seen.append)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert member.size_bytes == sum(seen) == 2**30
    assert peak < 16 * 2**20


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    file = tmp_path / "model" / "f"
    file.write_bytes(b"x" * 2**21)

    def grow(_):
        with file.open("ab") as more:
            more.write(b"y" * 2**21)

    with pytest.raises(Refused, match="changed while"):
        members_in(tmp_path / "model", grow)


def test_folders_that_go_on_for_ever_are_refused(tmp_path):
    deep = tmp_path / "model"
    for _ in range(80):
        deep = deep / "d"
    deep.mkdir(parents=True)
    with pytest.raises(Refused, match="deep"):
        members_in(tmp_path / "model")


def test_the_tree_is_the_store_s(desk, model, download):
    assert tree_digest(members_in(download / "model")) == model.digest


def test_a_huge_paper_is_not_read(desk, key, download):
    with (download / "provenance.json").open("r+b") as file:
        file.truncate(2**30)
    refused(desk, key, download, "provenance", "over")


def test_nothing_is_written_over(desk, model, tmp_path):
    (tmp_path / "there").mkdir()
    said = desk.type("download", model.key, str(tmp_path / "there"))
    assert said.status == 2
    assert "exists" in said.err
    (tmp_path / "dangling").symlink_to("nowhere")
    assert desk.type("download", model.key, str(tmp_path / "dangling")).status == 2
    assert names_in(tmp_path / "there") == []


def test_a_download_comes_whole_or_not_at_all(desk, model, tmp_path):
    digest = next(
        d for d in desk.house.artifacts.blobs if not desk.house.artifacts.blobs[d].startswith(b"\0")
    )
    members = desk.portal.call(desk.house.artifacts.members, model.digest)
    digest = members[0].digest
    desk.house.artifacts.blobs[digest] = b"damaged"
    assert desk.type("download", model.key, str(tmp_path / "half" / "it")).status == 1
    assert names_in(tmp_path / "half") == []
