"""Many at once: everybody's own rows, whoever fails or leaves, and while one generation follows another."""

from __future__ import annotations

import asyncio

import httpx
import numpy as np

from tallystick.doors.oip.codec import decode_response
from tests.fakes.serving import digits, request


class TestTogether:
    async def test_everybody_has_the_rows_of_their_own(self, house, told):
        limits = httpx.Limits(max_connections=64)
        base = f"http://127.0.0.1:{house.port}"
        async with httpx.AsyncClient(base_url=base, limits=limits, timeout=60) as client:

            async def one(number):
                count = 1 + number % 3
                rows = np.arange(number, number + count) % 64
                sent = request(told["x"][rows], "X", binary=number % 2 == 0)
                if number % 16 == 5:  # among them some that fail
                    sent["content"] = sent["content"][:-9]
                answer = await client.post("/v2/models/digits/infer", **sent)
                return rows, answer, number % 16 != 5

            answers = await asyncio.gather(*(one(number) for number in range(256)))
        for rows, answer, good in answers:
            assert answer.status_code == (200 if good else 400)
            if good:
                length = int(answer.headers.get("inference-header-content-length", 0))
                said = decode_response(answer.content, length)
                np.testing.assert_array_equal(said.outputs["label"], told["label"][rows])
                np.testing.assert_allclose(said.outputs["probabilities"], told["proba"][rows], atol=1e-6)

    async def test_those_who_fail_and_those_who_leave_disturb_nobody(self, house):
        base = f"http://127.0.0.1:{house.port}"
        async with httpx.AsyncClient(base_url=base, timeout=60) as client:

            async def ask(at):
                answer = await client.post("/v2/models/picky/infer", **request(np.array([at]), "at"))
                return (
                    answer.json()["outputs"][0]["data"] if answer.status_code == 200 else answer.status_code
                )

            async def leave():
                _, writer = await asyncio.open_connection("127.0.0.1", house.port)
                content = request(np.array([1]), "at")["content"]
                head = b"POST /v2/models/picky/infer HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n" % len(
                    content
                )
                writer.write(head + content)
                await writer.drain()
                writer.transport.abort()

            asks = [ask(99 if number % 8 == 3 else number % 4) for number in range(64)]
            answers = await asyncio.gather(*asks, *(leave() for _ in range(16)))
        for number, answer in enumerate(answers[:64]):
            at = number % 4
            assert answer == (500 if number % 8 == 3 else [3 * at, 3 * at + 1, 3 * at + 2])

    async def test_a_new_generation_takes_over_and_no_request_is_lost(self, house, made, told):
        old, _ = await asyncio.to_thread(house.serve, made / "forest", "moving", 1, "1")
        ending, seen = asyncio.Event(), set()
        base = f"http://127.0.0.1:{house.port}"
        async with httpx.AsyncClient(base_url=base, timeout=60) as client:

            async def go_on():
                while not ending.is_set():
                    answer = await client.post("/v2/models/moving/infer", **digits(told))
                    assert answer.status_code == 200, answer.text
                    seen.add(answer.json()["model_version"])

            tasks = [asyncio.create_task(go_on()) for _ in range(8)]
            new, _ = await asyncio.to_thread(house.serve, made / "forest", "moving", 2, "2")
            old.terminate()
            assert await asyncio.to_thread(old.wait, 10) == 0
            while "2" not in seen:
                await asyncio.sleep(0)
                assert not any(task.done() for task in tasks)
            ending.set()
            await asyncio.gather(*tasks)
        old.stdin.close()
        old.stdout.close()
        house.processes.remove(old)
        assert seen == {"1", "2"}
        assert house.record[-1][1].generation == 2
        new.kill()
        new.wait()
        answer = await asyncio.to_thread(
            httpx.post, f"{base}/v2/models/moving/infer", **digits(told), timeout=60
        )
        assert answer.status_code == 503
        new.stdin.close()
        new.stdout.close()
        house.processes.remove(new)
        house.routes.drop("moving")
