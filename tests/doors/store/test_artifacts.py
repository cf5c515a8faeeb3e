"""`tally artifact` and `tally run --input`: what a name means, what is sent, and what is written."""

from __future__ import annotations

import io
import os
import tarfile

import httpx
import pytest

from tallystick.core.errors import BadInput
from tallystick.terminal.artifacts import uri_of

DIGEST = "sha256:" + "a" * 64
KEPT = {"digest": DIGEST, "uri": f"tally://artifacts/{DIGEST}", "size_bytes": 1, "is_folder": False}


@pytest.fixture
def keeping(desk):
    """A desk whose hub keeps everything; what was sent there, by its content type."""
    desk.answers["POST /api/tally/artifacts"] = KEPT
    desk.sent = lambda: [
        (r.headers["content-type"], r.content) for r in desk.asked if r.url.path.endswith("/artifacts")
    ]
    return desk


# ---------------------------------------------------------------------- what a name means


@pytest.mark.parametrize(
    ("said", "uri"),
    [
        ("digits", "tally://tables/digits"),
        ("digits@7", "tally://tables/digits@7"),
        ("data.csv", "tally://tables/data.csv"),
        ("run-1/model", "tally://runs/run-1/model"),
        ("run-1/for-loop-1[0]/train/model", "tally://runs/run-1/for-loop-1[0]/train/model"),
        (DIGEST, f"tally://artifacts/{DIGEST}"),
        ("tally://models/m@1", "tally://models/m@1"),
    ],
)
def test_what_a_name_means(said, uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "data.csv"):  # what lies here by chance does not decide
        (tmp_path / name).write_text("x")
    assert uri_of(None, said) == uri


@pytest.mark.parametrize("said", ["", "a b", "sha256:1", "-x", "digits@", "@1", "x" * 200])
def test_what_means_nothing(said):
    if said == "digits@":
        assert uri_of(None, said) == "tally://tables/digits"
        return
    with pytest.raises(BadInput):
        uri_of(None, said)


# ---------------------------------------------------------------------- what is sent


@pytest.mark.parametrize("form", ["./{}", "{here}/{}", "file://{here}/{}", "../{dir}/{}"])
def test_a_file_is_sent_and_the_run_is_given_its_digest(keeping, tmp_path, form):
    (tmp_path / "rows.csv").write_bytes(b"a\n\xff")
    (tmp_path / "p.yaml").write_text("spec")
    keeping.answers["POST /api/tally/runs"] = {"key": "run-1", "state": "running", "steps": []}
    said = form.format("rows.csv", here=tmp_path, dir=tmp_path.name)
    done = keeping.type("run", "p.yaml", "-p", "a=1", "--input", f"data={said}", "--no-wait")
    assert done.status == 0, done.err
    assert keeping.sent() == [("application/octet-stream", b"a\n\xff")]
    (body,) = keeping.bodies("POST /api/tally/runs")
    assert body["params_text"] == {"a": "1", "data": KEPT["uri"]}


def test_several_inputs_and_none_sent_twice(keeping, tmp_path):
    (tmp_path / "p.yaml").write_text("spec")
    keeping.answers["POST /api/tally/runs"] = {"key": "run-1", "state": "running", "steps": []}
    words = ("--input", "a=digits", "--input", f"b={DIGEST}", "--input", "c=run-1/write/out")
    keeping.type("run", "p.yaml", *words, "--no-wait")
    (body,) = keeping.bodies("POST /api/tally/runs")
    assert list(body["params_text"]) == ["a", "b", "c"]
    for twice in (("-p", "a=1"), ("--input", "a=x")):
        done = keeping.type("run", "p.yaml", *words, *twice)
        assert (done.status, "'a' is said twice" in done.err) == (2, True)
    assert keeping.sent() == []


def test_a_folder_is_sent_whole(keeping, tmp_path):
    (tmp_path / "d" / "in").mkdir(parents=True)
    (tmp_path / "d" / "in" / "b").write_text("2")
    (tmp_path / "d" / "a").write_text("1")
    assert keeping.type("artifact", "put", "d").out == f"{DIGEST}\n"
    ((kind, content),) = keeping.sent()
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        names = [(entry.name, entry.isdir()) for entry in tar]
    assert (kind, names) == (
        "application/x-tar",
        [("it", True), ("it/a", False), ("it/in", True), ("it/in/b", False)],
    )


@pytest.mark.parametrize("kind", ["link", "pipe", "long", "half"])
def test_what_cannot_be_kept_is_not_sent(keeping, tmp_path, kind):
    folder = tmp_path / "d"
    folder.mkdir()
    if kind == "link":
        (folder / "l").symlink_to("/etc/passwd")
    elif kind == "pipe":
        os.mkfifo(folder / "p")
    elif kind == "long":
        (folder / ("x" * 200)).mkdir()
        (folder / ("x" * 200) / ("y" * 120)).write_text("")
    else:
        with open(os.fsencode(folder) + b"/\xff", "w"):  # noqa: PTH123  reason: a name that is no text
            pass
    done = keeping.type("artifact", "put", "d")
    assert (done.status, keeping.sent()) == (2, []), done.err
    assert str(tmp_path) not in done.out


@pytest.mark.parametrize("word", ["nothing", "p"])
def test_what_is_no_file_is_said(keeping, tmp_path, word):
    os.mkfifo(tmp_path / "p")
    done = keeping.type("artifact", "put", word)
    assert (done.status, keeping.sent()) == (2, [])


# ---------------------------------------------------------------------- what is written


def tar(*names):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 1
            made.addfile(info, io.BytesIO(b"x"))
    return httpx.Response(200, content=out.getvalue())


def test_one_is_written_whole(desk, tmp_path):
    seen = []
    desk.answers["GET /api/tally/artifacts"] = lambda request: (
        seen.append(request.url.params["at"]) or {**KEPT}
    )
    desk.answers[f"GET /api/tally/artifacts/{DIGEST}"] = lambda _: tar("it")
    for said, uri in ((DIGEST, KEPT["uri"]), ("digits", "tally://tables/digits")):
        done = desk.type("artifact", "get", said, f"out/{said[:3]}")
        assert (done.status, seen[-1]) == (0, uri), done.err
        assert (tmp_path / "out" / said[:3]).read_text() == "x"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["dig", "sha"]
    done = desk.type("artifact", "get", DIGEST, "out/sha")
    assert (done.status, "it exists already" in done.err) == (2, True)


def test_what_is_not_there_or_is_no_file_leaves_nothing(desk, tmp_path):
    desk.error("GET /api/tally/artifacts", 404, "NotFound", "no artifact has this digest")
    assert "no artifact has this digest" in desk.type("artifact", "get", DIGEST, "out").err
    desk.answers["GET /api/tally/artifacts"] = KEPT
    for answer in (tar("it/../../x"), tar("else"), httpx.Response(200, content=b"x" * 600)):
        desk.answers[f"GET /api/tally/artifacts/{DIGEST}"] = answer
        assert desk.type("artifact", "get", DIGEST, "out").status != 0
        assert list(tmp_path.iterdir()) == []
