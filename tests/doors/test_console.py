"""The console over a whole life in memory: every page and link, hostile names, what must not be served."""

from __future__ import annotations

import json
import shlex
from collections.abc import AsyncIterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette

from tallystick.core.facts import Fact, to_json
from tallystick.core.names import digest_of
from tallystick.core.remedy import Remedy, RemedyState
from tallystick.core.run.events import Run, RunState
from tallystick.doors.console import console_missing, console_routes
from tests.doors.console.world import STUDY, lived, view_of
from tests.fakes.ledger import MemoryLedger
from tests.fakes.life import EVIL, NOW_MS, Life, png

GOOD, BAD, LIVE = "run-019c2f7a1b00-4f1a2c", "run-019c2f8e4a00-9be013", "run-019c2f9b7700-c0ffee"
JUDGED = "verdict-019c2f7b0276-1a2b3c"
PAGES = (
    "/", "/data", "/data/digits", "/pipelines", "/runs", f"/runs/{GOOD}", f"/runs/{BAD}", f"/runs/{LIVE}",
    f"/runs/{GOOD}/log?step=harden", f"/runs/{GOOD}/timeline", f"/runs/{LIVE}/timeline",
    f"/runs/{GOOD}/steps?state=succeeded", f"/runs/{GOOD}/step?path=split",
    f"/runs/{LIVE}/step?path=for-each-depth%5B1%5D/train", f"/runs/{GOOD}/diff", f"/runs/{GOOD}/diff/{BAD}",
    "/schedules", "/studies", f"/studies/{STUDY}",
    "/models", "/models/digits", "/models/digits/1", "/models/digits/2",
    "/models/digits-forest/1", "/verdicts", "/verdicts/verdict-019c2f7b0276-1a2b3c",
    "/verdicts/verdict-019c2f9b8000-77aa01", "/endpoints", "/endpoints/digits", "/endpoints/forest",
    "/signals",
    "/signals/signal-019c2f9a0000-5eed01", "/remedies", "/remedies/remedy-019c2f9a1000-0ff1ce", "/log",
)  # fmt: skip


def client_of(life: Life) -> httpx.AsyncClient:
    view = view_of(life)
    app = Starlette(routes=console_routes(view), exception_handlers={404: console_missing(view)})
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8080")


@pytest.fixture
async def life(tmp_path: Path) -> Life:
    return await lived(tmp_path)


@pytest.fixture
async def web(life: Life) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(life) as client:
        yield client


