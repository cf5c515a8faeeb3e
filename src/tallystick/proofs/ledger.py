"""What every ledger must do. Subclass :class:`LedgerProof`, or :class:`DurableLedgerProof` for one on disk.

The tests are coroutines: run them with pytest-asyncio in its ``auto`` mode.
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tallystick.core.errors import BadInput, TooLarge, Unavailable
from tallystick.core.facts import NOUNS, Fact
from tallystick.ports.ledger import FACT_BYTES_MAX, Ledger

__all__ = ["DurableLedgerProof", "LedgerProof"]

T = "default"


def fact(key: str, event: str = "began", *, noun: str = "run", tenant: str = T, **state: Any) -> Fact:
    """A fact with ``state``, for the tests."""
    return Fact(noun, key, event, state, note=f"{event} {key}", at_ms=1_700_000_000_000, tenant=tenant)


class LedgerProof(abc.ABC):
    """Appending, the four ways of reading, what must be refused, and closing."""

    @abc.abstractmethod
    async def open(self, home: Path) -> Ledger:
        """Open the ledger of ``home``, an empty folder at first."""

    @pytest.fixture
    async def ledger(self, tmp_path: Path) -> AsyncIterator[Ledger]:
        """A new ledger."""
        ledger = await self.open(tmp_path)
        yield ledger
        await ledger.close()

    async def test_an_appended_fact_is_the_latest_of_its_key(self, ledger: Ledger) -> None:
        first = await ledger.append([fact("a", n=1)])
        second = await ledger.append([fact("a", "ended", n=2), fact("b", n=3)])
        assert first == 1
        assert second == 3
        newest = await ledger.latest(T, "run", "a")
        assert newest == Fact("run", "a", "ended", {"n": 2}, "ended a", 1_700_000_000_000, T, 2)
        assert await ledger.latest(T, "run", "c") is None
        assert await ledger.latest(T, "model", "a") is None

    async def test_the_latest_of_several_keys(self, ledger: Ledger) -> None:
        await ledger.append([fact("a", n=1), fact("b", n=2), fact("?' é", n=3), fact("a", "ended", n=4)])
        found = await ledger.latest_of(T, "run", ["a", "?' é", "c", "a"])
        assert {key: (fact.seq, fact.state) for key, fact in found.items()} == {
            "a": (4, {"n": 4}),
            "?' é": (3, {"n": 3}),
        }
        assert await ledger.latest_of(T, "run", []) == {}
        assert await ledger.latest_of("other", "run", ["a"]) == {}

    @pytest.mark.parametrize(
        "state",
        [
            {},
            {"text": "żółw 🐢 \u2028 ' \" \\ \x00 \n %s ?1 --"},
            {"numbers": [0, -1, 2**80, 0.1, 1e308, 5e-324, -0.0], "none": None, "yes": True},
            {"deep": {"a": [{"b": [[], {}]}]}, "": "an empty name"},
        ],
    )
    async def test_any_json_comes_back_as_it_was(self, ledger: Ledger, state: dict[str, Any]) -> None:
        await ledger.append([Fact("data", "t@1 ' é", "ingested", state, note="ü'\x00")])
        found = await ledger.latest(T, "data", "t@1 ' é")
        assert found is not None
        assert found.state == state
        assert found.note == "ü'\x00"

    async def test_changing_a_state_after_it_was_appended_changes_no_fact(self, ledger: Ledger) -> None:
        state = {"steps": [1]}
        await ledger.append([Fact("run", "a", "began", state)])
        state["steps"].append(2)
        found = await ledger.latest(T, "run", "a")
        assert found is not None
        assert found.state == {"steps": [1]}

    async def test_listing_has_each_key_once_most_recently_changed_first(self, ledger: Ledger) -> None:
        await ledger.append([fact("a", n=1), fact("b", n=1), fact("c", n=1), fact("m@1", noun="model")])
        await ledger.append([fact("a", "ended", n=2)])
        assert [(f.key, f.state["n"]) for f in await ledger.listing(T, "run")] == [
            ("a", 2),
            ("c", 1),
            ("b", 1),
        ]
        assert [f.key for f in await ledger.listing(T, "run", 2)] == ["a", "c"]
        assert list(await ledger.listing(T, "run", 0)) == []
        assert list(await ledger.listing(T, "signal")) == []

    async def test_history_is_newest_first_of_what_is_asked(self, ledger: Ledger) -> None:
        await ledger.append([fact("a"), fact("a", noun="model"), fact("b"), fact("a", "ended"), fact("c")])
        seqs = {
            "all": [f.seq for f in await ledger.history(T)],
            "run": [f.seq for f in await ledger.history(T, noun="run")],
            "run a": [f.seq for f in await ledger.history(T, noun="run", key="a")],
            "a": [f.seq for f in await ledger.history(T, key="a")],
            "before": [f.seq for f in await ledger.history(T, before=4, limit=2)],
            "run a before": [f.seq for f in await ledger.history(T, noun="run", key="a", before=4)],
            "run before": [f.seq for f in await ledger.history(T, noun="run", before=5, limit=1)],
            "none": [f.seq for f in await ledger.history(T, noun="remedy")],
        }
        assert seqs == {
            "all": [5, 4, 3, 2, 1],
            "run": [5, 4, 3, 1],
            "run a": [4, 1],
            "a": [4, 2, 1],
            "before": [3, 2],
            "run a before": [1],
            "run before": [4],
            "none": [],
        }

    async def test_counts_are_of_keys(self, ledger: Ledger) -> None:
        assert dict(await ledger.counts(T)) == {}
        await ledger.append([fact("a"), fact("a", "ended"), fact("b"), fact("x", noun="signal")])
        assert dict(await ledger.counts(T)) == {"run": 2, "signal": 1}

    async def test_every_noun_is_known(self, ledger: Ledger) -> None:
        assert await ledger.append([fact("k", noun=noun) for noun in NOUNS]) == len(NOUNS)

    async def test_tenants_never_see_each_other(self, ledger: Ledger) -> None:
        await ledger.append([fact("a", n=1), fact("a", tenant="other", n=2)])
        mine, theirs = await ledger.latest(T, "run", "a"), await ledger.latest("other", "run", "a")
        assert mine is not None
        assert theirs is not None
        assert (mine.state, theirs.state) == ({"n": 1}, {"n": 2})
        for tenant in (T, "other"):
            assert {f.tenant for f in await ledger.listing(tenant, "run")} == {tenant}
            assert {f.tenant for f in await ledger.history(tenant)} == {tenant}
            assert {f.tenant for f in await ledger.history(tenant, key="a")} == {tenant}
            assert dict(await ledger.counts(tenant)) == {"run": 1}
        assert await ledger.latest("third", "run", "a") is None

    @pytest.mark.parametrize(
        "bad",
        [
            Fact("cake", "a", "began"),
            Fact("", "a", "began"),
            Fact("run", "", "began"),
            Fact("run", "a", "began", {"x": float("nan")}),
            Fact("run", "a", "began", {"x": [float("inf")]}),
            Fact("run", "a", "began", {"x": object()}),
            Fact("run", "a", "began", {"x": b"bytes"}),
            Fact("run", "a", "began", {"x": "\ud800"}),
            Fact("run", "\udcff", "began"),
            Fact("run", "a", "began", at_ms=2**63),
        ],
        ids=lambda bad: ascii(bad)[:60],
    )
    async def test_a_bad_fact_is_refused_and_so_is_what_came_with_it(self, ledger: Ledger, bad: Fact) -> None:
        with pytest.raises(BadInput):
            await ledger.append([fact("good"), bad, fact("good")])
        assert list(await ledger.history(T)) == []
        assert await ledger.append([fact("good")]) == 1

    async def test_a_fact_over_the_limit_is_too_large(self, ledger: Ledger) -> None:
        room = FACT_BYTES_MAX - len('{"x":""}')
        with pytest.raises(TooLarge):
            await ledger.append([fact("good"), fact("a", x="é" * (room // 2 + 1))])
        assert list(await ledger.history(T)) == []
        assert await ledger.append([fact("a", x="é" * (room // 2))]) == 1

    async def test_facts_appended_at_the_same_time_are_each_there_once(self, ledger: Ledger) -> None:
        async def write(task: int) -> list[int]:
            return [
                await ledger.append([fact(f"{task}", "first", n=n), fact(f"{task}", "second", n=n)])
                for n in range(20)
            ]

        answers = await asyncio.gather(*(write(task) for task in range(10)))
        found = list(reversed(await ledger.history(T, limit=1000)))
        assert [f.seq for f in found] == list(range(1, 401))
        for task, lasts in enumerate(answers):
            mine = [f for f in found if f.key == str(task)]
            assert [(f.state["n"], f.event) for f in mine] == [
                (n, event) for n in range(20) for event in ("first", "second")
            ]
            assert [f.seq for f in mine if f.event == "second"] == lasts
            assert [f.seq for f in mine if f.event == "first"] == [seq - 1 for seq in lasts]

    async def test_what_was_acknowledged_is_seen_at_once(self, ledger: Ledger) -> None:
        for n in range(50):
            seq = await ledger.append([fact("a", n=n)])
            newest = await ledger.latest(T, "run", "a")
            assert newest is not None
            assert (newest.seq, newest.state["n"]) == (seq, n)

    async def test_whoever_stops_waiting_disturbs_nobody(self, ledger: Ledger) -> None:
        tasks = [asyncio.create_task(ledger.append([fact(f"{n}")])) for n in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(answer, int) for answer in answers[1::2])
        assert await ledger.append([fact("last")]) >= 11

    async def test_a_closed_ledger_is_unavailable(self, ledger: Ledger) -> None:
        await ledger.append([fact("a")])
        await ledger.close()
        await ledger.close()
        with pytest.raises(Unavailable):
            await ledger.append([fact("a")])
        with pytest.raises(Unavailable):
            await ledger.latest(T, "run", "a")
        with pytest.raises(Unavailable):
            await ledger.history(T)


class DurableLedgerProof(LedgerProof):
    """And for a ledger on disk: what was acknowledged is there when it is opened again."""

    async def test_an_opened_again_ledger_has_everything(self, ledger: Ledger, tmp_path: Path) -> None:
        await ledger.append([fact("a", n=n) for n in range(10)])
        before = await ledger.history(T)
        await ledger.close()
        again = await self.open(tmp_path)
        try:
            assert list(await again.history(T)) == list(before)
            assert dict(await again.counts(T)) == {"run": 1}
            assert await again.append([fact("b")]) == 11
        finally:
            await again.close()

    async def test_closing_finishes_what_was_begun(self, ledger: Ledger, tmp_path: Path) -> None:
        tasks = [asyncio.create_task(ledger.append([fact(f"{n}")])) for n in range(50)]
        await asyncio.sleep(0)
        await ledger.close()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        again = await self.open(tmp_path)
        try:
            kept = {f.seq: f.key for f in await again.history(T)}
        finally:
            await again.close()
        for n, answer in enumerate(answers):
            assert isinstance(answer, Unavailable) or kept[int(str(answer))] == f"{n}"
