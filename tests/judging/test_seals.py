"""Which folders are closed, and that nothing slips in while the gate looks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from tallystick.core.errors import Conflict, Refused, Unavailable
from tallystick.evidence.policy import Gate
from tallystick.judging import seals as module
from tallystick.judging.seals import Seals
from tallystick.record.entries import Held

FOLDER = "1/models/m-1/artifacts"


class Told:
    """What the registry says, and how often it was asked."""

    def __init__(self, *held: Held) -> None:
        self.held = list(held)
        self.asked = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.asked_now = asyncio.Event()

    async def __call__(self) -> list[Held]:
        self.asked += 1
        found = list(self.held)
        self.asked_now.set()
        await self.go_on.wait()
        return found


def champion(uri: str = f"mlflow-artifacts:/{FOLDER}", alias: str = "champion", stage: str = "None") -> Held:
    return Held("m", 3, alias, stage, "models:/m-1", uri)


async def written(seals: Seals, path: str, removes: bool = False) -> bool:
    try:
        async with seals.landing(path, removes=removes):
            return True
    except Refused:
        return False


@pytest.mark.parametrize(
    "path", [f"{FOLDER}/MLmodel", f"{FOLDER}/new/deep.bin", FOLDER, f"/{FOLDER}//./MLmodel"]
)
async def test_what_would_change_the_folder_is_refused(path: str) -> None:
    seals = Seals(Gate, Told(champion()))
    for removes in (False, True):
        assert not await written(seals, path, removes)


async def test_the_refusal_says_which_version_why_and_what_to_do() -> None:
    seals = Seals(Gate, Told(champion()))
    with pytest.raises(Refused) as wrong:
        await seals.check(f"{FOLDER}/MLmodel")
    assert str(wrong.value) == (
        f"{FOLDER}/MLmodel: the files of m@3 are those that were judged, and stay so: it has alias champion"
        " (log the model anew, register that, and judge it; or first"
        " client.delete_registered_model_alias('m', 'champion'))"
    )
    staged = Seals(Gate, Told(champion(alias="free", stage="Production")))
    with pytest.raises(Refused, match=r"it is in stage Production.*\('m', '3', 'Archived'\)"):
        await staged.check(f"{FOLDER}/MLmodel")


@pytest.mark.parametrize(
    "path", ["1/models/m-2/artifacts/MLmodel", "1/models/m-1/artifacts2/x", "1/run/artifacts/notes.txt", "2"]
)
async def test_all_else_stays_free(path: str) -> None:
    seals = Seals(Gate, Told(champion()))
    assert await written(seals, path)
    assert await written(seals, path, removes=True)


async def test_removed_is_neither_the_folder_nor_what_it_lies_in() -> None:
    seals = Seals(Gate, Told(champion()))
    for above in ("1", "1/models", "1/models/m-1"):
        assert not await written(seals, above, removes=True)
        assert await written(seals, f"{above}/beside", removes=True)


@pytest.mark.parametrize("held", [champion(alias="free"), champion(alias="free", stage="Staging")])
async def test_other_aliases_and_stages_close_nothing(held: Held) -> None:
    assert await written(Seals(Gate, Told(held)), f"{FOLDER}/MLmodel")


@pytest.mark.parametrize(
    "uri",
    [
        "mlflow-artifacts:///1/r/artifacts/model",
        "mlflow-artifacts://host:5000/1/r/artifacts/model",
        "mlflow-artifacts:/1/r/artifacts/m%6Fdel",
        "http://host/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/model",
        "runs:/r/model",
    ],
)
async def test_an_address_of_every_kind_closes_its_folder(uri: str) -> None:
    seals = Seals(Gate, Told(champion(uri)))
    assert not await written(seals, "1/r/artifacts/model/MLmodel")
    assert not await written(seals, "1/r", removes=True)
    assert await written(seals, "1/r/artifacts/notes.txt")


@pytest.mark.parametrize(
    "uri", ["s3://bucket/1/r/artifacts", "file:///1/r", "dummy-source", "mlflow-artifacts:/"]
)
async def test_what_is_kept_elsewhere_closes_nothing(uri: str) -> None:
    assert await written(Seals(Gate, Told(champion(uri))), "1/r/artifacts/model/MLmodel")


async def test_it_is_asked_once_in_a_while_and_at_once_after_a_change() -> None:
    told = Told(champion())
    seals = Seals(Gate, told)
    for _ in range(100):
        assert not await written(seals, f"{FOLDER}/MLmodel")
    assert told.asked <= 2  # a slow machine may take its time
    told.held.clear()
    seals.changed()
    assert await written(seals, f"{FOLDER}/MLmodel")


async def test_what_was_read_before_a_change_counts_no_more() -> None:
    told = Told()
    seals = Seals(Gate, told)
    told.go_on.clear()
    writing = asyncio.create_task(written(seals, f"{FOLDER}/MLmodel"))
    await told.asked_now.wait()  # it has read that nobody holds anything, and was not heard yet
    told.held.append(champion())
    seals.changed()
    told.go_on.set()
    assert not await writing


async def test_nothing_is_written_while_nobody_can_say() -> None:
    async def held() -> list[Held]:
        raise Unavailable("MLflow is not there")

    seals = Seals(Gate, held)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await seals.check(f"{FOLDER}/MLmodel")


async def test_a_folder_that_is_being_let_in_is_closed_until_that_is_done() -> None:
    seals = Seals(Gate, Told())
    async with seals.closed(FOLDER, "m@3"):
        with pytest.raises(Refused, match=r"m@3 .* it is being let into production"):
            await seals.check(f"{FOLDER}/MLmodel")
        assert await written(seals, "1/models/m-2/artifacts/MLmodel")
    assert await written(seals, f"{FOLDER}/MLmodel")


async def test_the_gate_waits_for_what_is_landing() -> None:
    seals, seen = Seals(Gate, Told()), []

    async def let_in(folder: str) -> None:
        async with seals.closed(folder, "m@3"):
            seen.append(folder)

    async with AsyncExitStack() as landing:
        await landing.enter_async_context(seals.landing(f"{FOLDER}/MLmodel"))
        closing = asyncio.create_task(let_in(FOLDER))
        await asyncio.sleep(0)  # it has begun
        await let_in("1/models/m-2/artifacts")  # nothing lands there
        assert seen == ["1/models/m-2/artifacts"]
        assert not await written(seals, f"{FOLDER}/other")  # what comes later does not make it wait longer
    await closing
    assert seen[1:] == [FOLDER]


async def test_the_gate_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LANDING_S_MAX", 0.01)
    seals = Seals(Gate, Told())
    async with seals.landing(f"{FOLDER}/MLmodel"):
        with pytest.raises(Conflict, match="still on their way into the folder of m@3"):
            async with seals.closed(FOLDER, "m@3"):
                pytest.fail("it was let in")
    assert await written(seals, f"{FOLDER}/MLmodel")


@pytest.mark.parametrize("order", range(8))
async def test_however_writers_and_the_gate_take_turns_no_file_changes_after_the_look(order: int) -> None:
    """Many writers that begin and end in any order beside the gate: what it saw is what stays."""
    told = Told()
    seals, content, turns = Seals(Gate, told), {"file": 0}, _turns(order)

    async def write(number: int) -> None:
        await turns()
        try:
            async with seals.landing(f"{FOLDER}/file"):
                await turns()
                content["file"] = number
        except Refused:
            return

    async def let_in() -> int:
        await turns()
        async with seals.closed(FOLDER, "m@3"):
            seen = content["file"]
            await turns()
            told.held.append(champion())
            await turns()
            seals.changed()
        return seen

    *_, seen = await asyncio.gather(*(write(n) for n in range(1, 40)), let_in())
    assert content["file"] == seen
    assert not await written(seals, f"{FOLDER}/file")


def _turns(order: int) -> Callable[[], asyncio.Future[None] | object]:
    """Gives others a few turns, another number each time."""
    counter = iter(range(10**6))

    async def pause() -> None:
        for _ in range((next(counter) * 7919 + order * 31) % 5):
            await asyncio.sleep(0)

    return pause