class Reader(HTMLParser):
    """What matters of a page: tags with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def twin(path: str) -> str:
    base, _, query = path.partition("?")
    return ("/index.json" if base == "/" else f"{base}.json") + (f"?{query}" if query else "")


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_is_whole_strict_and_safe(web: httpx.AsyncClient, path: str) -> None:
    answer = await web.get(path)
    page = Reader(answer.text)
    assert answer.status_code == 200
    assert len(page.all("h1")) == 1
    assert len(page.all("main")) == 1
    csp = answer.headers["content-security-policy"]
    assert csp.startswith("default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'")
    assert "unsafe" not in csp
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert [s["src"] for s in page.all("script")] == [
        s["src"] for s in page.all("script") if "/static/" in s["src"]
    ]
    assert len(page.all("script")) == 1
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
    for picture in page.all("svg"):
        assert picture.get("aria-label") or picture.get("aria-hidden"), picture
    assert all(image["alt"] for image in page.all("img"))
    assert all("/artifacts/" in str(image["src"]) for image in page.all("img"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_says_the_same_as_json(web: httpx.AsyncClient, path: str) -> None:
    answer = await web.get(twin(path))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()
    page = Reader((await web.get(path)).text)
    asked = [a["href"] for a in page.all("a") if str(a["href"]).partition("?")[0].endswith(".json")]
    assert urlsplit(str(asked[-1])).path == urlsplit(twin(path)).path


async def test_every_link_leads_somewhere(web: httpx.AsyncClient) -> None:
    seen, ahead = {"/"}, ["/"]
    while ahead:
        path = ahead.pop()
        answer = await web.get(path)
        gone = path.startswith("/artifacts/") and answer.status_code == 404
        assert answer.status_code == 200 or gone, path
        if not answer.headers["content-type"].startswith("text/html"):
            continue
        for link in Reader(answer.text).all("a"):
            to = str(link["href"]).partition("#")[0]
            folds = to.count("open=") + to.count("fold=")  # every choice of what is open is a link of its own
            if to and not to.startswith("/mlflow/") and to not in seen and folds <= 1:
                assert to.startswith("/"), to
                seen.add(to)
                ahead.append(to)
    assert len(seen) > 60


@pytest.mark.parametrize("path", PAGES)
async def test_hostile_names_are_only_ever_text(web: httpx.AsyncClient, path: str) -> None:
    answer = await web.get(path)
    assert "<script>alert" not in answer.text
    assert "<img src=x" not in answer.text
    assert "onerror=alert" not in json.dumps([a for _, a in Reader(answer.text).tags if "onerror" in a])


async def test_the_overview_counts_what_is_there(web: httpx.AsyncClient) -> None:
    spine = {stop["noun"]: stop for stop in (await web.get("/.json")).json()["spine"]}
    assert list(spine) == ["data", "pipeline", "run", "model", "verdict", "endpoint", "signal", "remedy"]
    assert spine["run"] == {"noun": "run", "count": 3, "states": ["1 running", "1 failed", "1 succeeded"]}
    assert spine["verdict"]["states"] == ["1 judging", "1 refused", "1 passed"]
    page = Reader((await web.get("/")).text)
    assert "1 succeeded" in page.text
    assert "digits@2 passed" in page.text
    assert "/mlflow/" in [a["href"] for a in page.all("a")]


async def test_an_empty_house_says_what_to_type(life: Life) -> None:
    life.ledger = MemoryLedger()
    async with client_of(life) as web:
        page = (await web.get("/")).text
        assert "tally demo" in page
        assert "tally ingest TABLE FILE" in page
        for path in (
            "/data",
            "/runs",
            "/pipelines",
            "/models",
            "/verdicts",
            "/endpoints",
            "/signals",
            "/remedies",
            "/schedules",
            "/studies",
        ):
            assert (await web.get(path)).status_code == 200
            assert "No " in (await web.get(path)).text
        assert "No facts yet" in (await web.get("/log")).text


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/data/nope", "there is digits"), ("/runs/nope", GOOD), ("/models/nope", "models: digits"),
        ("/models/digits/9", "digits@2"), ("/verdicts/nope", "verdict-"), ("/endpoints/nope", "forest"),
        ("/signals/nope", "signal-"), ("/remedies/nope", "remedy-"),
        (f"/runs/{GOOD}/log?step=nope", "import-digits"), (f"/runs/{GOOD}/step?path=nope", "import-digits"),
        (f"/runs/{GOOD}/diff/nope", GOOD), ("/studies/nope", STUDY), ("/runs/nope/timeline", GOOD),
        ("/artifacts/" + digest_of("never stored"), ""),
        ("/nothing/here", "overview"),
    ],
)  # fmt: skip
async def test_what_is_not_there_is_answered_with_help(web: httpx.AsyncClient, path: str, said: str) -> None:
    answer = await web.get(path, headers={"accept": "text/html"})
    assert answer.status_code == 404
    assert said in answer.text
    assert 'href="/"' in answer.text


async def test_errors_of_json_are_json(web: httpx.AsyncClient) -> None:
    answer = await web.get("/runs/nope.json")
    assert answer.status_code == 404
    assert answer.json()["error"] == "NotFound"
    assert GOOD in answer.json()["hint"]
    assert (await web.get("/log.json?noun=nope")).status_code == 400


@pytest.mark.parametrize(
    ("path", "live"),
    [
        ("/", True), ("/runs", True), (f"/runs/{GOOD}", False), (f"/runs/{LIVE}", True),
        ("/models/digits/2", False),
        ("/models/digits-forest/1", True), ("/verdicts/verdict-019c2f7b0270-2a2b3c", False),
        ("/endpoints/digits", True), ("/endpoints/forest", False),
        ("/log", False), ("/remedies/remedy-019c2f9a1000-0ff1ce", True),
    ],
)  # fmt: skip
async def test_a_page_is_live_only_while_something_runs(
    web: httpx.AsyncClient, path: str, live: bool
) -> None:
    (main,) = Reader((await web.get(path)).text).all("main")
    assert ("data-live" in main) is live


async def test_an_endpoint_is_live_until_it_rests(life: Life, web: httpx.AsyncClient) -> None:
    done = replace(await view_of(life).one(Remedy, "remedy-019c2f9a1000-0ff1ce"), state=RemedyState.DONE)
    await life.ledger.append([Fact("remedy", done.key, "done", to_json(done), at_ms=NOW_MS)])
    for per_second, live in (([0] * 59 + [1], True), ([0] * 60, False)):
        life.traffic.per_second = per_second
        (main,) = Reader((await web.get("/endpoints/digits")).text).all("main")
        assert ("data-live" in main) is live


async def test_a_run_shows_its_graph_steps_and_where_it_is_in_mlflow(web: httpx.AsyncClient) -> None:
    answer = await web.get(f"/runs/{GOOD}")
    page = Reader(answer.text)
    assert "for-each-depth: 3 iterations" in page.text
    assert "harden: succeeded · 9.4 s" in page.text
    assert "notify: skipped" in page.text
    assert "11 of 11 started are done, 0 from the cache; 1 skipped" in " ".join(page.text.split())
    links = [str(a["href"]) for a in page.all("a")]
    assert "/mlflow/#/runs/3f7c0e5d6a8b4c1f9e2d7a6b5c4d3e2f" in links
    assert f"/runs/{GOOD}/step?path=for-each-depth%5B2%5D%2Ftrain" in links
    assert "cannot be read here" in (await web.get(f"/runs/{BAD}")).text


async def test_a_log_is_shown_escaped_and_given_as_plain_text(web: httpx.AsyncClient) -> None:
    step = httpx.QueryParams({"step": f"train {EVIL}"})
    shown = await web.get(f"/runs/{BAD}/log?{step}")
    assert "epoch 29: loss 0.033" in shown.text
    plain = await web.get(f"/runs/{BAD}/log.txt?{step}")
    assert plain.headers["content-type"] == "text/plain; charset=utf-8"
    assert plain.headers["x-content-type-options"] == "nosniff"
    assert EVIL in plain.text
    running = await web.get(f"/runs/{LIVE}/log?step=for-each-depth%5B1%5D/train")
    assert "stored when the step ends" in running.text
    follow = f"/api/tally/runs/{LIVE}/log?path=for-each-depth%5B1%5D%2Ftrain"
    assert [p["data-follow"] for p in Reader(running.text).all("pre")] == [follow]
    assert (await web.get(f"/runs/{LIVE}/log.txt?step=for-each-depth%5B1%5D/train")).text == ""


async def test_a_long_log_is_cut_and_says_so(life: Life, web: httpx.AsyncClient) -> None:
    run = replace(await latest(life, GOOD), key="run-long")
    digest = life.put(b"first line\n" + b"x" * 300_000 + b"\nlast line")
    run = replace(run, steps=(replace(life.steps[GOOD][0], log_digest=digest),))
    await life.ledger.append([Fact("run", "run-long", "ended", to_json(run), at_ms=NOW_MS)])
    page = (await web.get("/runs/run-long/log?step=import-digits")).text
    assert "last line" in page
    assert "first line" not in page
    assert "Only the end is shown" in page
    assert (await web.get("/runs/run-long/log.txt?step=import-digits")).text.startswith("first line")


async def latest(life: Life, key: str) -> Run:
    return await view_of(life).one(Run, key)


async def test_a_verdict_shows_figures_pictures_and_what_was_skipped(web: httpx.AsyncClient) -> None:
    page = Reader((await web.get("/models/digits/2")).text)
    assert "81.7 %" in page.text
    curve = next(svg for svg in page.all("svg") if svg.get("aria-label") == "Accuracy over eps")
    assert curve["role"] == "img"
    assert len(Reader((await web.get(f"/verdicts/{JUDGED}")).text).all("img")) == 9


async def test_a_report_is_a_file_that_needs_nothing_and_runs_nothing(web: httpx.AsyncClient) -> None:
    for name, kind in (("report.html", "text/html"), ("card.md", "text/markdown")):
        answer = await web.get(f"/verdicts/{JUDGED}/{name}")
        said = [answer.headers[h] for h in ("content-type", "content-disposition", "content-security-policy")]
        assert [a.split(";")[0] for a in said] == [kind, "attachment", "sandbox"]
        assert "the model gives no gradients" in answer.text
        assert "<script>" not in answer.text
    assert (await web.get("/verdicts/nothing/card.md")).status_code == 404
    images = Reader((await web.get(f"/verdicts/{JUDGED}/report.html")).text).all("img")
    assert [image["src"][:22] for image in images] == ["data:image/png;base64,"] * 9


async def test_an_endpoint_can_be_asked_by_copying(web: httpx.AsyncClient) -> None:
    page = Reader((await web.get("/endpoints/digits")).text)
    assert "curl -s http://127.0.0.1:8080/v2/models/digits/infer" in page.text
    assert '"shape": [1, 64], "datatype": "FP32", "data": [0, 0' in page.text
    assert any(svg.get("aria-label") == "Drift by pixel" for svg in page.all("svg"))
    hostile = Reader((await web.get("/endpoints/digits", headers={"host": "x$(id)"})).text).text
    command = "curl -s" + hostile.partition("curl -s")[2].partition("}]}'")[0] + "}]}'"
    assert shlex.split(command)[2] == "http://x$(id)/v2/models/digits/infer"


async def test_artifacts_can_do_nothing(life: Life, web: httpx.AsyncClient) -> None:
    image = png([0.5] * 64)
    kinds = {
        image: "image/png",
        b"<html><script>alert(1)</script>": "text/plain; charset=utf-8",
        b"\x89PNG\r\n\x1a\n<script>": "application/octet-stream",
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>": "text/plain; charset=utf-8",
        b"GIF89a\xff\xfe": "application/octet-stream",
        b"text" * 300_000: "application/octet-stream",
        "grün".encode(): "text/plain; charset=utf-8",
        b"": "text/plain; charset=utf-8",
    }
    for raw, kind in kinds.items():
        answer = await web.get("/artifacts/" + life.put(raw))
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert answer.content == raw
        assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert ("attachment" in answer.headers.get("content-disposition", "")) is (
            kind == "application/octet-stream"
        )


async def test_a_folder_and_a_damaged_artifact_are_not_served(
    life: Life, web: httpx.AsyncClient, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("x")
    blob = await life.artifacts.put_folder(tmp_path / "model")
    answer = await web.get(f"/artifacts/{blob.digest}")
    assert answer.status_code == 404
    assert "is a folder" in answer.text
    broken = life.put(b"was this")
    life.artifacts.blobs[broken] = b"is that"
    assert (await web.get(f"/artifacts/{broken}")).status_code == 500
    for bad in ("nope", "sha256:../../etc/passwd", "sha256:..%2f..%2fetc%2fpasswd"):
        assert (await web.get(f"/artifacts/{bad}")).status_code in (400, 404)


async def test_static_files_are_three_and_no_more(web: httpx.AsyncClient) -> None:
    for name in ("tally.css", "tally.js", "mark.svg"):
        assert (await web.get(f"/static/tally/{name}")).headers["cache-control"] == "no-cache"
        assert "immutable" in (await web.get(f"/static/tally/{name}?v=1")).headers["cache-control"]
    for name in ("..%2fview.py", "nope.css", "%2e%2e%2fanswer.py"):
        assert (await web.get(f"/static/tally/{name}")).status_code == 404


async def test_a_record_that_cannot_be_read_hides_no_other(life: Life, web: httpx.AsyncClient) -> None:
    await life.ledger.append([Fact("run", "run-strange", "began", {"key": 7}, at_ms=NOW_MS)])
    page = await web.get("/runs")
    assert "1 record cannot be read" in page.text
    assert GOOD in page.text
    answer = await web.get("/runs/run-strange")
    assert answer.status_code == 500
    assert "the log still shows it" in answer.text
    assert (await web.get("/")).status_code == 200
    assert (await web.get("/log")).status_code == 200


async def test_something_named_like_a_json_page_can_be_seen(life: Life, web: httpx.AsyncClient) -> None:
    run = replace(await latest(life, GOOD), key="odd.json")
    await life.ledger.append([Fact("run", "odd.json", "ended", to_json(run), at_ms=NOW_MS)])
    assert (await web.get("/runs/odd.json")).headers["content-type"].startswith("text/html")
    assert (await web.get("/runs/odd.json.json")).json()["run"]["key"] == "odd.json"


async def test_the_log_filters_and_pages(life: Life, web: httpx.AsyncClient) -> None:
    states = [Fact("step", f"sha256:{i:064x}", "made", {}, "run-1 train", NOW_MS + i) for i in range(250)]
    await life.ledger.append(states)
    seen: list[int] = []
    before = 0
    while True:
        page = (await web.get(f"/log.json?before={before}")).json()
        seen += [f["fact"]["seq"] for f in page["facts"]]
        before = page["next_before"]
        if not before:
            break
    assert seen == list(range(len(life.ledger.facts), 0, -1))
    models = (await web.get("/log.json?noun=model")).json()["facts"]
    assert {f["fact"]["noun"] for f in models} == {"model"}
    for query in ("noun=nope", "before=-1", "before=x", "before=" + "9" * 30):
        assert (await web.get(f"/log?{query}")).status_code == 400


async def test_older_keys_that_are_left_out_are_told(life: Life, web: httpx.AsyncClient) -> None:
    run = await latest(life, GOOD)
    facts = [
        Fact("run", f"run-{i}", "ended", to_json(replace(run, key=f"run-{i}", state=RunState.SUCCEEDED)))
        for i in range(240)
    ]
    await life.ledger.append(facts)
    assert "43 older keys not shown" in (await web.get("/runs")).text
    assert (await web.get("/runs.json")).json()["left_out"] == 43
    assert "States are those of the newest 200" in (await web.get("/")).text
