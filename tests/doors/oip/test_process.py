"""The serving process by itself, and strange ones in its place."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading

import httpx
import pytest

from tallystick.hub.house.route import Live
from tests.fakes.serving import digits, finish, start


class TestStrangeProcess:
    """The other end of the socket runs somebody's model: it may say anything, or nothing."""

    @pytest.fixture
    def strange(self, house, monkeypatch):
        made = []

        def answer_with(said):
            async def serve(reader, writer):
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                    await reader.readuntil(b"\r\n\r\n")
                    if said is not None:
                        writer.write(said)
                        await writer.drain()
                    else:
                        await reader.read()
                writer.close()

            async def run():
                server = await asyncio.start_unix_server(serve, path=house.home / "strange")
                started.set()
                await asyncio.to_thread(ending.wait)
                server.close()

            started, ending = threading.Event(), threading.Event()
            thread = threading.Thread(target=lambda: asyncio.run(run()))
            thread.start()
            made.append((ending, thread))
            assert started.wait(60)
            if said is None:  # nobody waits long for what never comes
                monkeypatch.setattr(house.lines, "timeout_s", 1.0)
            house.routes.put("strange", Live(house.home / "strange", 1, "m", "1"))

        yield answer_with
        house.routes.drop("strange")
        for ending, thread in made:
            ending.set()
            thread.join(60)

    @pytest.mark.parametrize(
        ("said", "status"),
        [
            (None, 504),
            (b"", 503),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{", 503),
            (b"SSH-2.0-OpenSSH\r\n\r\n", 500),
            (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000 + b"\r\n\r\n", 500),
            (b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n", 200),
        ],
    )
    def test_the_hub_is_not_disturbed(self, strange, client, record, told, said, status):
        strange(said)
        answer = client.post("/v2/models/strange/infer", content=b"{}")
        assert answer.status_code == status
        assert ("error" in answer.json()) == (status != 200)
        assert "set-cookie" not in answer.headers
        assert [exchange.status for _, exchange in record] == [status]
        assert client.post("/v2/models/digits/infer", **digits(told)).status_code == 200


class TestProcess:
    @pytest.fixture
    def ended(self):
        yield (processes := [])
        for process in processes:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()

    def test_it_says_what_it_serves_and_with_what(self, house, made):
        forest, said = house.serve(made / "forest", "once")
        assert said == {"runtime": "onnx"}  # no more: a model of many columns must fit in a line too
        mode = (house.home / "once-1").stat().st_mode
        house.processes.remove(forest)
        house.routes.drop("once")
        assert mode & 0o077 == 0
        assert finish(forest) == ({"result": {"calls": 0}}, 0)

    def test_it_ends_on_sigterm_and_when_its_hub_is_gone(self, made, tmp_path, ended):
        process, _ = start(made / "picky", tmp_path / "a", "m")
        ended.append(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        other, _ = start(made / "picky", tmp_path / "b", "m")
        ended.append(other)
        other.stdin.close()
        assert other.wait(60) == 0

    def test_a_socket_that_a_dead_process_left_is_taken_over(self, made, tmp_path, ended):
        for _ in range(2):
            process, said = start(made / "picky", tmp_path / "a", "m")
            ended.append(process)
            assert "ready" in said
            process.kill()
            process.wait()

    @pytest.mark.parametrize(
        ("model", "more", "error"),
        [
            ("absent", {}, "BadInput"),
            ("zipmap", {}, "NotSupported"),
            ("columns", {"runtime": "onnx"}, "BadInput"),
            ("forest", {"runtime": "nothing"}, "MissingTile"),
            ("forest", {"threads": 0}, "BadInput"),
        ],
    )
    def test_what_cannot_be_served_is_said(self, made, tmp_path, ended, model, more, error):
        process, said = start(made / model, tmp_path / "a", "m", **more)
        ended.append(process)
        assert said["error"]["error"] == error
        assert process.wait(60) > 0

    def test_its_own_limit_of_a_body(self, made, tmp_path, ended):
        process, _ = start(made / "picky", tmp_path / "a", "m", body_bytes_max=1000)
        ended.append(process)
        transport = httpx.HTTPTransport(uds=str(tmp_path / "a"))
        with httpx.Client(transport=transport, base_url="http://m") as client:
            answer = client.post("/v2/models/m/infer", content=b" " * 1001)
            assert answer.status_code == 413
            assert answer.json()["error"]
            assert client.get("/v2/health/live").json() == {"live": True}
            assert client.get("/v2/health/ready").json() == {"ready": True}
            assert client.get("/v2").json()["name"] == "tallystick"
            assert client.post("/v2/models/m").status_code == 405
            assert client.get("/v2/models/other").status_code == 404
