"""Artifacts in a folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput, Conflict, NotFound, Unavailable
from tallystick.crew.mlflow.child import sweep
from tallystick.ports.files import Files
from tallystick.ports.tile import Place
from tallystick.proofs.files import (
    MIB,
    Broken,
    FilesProof,
    broken,
    held,
    pieces,
    read_all,
    sha256,
    some_bytes,
)
from tallystick.tiles.files.local import LocalFiles, open_tile


class TestLocalFiles(FilesProof):
    async def open(self, home: Path) -> Files:
        return open_tile(Place(home))


def names_below(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


async def test_the_layout_is_mlflows_own(files: LocalFiles, root: Path) -> None:
    await files.put("1/run/artifacts/model/MLmodel", pieces(b"flavors: {}"))
    assert names_below(root) == ["1/run/artifacts/model/MLmodel"]
    assert (root / "1/run/artifacts/model/MLmodel").read_bytes() == b"flavors: {}"
    (root / "1/run/artifacts/by-mlflow.txt").write_bytes(b"theirs")
    assert await read_all(files, "1/run/artifacts/by-mlflow.txt") == b"theirs"


async def test_mlflow_shows_no_upload_under_way_and_its_sweep_leaves_it(
    files: LocalFiles, root: Path
) -> None:
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    with pytest.raises(Broken):
        await files.put("a", broken(some_bytes(MIB)))
    assert await files.partial("a") == MIB
    (root / ".artifact.uploading.mlflows").write_bytes(b"x")
    assert LocalArtifactRepository(root.as_uri()).list_artifacts() == []
    assert list(await files.list()) == []
    assert sweep(root, before=2**40) == 1
    assert await files.partial("a") == MIB


@pytest.mark.parametrize("target", ["outside", "../outside", "/etc", "nowhere", "inside"])
async def test_no_link_is_followed(files: LocalFiles, root: Path, tmp_path: Path, target: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    await files.put("inside/secret", pieces(b"inside"))
    (root / "link").symlink_to(tmp_path / target if target == "outside" else target)
    (root / "file").symlink_to(tmp_path / "outside" / "secret")
    (root / "fifo").parent.mkdir(exist_ok=True)
    os.mkfifo(root / "fifo")
    for path in ("link", "file", "link/secret", "link/passwd", "fifo"):
        with pytest.raises(NotFound):
            await files.stat(path)
        with pytest.raises(NotFound):
            await read_all(files, path)
        with pytest.raises(NotFound):
            await files.delete(path)
        with pytest.raises(Conflict):
            await files.put(path, pieces(b"mine"))
    assert list(await files.list("link")) == []
    assert [i.path for i in await files.list()] == ["inside"]
    assert (tmp_path / "outside" / "secret").read_bytes() == b"secret"
    assert sorted(p.name for p in (tmp_path / "outside").iterdir()) == ["secret"]


async def test_a_link_in_a_removed_folder_is_not_followed(
    files: LocalFiles, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_bytes(b"x")
    await files.put("r/a", pieces(b"x"))
    (root / "r" / "link").symlink_to(tmp_path / "outside")
    await files.delete("r")
    assert not (root / "r").exists()
    assert (tmp_path / "outside" / "kept").read_bytes() == b"x"


async def test_folders_swapped_for_links_meanwhile_lead_nowhere(
    files: LocalFiles, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    await files.put("real/f", pieces(b"inside"))
    real, was = root / "real", root / "was"
    ended = threading.Event()

    def swap() -> None:
        while not ended.is_set():
            real.rename(was)
            with contextlib.suppress(FileExistsError):  # an upload may have made it anew, as a folder
                real.symlink_to(outside)
                real.unlink()
            while was.exists():
                with contextlib.suppress(OSError):
                    was.rename(real)
                if was.exists():
                    shutil.rmtree(real, ignore_errors=True)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(200):
            with contextlib.suppress(NotFound, Conflict, Unavailable):
                await files.put("real/new", pieces(b"mine"))
                assert await read_all(files, "real/f") == b"inside"
    finally:
        ended.set()
        swapping.join()
    assert list(outside.iterdir()) == []


async def test_a_file_in_the_way_is_a_conflict(files: LocalFiles) -> None:
    await files.put("a", pieces(b"x"))
    with pytest.raises(Conflict):
        await files.put("a/b", pieces(b"y"))
    assert await read_all(files, "a") == b"x"


async def test_a_cut_off_upload_is_kept_and_gone_on_with_after_reopening(
    files: LocalFiles, root: Path
) -> None:
    content = some_bytes(3 * MIB)
    with pytest.raises(Broken):
        await files.put("a/b", broken(content[:MIB]))
    await files.close()
    again = open_tile(Place(root.parent, {"artifact_store": root}))
    assert await again.partial("a/b") == MIB
    assert (await again.put("a/b", pieces(content[MIB:]), offset=MIB, sha256=sha256(content))).size == 3 * MIB
    assert await read_all(again, "a/b") == content
    assert names_below(root) == ["a/b"]
    await again.close()


async def test_a_whole_upload_that_was_not_put_in_its_place_needs_no_more(files: LocalFiles) -> None:
    content = some_bytes(MIB)
    with pytest.raises(Broken):
        await files.put("a", broken(content))
    assert (await files.put("a", pieces(b""), offset=MIB, sha256=sha256(content))).size == MIB
    assert await read_all(files, "a") == content


async def test_an_upload_from_the_start_forgets_what_was_kept(files: LocalFiles) -> None:
    with pytest.raises(Broken):
        await files.put("a", broken(some_bytes(2 * MIB)))
    await files.put("a", pieces(b"short"))
    assert await read_all(files, "a") == b"short"
    assert await files.partial("a") == 0


async def test_a_wrong_digest_after_going_on_keeps_nothing(files: LocalFiles, root: Path) -> None:
    with pytest.raises(Broken):
        await files.put("a", broken(some_bytes(MIB)))
    with pytest.raises(BadInput):
        await files.put("a", pieces(b"rest"), offset=MIB, sha256=sha256(b""))
    assert await files.partial("a") == 0
    assert names_below(root) == []


async def test_while_one_uploads_nobody_goes_on_with_it(files: LocalFiles) -> None:
    going, more = await held(files, "a", some_bytes(MIB), b"end")
    assert await files.partial("a") == MIB  # its connection may be dead: whoever asks again finds out
    with pytest.raises(Conflict, match="going on"):
        await files.put("a", pieces(b"x"), offset=MIB)
    assert (await files.put("a", pieces(b"another"))).size == 7
    more.set()
    assert (await going).size == MIB + 3
    assert await read_all(files, "a") == some_bytes(MIB) + b"end"


async def test_what_is_old_is_swept_but_not_what_is_under_way(files: LocalFiles, root: Path) -> None:
    going, more = await held(files, "slow", some_bytes(MIB))
    with pytest.raises(Broken):
        await files.put("old", broken(some_bytes(MIB)))
    staging = root / ".artifact.uploading.tally"
    (staging / "a-folder-half-removed").mkdir()
    for path in staging.iterdir():
        os.utime(path, (1, 1))
    with pytest.raises(Broken):
        await files.put("new", broken(some_bytes(MIB)))
    again = open_tile(Place(root.parent, {"artifact_store": root}))
    await again.put("other", pieces(b"x"))
    await again.close()
    assert [await files.partial(p) for p in ("old", "new")] == [0, MIB]
    assert not (staging / "a-folder-half-removed").exists()
    more.set()
    assert (await going).size == MIB


async def test_an_upload_survives_the_removal_of_its_folder(files: LocalFiles) -> None:
    async def uploads() -> None:
        for n in range(60):
            await files.put("r/sub/a", pieces(b"%d" % n))

    async def removals() -> None:
        for _ in range(60):
            with contextlib.suppress(NotFound):
                await files.delete("r")

    await asyncio.gather(uploads(), removals())
    await files.put("r/sub/a", pieces(b"end"))
    assert await read_all(files, "r/sub/a") == b"end"


@pytest.mark.parametrize("option", [3, ["x"]])
def test_what_is_no_folder_is_refused(tmp_path: Path, option: object) -> None:
    with pytest.raises(BadInput):
        open_tile(Place(tmp_path, {"artifact_store": option}))


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((Unavailable, Conflict)):
        open_tile(Place(tmp_path, {"artifact_store": tmp_path / "file"}))


async def test_a_root_that_is_gone_is_said(files: LocalFiles, root: Path) -> None:
    os.rename(root, root.with_name("gone"))  # noqa: PTH104  # pathlib's is refused in a coroutine
    with pytest.raises(Unavailable):
        await files.put("a", pieces(b"x"))
    with pytest.raises(NotFound):
        await files.stat("a")
    assert list(await files.list()) == []


IN_ANOTHER_PROCESS = """
import asyncio, sys
from pathlib import Path
from tallystick.core.errors import TallyError
from tallystick.ports.tile import Place
from tallystick.tiles.files.local import open_tile

