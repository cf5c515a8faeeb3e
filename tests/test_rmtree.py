"""Folders as hostile code may leave them, and how they go all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tallystick import rmtree as program
from tallystick.rmtree import END, rmtree

DEEP = """
import os, sys
os.chdir(sys.argv[1])
for _ in range(int(sys.argv[2])):
    os.mkdir("d" * 40)
    os.chdir("d" * 40)
    open("f", "w").close()
"""


@pytest.fixture(params=["openat2", "without"], autouse=True)
def _kernel(request, monkeypatch):
    """As on a kernel that has openat2(2), and on one that has not."""
    if request.param == "without":
        monkeypatch.setattr(program, "_syscall", lambda *_: -1)


@pytest.fixture
def tree(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    return tree


def deepen(folder: Path, depth: int = 1200) -> None:
    """Folders in folders, far beyond Python's recursion limit and the longest path of the kernel."""
    subprocess.run([sys.executable, "-c", DEEP, str(folder), str(depth)], check=True)


def test_files_links_pipes_and_folders_go(tree):
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").write_text("x")
    os.mkfifo(tree / "a" / "pipe")
    (tree / "broken").symlink_to("nowhere")
    assert rmtree(tree) == ""
    assert not tree.exists()


def test_folders_that_are_empty_or_fill_up_again(tree, monkeypatch):
    """What comes while a folder is emptied goes, too."""
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "file").touch()
    (tree / "empty" / "empty").mkdir(parents=True)
    real, late = os.unlink, iter(["late", "later"])

    def unlink(name, *, dir_fd):
        real(name, dir_fd=dir_fd)
        for fresh in late:
            (tree / "a" / fresh).mkdir()
            (tree / "a" / fresh / "file").touch()
            break

    monkeypatch.setattr(os, "unlink", unlink)
    assert rmtree(tree) == ""
    assert not tree.exists()


def test_one_file_a_link_or_nothing(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path)
    assert rmtree(tmp_path / "file") == ""
    assert rmtree(tmp_path / "link") == ""
    assert rmtree(tmp_path / "never") == ""
    assert rmtree(tmp_path / "never" / "was") == ""
    assert list(tmp_path.iterdir()) == []


def test_no_depth_is_too_deep(tree):
    deepen(tree)
    (tree / "wide").mkdir()
    deepen(tree / "wide", 100)
    assert rmtree(tree) == ""
    assert not tree.exists()


def test_more_names_than_are_held_at_once(tree, monkeypatch):
    monkeypatch.setattr(program, "ENTRIES_MAX", 10)
    for number in range(45):
        (tree / f"{number}").mkdir()
        (tree / f"{number}" / "file").touch()
        (tree / f"{number}.txt").touch()
    assert rmtree(tree) == ""
    assert not tree.exists()


def test_links_are_not_followed(tree, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    (tree / "out").symlink_to(tmp_path / "kept")
    (tree / "up").symlink_to("..")
    assert rmtree(tree) == ""
    assert (tmp_path / "kept" / "file").read_text() == "x"


def test_few_descriptors(tree):
    deepen(tree, 500)
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from tallystick.rmtree import rmtree\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32)); sys.exit(bool(rmtree(Path(sys.argv[1]))))"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(program.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code, str(tree)], check=True, env=env)
    assert not tree.exists()


def test_own_folders_without_permissions(tree):
    """As an ordinary user, whom permissions do bind."""
    inner = tree / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    deepen(inner, 30)
    code = (
        "import os, sys; from pathlib import Path; from tallystick.rmtree import rmtree\n"
        "tree = Path(sys.argv[1])\nif os.getuid() == 0: os.setgid(12345); os.setuid(12345)\n"
        "for part in ('a/b', 'a', '.'): (tree / part).chmod(0)\n"
        "rmtree(tree)\n"
        "sys.exit(bool(os.listdir(tree)) if tree.exists() else 0)"
    )
    if os.getuid() == 0:  # the folders above are root's, so that the outermost one stays
        subprocess.run(["/bin/chown", "-R", "12345:12345", str(tree)], check=True)
        for above in tree.parents:
            if not above.stat().st_mode & 0o001:
                above.chmod(0o755)
    env = {**os.environ, "PYTHONPATH": str(Path(program.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code, str(tree)], check=True, env=env)


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts")
def test_no_mount_is_crossed_and_what_stays_is_said(tree, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    for name in ("bound", "other"):
        (tree / name).mkdir()
    (tree / "file").touch()
    code = (
        'mount --bind "$1" "$2/bound" && exec "$3" -c "import sys; from pathlib import Path; '
        "from tallystick.rmtree import rmtree; "
        'print(rmtree(Path(sys.argv[1])), file=sys.stderr); sys.exit(3)" "$2"'
    )
    done = subprocess.run(
        ["unshare", "--mount", "/bin/sh", "-c", code, "sh", str(kept), str(tree), sys.executable],
        env={**os.environ, "PYTHONPATH": str(Path(program.__file__).parents[1])},
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode != 3:
        pytest.skip(f"this machine mounts nothing: {done.stderr}")
    assert (kept / "file").read_text() == "x"
    assert [p.name for p in tree.iterdir()] == ["bound"]
    assert "something is mounted there" in done.stderr


def test_what_cannot_be_removed_stays_and_the_rest_goes(tree, monkeypatch):
    for name in ("a", "kept", "z"):
        (tree / name).mkdir()
        (tree / name / "file").touch()
    real = os.unlink

    def unlink(name, *, dir_fd):
        if Path(f"/proc/self/fd/{dir_fd}").readlink().name == "kept":
            raise PermissionError(1, "Operation not permitted")
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", unlink)
    assert rmtree(tree) == f"{tree}: 3 things cannot be removed, as 'file': Operation not permitted"
    assert [p.name for p in tree.iterdir()] == ["kept"]


def test_it_can_be_stopped(tree):
    (tree / "file").touch()
    assert "it was interrupted" in rmtree(tree, lambda: True)
    assert (tree / "file").exists()


def test_the_program_answers_each_request_with_a_line(tmp_path):
    """Of several paths, whatever is in their names; one that stays says why."""
    names = ["a", "line\nbreak", os.fsdecode(b"not-\xff-text")]
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    first = b"\0".join(os.fsencode(tmp_path / name) for name in names)
    second = b"\0".join((b"/proc/self", os.fsencode(tmp_path / "file")))
    asked = first + END + second + END
    command = [sys.executable, "-I", "-S", program.__file__]
    ran = subprocess.run(command, input=asked, capture_output=True, check=False)
    lines = ran.stdout.decode().split("\n")
    assert (ran.returncode, ran.stderr, len(lines), lines[0], lines[2]) == (0, b"", 3, "", "")
    assert "/proc/self" in lines[1]
    assert list(tmp_path.iterdir()) == []
