"""Endpoints: a model that answers. A wish with a generation, and what was observed of it.

Success means observed >= wished. Settling compares the two and says what to do; settling twice
changes nothing.

=========  ===================================  ==========================================
state      means                                 leaves it by
=========  ===================================  ==========================================
starting   the wished model is being started     ready, or failed after its last try
ready      the wished model answers              a new wish, or its process ends: starting
failed     it could not be started               a new wish
stopped    nothing is wished                     a new wish
=========  ===================================  ==========================================
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from tallystick.core.names import DEFAULT_TENANT, check_name

__all__ = ["TRIES_MAX", "Action", "Endpoint", "EndpointState", "Observed", "Wish", "settle", "wish"]

TRIES_MAX = 3
SERVED_MAX = 100


class EndpointState(enum.StrEnum):
    """Where an endpoint stands; the module's table says what leads where."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Wish:
    """What should be served: a model version by key and content; an empty ``model`` means nothing."""

    generation: int
    model: str = ""
    model_digest: str = ""
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint; ``served`` are earlier wishes that were ready once, newest last."""

    name: str
    wished: Wish
    observed_generation: int = 0
    state: EndpointState = EndpointState.STARTING
    tries: int = 0
    error: str = ""
    served: tuple[Wish, ...] = ()
    at_ms: int = 0
    tenant: str = DEFAULT_TENANT

    @property
    def settled(self) -> bool:
        """Whether what is wished is so: seen at least once, and not restarting or failed since."""
        seen = self.observed_generation >= self.wished.generation
        return seen and self.state in (EndpointState.READY, EndpointState.STOPPED)

    @property
    def previous(self) -> Wish | None:
        """What served before the present model ever did: falling back twice never goes forward again."""
        models = [w.model for w in self.served]
        first = models.index(self.wished.model) if self.wished.model in models else len(models)
        return self.served[first - 1] if first else None


@dataclass(frozen=True, slots=True)
class Observed:
    """What is true outside: which generation's process lives (0: none), answers, or why it ended."""

    generation: int = 0
    answers: bool = False
    error: str = ""


class Action(enum.StrEnum):
    """What settling asks for."""

    NONE = "none"
    START = "start"
    STOP = "stop"


def wish(
    endpoint: Endpoint | None, name: str, model: str, model_digest: str, verdict: str, at_ms: int, tenant: str
) -> Endpoint:
    """The endpoint with a new wish: one generation on, not yet observed."""
    check_name("endpoint", name)
    generation = endpoint.wished.generation + 1 if endpoint else 1
    new = Wish(generation, model, model_digest, verdict)
    if endpoint is None:
        return Endpoint(name=name, wished=new, at_ms=at_ms, tenant=tenant)
    return replace(endpoint, wished=new, state=EndpointState.STARTING, tries=0, error="", at_ms=at_ms)


def settle(endpoint: Endpoint, observed: Observed, at_ms: int) -> tuple[Endpoint, Action]:
    """The endpoint as it now stands, and the one thing to do next."""
    wished = endpoint.wished
    if not wished.model:
        if observed.generation:
            return endpoint, Action.STOP
        return _changed(endpoint, EndpointState.STOPPED, at_ms, observed_generation=wished.generation)
    if observed.generation == wished.generation and observed.answers:
        served = endpoint.served if wished in endpoint.served else (*endpoint.served, wished)[-SERVED_MAX:]
        return _changed(
            endpoint, EndpointState.READY, at_ms, observed_generation=wished.generation, served=served
        )
    if observed.generation == wished.generation and not observed.error:
        return endpoint, Action.NONE
    if endpoint.state is EndpointState.FAILED:
        return endpoint, Action.NONE
    if observed.error:
        return _after_failure(endpoint, observed, at_ms)
    if endpoint.state is not EndpointState.STARTING:
        return replace(endpoint, state=EndpointState.STARTING, tries=0, at_ms=at_ms), Action.START
    return endpoint, Action.START


def _after_failure(endpoint: Endpoint, observed: Observed, at_ms: int) -> tuple[Endpoint, Action]:
    tries = endpoint.tries + 1
    if tries >= TRIES_MAX:
        failed = replace(endpoint, state=EndpointState.FAILED, tries=tries, error=observed.error, at_ms=at_ms)
        return failed, Action.NONE
    again = replace(endpoint, state=EndpointState.STARTING, tries=tries, error=observed.error, at_ms=at_ms)
    return again, Action.START


def _changed(
    endpoint: Endpoint,
    state: EndpointState,
    at_ms: int,
    *,
    observed_generation: int,
    served: tuple[Wish, ...] | None = None,
) -> tuple[Endpoint, Action]:
    if endpoint.state is state and endpoint.observed_generation == observed_generation:
        return endpoint, Action.NONE
    new = replace(
        endpoint,
        state=state,
        observed_generation=observed_generation,
        served=endpoint.served if served is None else served,
        tries=0,
        error="",
        at_ms=at_ms,
    )
    return new, Action.NONE
