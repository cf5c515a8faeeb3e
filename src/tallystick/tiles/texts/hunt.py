"""What the searches share: the texts, the queries spent on each, and the nearest adversarial of each.

A text is its words, in places. In each place stands what it was, or what was made of it: another word,
nothing (it was left out) or two words (it was repeated). So as many places differ as there are edits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from tallystick.evidence.wording import Text, Wording
from tallystick.ports.models.attack import Case

__all__ = ["Hunt", "Words"]

Words = tuple[str, ...]

ROWS_MAX, CHARS_MAX = 4096, 16 * 1024 * 1024
"""Texts of one call of the model, and characters of all of them (one may have more). No more are held."""

TINY = 1e-30


class Hunt:
    """The texts of ``case`` that are under attack, each with ``queries`` to spend.

    ``texts`` (m) are cut, ``limit`` (m,) is the most words of each that may be changed. ``distance`` (m,) and
    ``adversarial`` (m,) begin as the case's and are its own copies; ``found`` has the words of what this hunt
    itself found, by sample; ``used`` (m,) counts queries.
    """

    def __init__(self, case: Case, queries: int) -> None:
        self.case, self.queries = case, queries
        self.wording = Wording.of(case.domain, map(str, case.x))
        self.texts = [Text.cut(str(case.x[row])) for row in case.attacked]
        self.y = case.y[case.attacked]
        self.margin = self._margins(case.scores[case.attacked], np.arange(len(self.y)))
        most = int(case.budget.eps[-1])
        lengths = [len(text.words) for text in self.texts]
        self.limit = np.array([min(most, self.wording.limit(n)) if n else 0 for n in lengths], np.int64)
        self.distance = case.distance.astype(np.float64).copy()
        self.adversarial = case.adversarial.copy()
        self.found: dict[int, Words] = {}
        self.used = np.zeros(len(self.y), np.int64)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def left(self) -> np.ndarray:
        """Queries that each sample may still be asked about, (m,)."""
        return self.queries - self.used

    def most(self, sample: int) -> int:
        """How many words may be changed to come nearer than what is known."""
        known = self.distance[sample]
        return int(min(self.limit[sample], known - 1 if np.isfinite(known) else self.limit[sample]))

    def open(self) -> list[int]:
        """Samples of whom more can be learnt: right as they are, and not known to fall to the least eps."""
        least = self.case.budget.eps[0]
        return [s for s in range(len(self)) if self.distance[s] > least and self.most(s) > 0]

    def generator(self, sample: int, probe: int) -> np.random.Generator:
        """Random numbers of one sample in one probe: the same, whichever others are attacked beside it."""
        return np.random.default_rng([self.case.budget.seed, probe, int(self.case.attacked[sample])])

    def edits(self, sample: int, words: Words) -> list[int]:
        """The places that differ from what they were."""
        pairs = enumerate(zip(words, self.texts[sample].words, strict=True))
        return [at for at, (now, was) in pairs if now != was]

    def joined(self, sample: int, words: Words) -> str:
        """The text that these words make."""
        return self.texts[sample].joined(words)

    def ask(self, owner: Sequence[int], made: Iterable[Words]) -> tuple[np.ndarray, np.ndarray]:
        """The margin of each, by which the right class is ahead, float64 (n,), and which are wrong.

        All in one call of the model, or few where they are very many or long: ``made`` (n) is read as it is
        needed. What turns an answer with fewer edits than were known is kept. ValueError where a sample would
        be asked about more often than it may.
        """
        who = np.asarray(owner, np.int64)
        counts = np.bincount(who, minlength=len(self))
        if (self.used + counts > self.queries).any():
            raise ValueError("more queries of a sample than it has left")
        margins, wrong = np.zeros(len(who)), np.zeros(len(who), bool)
        at = 0
        for words, texts in self._parts(owner, made):
            part = slice(at, at + len(texts))
            scores = self.case.victim.scores(texts)
            wrong[part] = scores.argmax(axis=1) != self.y[who[part]]
            margins[part] = self._margins(scores, who[part])
            for turned in np.flatnonzero(wrong[part]).tolist():
                self._keep(int(who[at + turned]), words[turned], str(texts[turned]))
            at += len(texts)
        self.used += counts
        return margins, wrong

    def _parts(self, owner: Sequence[int], made: Iterable[Words]) -> Iterator[tuple[list[Words], np.ndarray]]:
        """The words and texts of one call after the other."""
        words: list[Words] = []
        texts: list[str] = []
        chars = 0
        for sample, candidate in zip(owner, made, strict=True):
            text = self.joined(sample, candidate)
            if texts and (len(texts) == ROWS_MAX or chars + len(text) > CHARS_MAX):
                yield words, np.array(texts, object)
                words, texts, chars = [], [], 0
            words.append(candidate)
            texts.append(text)
            chars += len(text)
        if texts:
            yield words, np.array(texts, object)

    def _keep(self, sample: int, words: Words, text: str) -> None:
        count = len(self.edits(sample, words))
        if text.strip() and 0 < count <= self.limit[sample] and count < self.distance[sample]:
            self.distance[sample], self.adversarial[sample] = count, text
            self.found[sample] = words

    def _margins(self, scores: np.ndarray, who: np.ndarray) -> np.ndarray:
        """Of probabilities the margin of their logarithms: where one is near 1, the others still tell."""
        said = scores.astype(np.float64)
        if self.case.victim.gives == "probabilities":
            said = np.log(np.maximum(said, TINY))
        at = np.arange(len(said))
        right = said[at, self.y[who]]
        said[at, self.y[who]] = -np.inf
        return np.asarray(right - said.max(axis=1)) if said.shape[1] > 1 else right

    def fewer(self, samples: Sequence[int]) -> None:
        """Put back, one place after the other, what the turned texts found here do not need."""
        tried: dict[int, set[int]] = {sample: set() for sample in samples if sample in self.found}
        while True:
            turn = []
            for sample, done in tried.items():
                rest = [at for at in self.edits(sample, self.found[sample]) if at not in done]
                if len(rest) + len(done) > 1 and rest and self.left[sample] > 0:
                    turn.append((sample, rest[0]))
            if not turn:
                return
            self.ask([sample for sample, _ in turn], [self._back(sample, at) for sample, at in turn])
            for sample, at in turn:
                if at in self.edits(sample, self.found[sample]):
                    tried[sample].add(at)

    def _back(self, sample: int, at: int) -> Words:
        words = list(self.found[sample])
        words[at] = self.texts[sample].words[at]
        return tuple(words)
