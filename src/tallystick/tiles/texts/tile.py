"""The probes of texts: what they are called, what they need, and what they say of themselves.

How far a text is from what it was is counted in words: those misspelt, left out, repeated, or said
otherwise. What is allowed at all is the domain's to say (:mod:`tallystick.evidence.wording`): words that
carry the grammar or a negation stay, and so do those that the policy calls immutable. The queries that the
budget grants a text are divided among the probes that apply to the model, by fixed shares, whether or not all
are carried out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from tallystick.core.errors import BadInput, NotSupported
from tallystick.evidence.domain import DomainKind
from tallystick.evidence.probe import Probe, Threat
from tallystick.ports.models.attack import Case, Found, Needs, Offer, Progress
from tallystick.ports.tile import Place
from tallystick.tiles.texts.greedy import greedy
from tallystick.tiles.texts.hunt import Hunt
from tallystick.tiles.texts.lots import by_lot
from tallystick.tiles.texts.moves import Moves

__all__ = ["Texts", "open_tile"]

LIBRARY = "tallystick"
QUERIES_MIN = 10
"""Of one text in one probe: with fewer, none of them gets anywhere."""

_KINDS = (DomainKind.TEXT,)
_Search = Callable[[Hunt, Moves, int, Callable[[float, str], None]], dict[str, int]]


@dataclass(frozen=True, slots=True)
class _Way:
    """One probe: its search, whether it edits ``characters`` and ``words``, and the number of its lots."""

    offer: Offer
    search: _Search
    characters: bool
    words: bool
    number: int


_SCORES, _ANY = Needs(scores=True, kinds=_KINDS), Needs(kinds=_KINDS)
_CHARACTERS = "misspells the words that matter most (DeepWordBug, Gao et al. 2018)"
_WORDS = "drops, repeats, inflects, replaces the words that matter most (Jin et al. 2020; Tan et al. 2020)"
_LOTS = "edits of words and letters by lot, ever fewer, by labels alone"


def _offer(name: str, about: str, needs: Needs, weight: float) -> Offer:
    return Offer(name, Threat.EVASION, 1, about, needs, weight)


_WAYS: Mapping[str, _Way] = {
    way.offer.name: way
    for way in (
        _Way(_offer("text_characters", _CHARACTERS, _SCORES, 3.0), greedy, True, False, 1),
        _Way(_offer("text_words", _WORDS, _SCORES, 3.0), greedy, False, True, 2),
        _Way(_offer("text_random", _LOTS, _ANY, 2.0), by_lot, True, True, 3),
    )
}


class Texts:
    """See :class:`tallystick.ports.models.attack.Attack`."""

    def offers(self) -> tuple[Offer, ...]:
        """See the port."""
        return tuple(way.offer for way in _WAYS.values())

    def versions(self) -> dict[str, str]:
        """Of numpy, which draws the lots."""
        return {"numpy": version("numpy")}

    def run(self, name: str, case: Case, progress: Progress) -> Found:
        """See the port. BadInput for a name that is not offered, or for a budget that is not one of texts."""
        if name not in _WAYS:
            raise BadInput(f"no probe {name!r:.100}", where="attack", hint=f"known: {', '.join(_WAYS)}")
        way, began = _WAYS[name], time.perf_counter()
        if case.domain.kind is not DomainKind.TEXT:
            raise NotSupported(f"it is for texts, and these rows are {case.domain.kind}", where="domain")
        if any(eps < 1 or eps != int(eps) for eps in case.budget.eps):
            raise BadInput("eps of texts are whole numbers of words", where="budget.eps")
        hunt = Hunt(case, self._queries(way, case))
        opened = len(hunt.open())

        def said(share: float, more: str) -> None:
            left = int((hunt.distance > case.budget.eps[-1]).sum())
            progress(min(1.0, share), f"{more}: {left} of {len(hunt)} texts withstand so far")

        moves = Moves(hunt.wording, characters=way.characters, words=way.words)
        counts = way.search(hunt, moves, way.number, said)
        said(1.0, "done")
        return Found(_probe(way, hunt, counts, opened, began), hunt.distance, hunt.adversarial)

    def _queries(self, way: _Way, case: Case) -> int:
        """The share of a text's queries that the probe may spend; NotSupported where it is too small."""
        applies = [o for o in self.offers() if not (o.needs.scores and case.victim.gives == "labels")]
        total = sum(offer.weight for offer in applies)
        queries = int(case.budget.queries_max * way.offer.weight / total) if way.offer in applies else 0
        if queries < QUERIES_MIN:
            said = f"its share of {case.budget.queries_max} queries a text is {queries}"
            raise NotSupported(f"{said}, and it needs {QUERIES_MIN}", where="budget.queries_max")
        return queries


def _probe(way: _Way, hunt: Hunt, counts: Mapping[str, int], opened: int, began: float) -> Probe:
    domain, idle = hunt.case.domain, counts.get("without_a_word_to_change", 0)
    note = f"texts that were left as they are, as no word of theirs may be changed in this way: {idle}"
    return Probe(
        name=way.offer.name,
        threat=Threat.EVASION,
        library=LIBRARY,
        settings={
            "norm": "words changed",
            **({"chars_max": domain.chars_max} if way.characters else {}),
            **({"word_edits": list(domain.word_edits)} if way.words else {}),
            "share_max": domain.share_max,
            **counts,
            "queries_most": int(hunt.used.max(initial=0)),
            "samples_nearer": int((hunt.distance < hunt.case.distance).sum()),
        },
        notes=(note,) if idle else (),
        samples=opened,
        queries=int(hunt.used.sum()),
        seconds=round(time.perf_counter() - began, 3),
    )


def open_tile(place: Place) -> Texts:
    """No options."""
    return Texts()
