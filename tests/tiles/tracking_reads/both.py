"""One database with two readers: MLflow's own store and ours."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from mlflow.entities import ViewType
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from tallystick.ports.database import Session
from tallystick.record.asks import Read
from tallystick.record.entries import Page
from tallystick.tiles.tracking.readers import answer
from tests.tiles.tracking_reads.parts import START

__all__ = ["QUICK", "STAGES", "TEXTS", "TIMES", "VIEWS", "Both", "same_pages"]

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
STAGES = {
    ViewType.ACTIVE_ONLY: ("active",),
    ViewType.DELETED_ONLY: ("deleted",),
    ViewType.ALL: ("active", "deleted"),
}


class Both(NamedTuple):
    """One database, as MLflow reads it and as we do."""

    store: SqlAlchemyStore
    registry: RegistryStore
    session: Session
    runs: list[str]

    def ask(self, ask: Read[Any]) -> Any:
        return answer(self.session, ask, "default")


VIEWS = st.sampled_from(sorted(STAGES, key=str))
TIMES = st.integers(START - 1, START + 21).map(str)
TEXTS = st.sampled_from(
    ["a", "A", "%", "a%", "%A%", "_", "a_b", "[a]", "a*", "*", "?", "[", "é", "É", "", "a%b", "x%"]
)


def same_pages(
    theirs: Callable[[str | None], tuple[list[Any], str | None]],
    ours: Callable[[int], Page],
    told: Callable[[Any], Any],
) -> None:
    """From the first page to the last, each as long as the other's and with the same things in it."""
    token, offset, seen = None, 0, 0
    for _ in itertools.count():
        found, token = theirs(token)
        page = ours(offset)
        assert [told(one) for one in page.items] == [told(one) for one in found]
        assert (page.next_offset is None) == (token is None)
        seen += len(found)
        if page.next_offset is None:
            return
        offset = page.next_offset
        assert offset == seen