async def content(size):
    for _ in range(size // 2**16):
        yield bytes(2**16)
    print("arrived", flush=True)
    if "hang" in sys.argv:
        await asyncio.Event().wait()

async def main():
    files = open_tile(Place(Path(sys.argv[1])))
    try:
        await files.put("a", content(int(sys.argv[2])))
    except TallyError as wrong:
        print(type(wrong).__name__, wrong, await files.partial("a"), flush=True)
    await files.close()

asyncio.run(main())
"""


async def test_a_full_disk_changes_nothing_and_is_given_its_room_back(tmp_path: Path) -> None:
    files = open_tile(Place(tmp_path))
    await files.put("a", pieces(b"old"))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))

    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", IN_ANOTHER_PROCESS, str(tmp_path), str(4 * MIB)],
        preexec_fn=limit,  # it calls nothing but setrlimit
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "Unavailable" in ended.stdout
    assert "full" in ended.stdout
    assert ended.stdout.rstrip().endswith(" 0")
    assert await read_all(files, "a") == b"old"
    assert names_below(tmp_path / "mlartifacts") == ["a"]
    await files.close()


async def test_killed_in_the_middle_leaves_the_old_and_what_had_come(tmp_path: Path) -> None:
    files = open_tile(Place(tmp_path))
    await files.put("a", pieces(b"old"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", IN_ANOTHER_PROCESS, str(tmp_path), str(4 * MIB), "hang", stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 60) == b"arrived\n"
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    assert await read_all(files, "a") == b"old"
    kept = await files.partial("a")
    assert kept == 4 * MIB
    await files.put("a", pieces(b"end"), offset=kept, sha256=sha256(bytes(4 * MIB) + b"end"))
    assert (await files.stat("a")).size == 4 * MIB + 3
    await files.close()
