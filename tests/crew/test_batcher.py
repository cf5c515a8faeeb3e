"""Micro-batching: everybody's own rows, and nobody held up by anybody else's misfortune."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from tallystick.core.errors import BadInput, Failed
from tallystick.core.model import TensorSpec
from tallystick.crew.served.batcher import Batcher
from tests.fakes.runtime import FakePredictor


def rows(*values):
    return {"x": np.array([[value, 0] for value in values], np.float32)}


def fake(raises_over=1e9):
    return FakePredictor([1.0, -1.0], raises_over)


class Gated(FakePredictor):
    """Its first call waits until the test says so: what comes meanwhile waits together."""

    def __init__(self):
        super().__init__([1.0], 1e6)
        self.entered, self.gate = threading.Event(), threading.Event()

    def predict(self, inputs):
        self.entered.set()
        assert self.gate.wait(60)
        return super().predict(inputs)


async def together(batcher, asked):
    return await asyncio.gather(*(batcher.predict(one) for one in asked), return_exceptions=True)


async def test_requests_of_one_turn_are_one_call_and_each_has_its_own_rows():
    model = fake()
    asked = [rows(*range(n, n + 1 + n % 3)) for n in range(64)]
    answers = await together(Batcher(model), asked)
    for one, answer in zip(asked, answers, strict=True):
        np.testing.assert_array_equal(answer["scores"][:, 0], one["x"][:, 0])
        assert len(answer["label"]) == len(one["x"])
    assert model.batches == [sum(len(one["x"]) for one in asked)]


async def test_a_request_alone_does_not_wait():
    model = fake()
    batcher = Batcher(model)
    for value in (1, 2):
        assert (await batcher.predict(rows(value)))["scores"][0, 0] == value
    assert model.batches == [1, 1]


async def test_a_bad_request_fails_alone():
    model = fake(raises_over=100)
    asked = [rows(1), rows(500), rows(2), {"y": np.zeros(1)}, {"x": np.zeros((1, 3), np.float32)}, rows(3)]
    answers = await together(Batcher(model), asked)
    assert [type(a) for a in answers] == [dict, Failed, dict, BadInput, BadInput, dict]
    assert [answers[at]["scores"][0, 0] for at in (0, 2, 5)] == [1, 2, 3]


async def test_what_is_not_our_error_fails_one_request_too():
    class Odd(FakePredictor):
        def predict(self, inputs):
            if (inputs["x"] < 0).any():
                raise ZeroDivisionError("odd")
            return super().predict(inputs)

    batcher = Batcher(Odd([1.0], 1e6))
    good, bad, other = await together(batcher, [rows(1), rows(-1), rows(2)])
    assert (good["scores"][0, 0], other["scores"][0, 0]) == (1, 2)
    assert "ZeroDivisionError" in str(bad)
    assert (await batcher.predict(rows(4)))["scores"][0, 0] == 4


async def test_a_caller_that_goes_away_disturbs_nobody():
    model = Gated()
    batcher = Batcher(model)
    first = asyncio.create_task(batcher.predict(rows(1)))
    await asyncio.to_thread(model.entered.wait, 10)
    waiting = [asyncio.create_task(batcher.predict(rows(value))) for value in (2, 3, 4)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    first.cancel()  # the one that is being computed
    model.gate.set()
    answers = await asyncio.gather(first, *waiting, return_exceptions=True)
    assert [type(a) for a in answers] == [asyncio.CancelledError, dict, asyncio.CancelledError, dict]
    assert (answers[1]["scores"][0, 0], answers[3]["scores"][0, 0]) == (2, 4)
    assert model.batches == [1, 2]
    assert (await batcher.predict(rows(5)))["scores"][0, 0] == 5


async def test_the_loop_lives_while_a_slow_model_works():
    model = Gated()
    task = asyncio.create_task(Batcher(model).predict(rows(1)))
    await asyncio.to_thread(model.entered.wait, 10)
    await asyncio.sleep(0)
    assert not task.done()
    model.gate.set()
    assert (await task)["scores"][0, 0] == 1


async def test_requests_of_different_kinds_are_not_joined():
    class Wide(FakePredictor):
        inputs = (TensorSpec("x", "FP32", (-1, -1)),)

        def __init__(self):
            super().__init__([1.0], 1e6)
            self.outputs = (TensorSpec("sum", "FP32", (-1,)),)

        def predict(self, inputs):
            self.batches.append(len(inputs["x"]))
            return {"sum": inputs["x"].sum(axis=1)}

    model = Wide()
    asked = [{"x": np.ones((1, width), kind)} for width in (2, 3, 2) for kind in (np.float32, np.float64)]
    answers = await together(Batcher(model), asked)
    assert [a["sum"].tolist() for a in answers] == [[2], [2], [3], [3], [2], [2]]
    assert sorted(model.batches) == [1, 1, 2, 2]


async def test_a_model_without_a_free_axis_is_asked_one_by_one():
    class Fixed(FakePredictor):
        inputs = (TensorSpec("x", "FP32", (1, 2)),)

    model = Fixed([1.0], 1e6)
    answers = await together(Batcher(model), [rows(1), rows(2)])
    assert [a["scores"][0, 0] for a in answers] == [1, 2]
    assert model.batches == [1, 1]


async def test_an_answer_without_a_row_for_each_row_is_never_cut_up():
    class Mean(FakePredictor):
        def predict(self, inputs):
            return {"label": np.zeros(1, np.int64), "scores": inputs["x"].mean(keepdims=True)}

    answers = await together(Batcher(Mean([1.0], 1e6)), [rows(2), rows(4, 4)])
    assert [a["scores"].item() for a in answers] == [1, 2]


async def test_a_batch_has_a_limit_and_nobody_is_lost():
    model = fake()
    answers = await together(Batcher(model, rows_max=8), [rows(n, n, n) for n in range(20)])
    assert [a["scores"][0, 0] for a in answers] == list(range(20))
    assert max(model.batches) <= 9
    assert sum(model.batches) == 60


@pytest.mark.parametrize("count", [0])
async def test_no_rows_are_no_reason_to_fail_others(count):
    empty, one = await together(Batcher(fake()), [{"x": np.zeros((count, 2), np.float32)}, rows(1)])
    assert empty["scores"].shape == (0, 2)
    assert one["scores"][0, 0] == 1
