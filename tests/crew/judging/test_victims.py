"""Models of every kind, and such as misbehave: what is made of their answers, or why they make no sense."""

from __future__ import annotations

import numpy as np
import pytest

from tallystick.core.errors import BadInput, Failed, NotSupported
from tallystick.core.model import TensorSpec
from tallystick.crew.judging.base import measure_base
from tallystick.crew.judging.rows import Given
from tallystick.crew.measure.columns import named
from tallystick.crew.measure.target import Seen
from tallystick.evidence.domain import Budget, Domain, DomainKind
from tallystick.evidence.probe import ProbeState

X = np.random.default_rng(3).uniform(0, 1, (40, 2)).astype(np.float32)
ODDS = np.stack([1 - X[:, 0], X[:, 0]], axis=1).astype(np.float32)
TRUTH = (X[:, 0] > 0.5).astype(np.int64)


class Model:
    """A predictor that answers ``answer(rows)``."""

    def __init__(self, answer, inputs=None):
        self.inputs = inputs or (TensorSpec("x", "FP32", (-1, 2)),)
        self.outputs = (TensorSpec("y", "FP32", (-1, 2)),)
        self._answer = answer
        self.calls = 0

    def predict(self, inputs):
        self.calls += 1
        return self._answer(next(iter(inputs.values())))


class Inside(Model):
    """One that has gradients, of ``other`` if that is given."""

    other = None

    def pull(self, inputs, weigh):
        rows = inputs["x"]
        scores = (self.other or self._answer)(rows)["y"]
        weigh(scores)
        return scores, {"x": np.ones_like(rows)}

    def hidden(self, inputs):
        return inputs["x"]


def odds(rows):
    return {"y": np.stack([1 - rows[:, 0], rows[:, 0]], axis=1).astype(np.float32)}


def seen(answer, truth=TRUTH, x=X, **more):
    return Seen(Model(answer, **more), x, named(np.asarray(truth)))


# ---------------------------------------------------------------------- what answers mean


def test_scores_chances_and_labels_are_told_apart():
    found = seen(odds)
    assert (found.gives, found.classes, found.names) == ("probabilities", 2, ("0", "1"))
    np.testing.assert_array_equal(found.clean, ODDS)
    assert seen(lambda r: {"y": odds(r)["y"] * 9 - 3}).gives == "logits"
    for shape in ((-1,), (-1, 1)):
        chance = seen(lambda r, s=shape: {"y": r[:, 0].reshape(s)})
        assert chance.gives == "probabilities"
        np.testing.assert_allclose(chance.clean, ODDS, atol=1e-6)
    labels = seen(lambda r: {"y": (r[:, 0] > 0.5).astype(np.int64)})
    assert (labels.gives, labels.names) == ("labels", ("0", "1", "(any other)"))
    assert (labels.clean.argmax(axis=1) == TRUTH).all()


def test_a_chance_that_is_certain_of_all_rows_is_still_a_chance():
    """What an output is, is decided once: not anew for rows about which it happens to be certain."""
    found = seen(lambda r: {"y": r[:, 0]})
    np.testing.assert_array_equal(found.scores(np.array([[0, 0], [1, 0]], np.float32)), [[1, 0], [0, 1]])


@pytest.mark.parametrize("kind", [str, lambda n: {0: "no", 1: "yes"}[n], lambda n: n + 5])
def test_classes_are_what_the_model_calls_them(kind):
    """By the labels that it says beside its scores, as text, bytes or other numbers, in any order."""
    names = np.array([kind(n) for n in (0, 1)], object)

    def answer(rows):
        scores = odds(rows)["y"]
        said = [str(names[p]).encode() for p in scores.argmax(axis=1)]
        return {"label": np.array(said, object), "probabilities": scores[:, ::1]}

    truth = np.array([names[t] for t in TRUTH])
    found = seen(answer, truth)
    assert found.names == tuple(str(n) for n in names)
    assert (found.y == TRUTH).all()


def test_labels_alone_as_text():
    found = seen(
        lambda r: {"y": np.where(r[:, 0] > 0.5, b"yes", b"no").astype(object)},
        np.where(TRUTH == 1, "yes", "no"),
    )
    assert found.names == ("no", "yes", "(any other)")
    assert (found.clean.argmax(axis=1) == found.y).all()


def test_scores_without_names_are_of_the_labels_in_order():
    found = seen(odds, np.where(TRUTH == 1, "yes", "no"))
    assert found.names == ("no", "yes")
    assert "labels in order: no, yes" in found.notes[0]


@pytest.mark.parametrize(
    ("answer", "truth", "kind", "words"),
    [
        (odds, TRUTH + 1, BadInput, "label 2 is not one of the model's 2 classes"),
        (odds, ["a", "b", "c", "d"] * 10, BadInput, "4 of them, and the model gives 2 scores"),
        (lambda r: {"y": r}, TRUTH, None, ""),
        (lambda r: {"y": r[:, :1] * 7}, TRUTH, NotSupported, "not a chance from 0 to 1"),
        (lambda r: {"y": r[:, :, None]}, TRUTH, NotSupported, "neither class scores nor classes"),
        (lambda r: {}, TRUTH, Failed, "does not answer row by row"),
        (lambda r: {"y": odds(r)["y"][:-1]}, TRUTH, Failed, "does not answer row by row"),
        (lambda r: {"y": np.float32(3)}, TRUTH, Failed, "does not answer row by row"),
        (lambda r: {"y": odds(r)["y"] * np.nan}, TRUTH, Failed, "row 1 of 40 with a score that is no finite"),
        (lambda r: {"y": np.where(r[:, 0] > 0.5, np.inf, 0.5)}, TRUTH, Failed, "no finite number"),
        (
            lambda r: {"l": 1 - odds(r)["y"].argmax(axis=1) % 1, **odds(r)},
            TRUTH, NotSupported, "not those of its highest scores",
        ),
    ],
)  # fmt: skip
def test_answers_that_mean_nothing_are_named(answer, truth, kind, words):
    if kind is None:
        seen(answer, truth)
        return
    with pytest.raises(kind, match=words):
        seen(answer, truth)


def test_a_model_that_changes_what_it_gives_is_caught():
    turn = [odds, lambda r: {"y": np.ones((len(r), 3), np.float32)}, lambda r: {"z": r}]

    def fickle(rows):
        return turn[0](rows)

    model = Model(fickle)
    found = Seen(model, X, named(TRUTH))
    for words in ("other outputs than at first", "lacks 'y'"):
        turn.pop(0)
        with pytest.raises(Failed, match=words):
            found.scores(X)


# ---------------------------------------------------------------------- gradients


def test_gradients_are_those_of_the_function_that_answers():
    inside = Seen(Inside(odds), X, named(TRUTH))
    assert inside.gradients
    logits, pulled = inside.pull(X, np.ones_like)
    assert (logits.shape, pulled.shape, pulled.dtype) == ((40, 2), (40, 2), np.float32)
    assert inside.hidden(X).shape == (40, 2)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda r: {"y": odds(r)["y"][:, ::-1]}, "of another function than its answers"),
        (lambda r: {"y": np.ones((len(r), 3), np.float32)}, "logits of shape"),
        (lambda r: {"y": odds(r)["y"] * np.inf}, "no finite number"),
    ],
)
def test_gradients_that_are_not_its_own_are_none(other, words):
    model = Inside(odds)
    model.other = other
    with np.errstate(invalid="ignore"):
        found = Seen(model, X, named(TRUTH))
    assert not found.gradients
    assert words in found.no_gradients


def test_a_model_without_an_inside_says_so():
    found = seen(odds)
    assert "gives no gradients" in found.no_gradients
    with pytest.raises(NotSupported):
        found.pull(X, np.ones_like)
    with pytest.raises(NotSupported):
        found.hidden(X)


# ---------------------------------------------------------------------- texts


def test_texts_go_in_as_bytes():
    def answer(rows):
        assert rows.dtype == object
        said = np.array([float(len(text[0].decode()) > 3) for text in rows])
        return {"y": np.stack([1 - said, said], axis=1).astype(np.float32)}

    texts = np.array(["abc", "über", "", "no"] * 5, object)
    found = Seen(
        Model(answer, (TensorSpec("t", "BYTES", (-1, 1)),)), texts, named(np.array([0, 1, 0, 0] * 5))
    )
    assert (found.clean.argmax(axis=1) == found.y).all()
    assert found.no_gradients == "there are no gradients of texts"
    with pytest.raises(NotSupported, match="input 'x' is FP32"):
        Seen(Model(answer), texts, named(np.array([0, 1, 0, 0] * 5)))


# ---------------------------------------------------------------------- twice asked


def base_of(answer, **more):
    rows = Given(X, named(TRUTH), ("a", "b"), more.pop("domain", Domain()))
    budget = Budget(eps=(0.1,), samples_max=10)
    return measure_base(Seen(Model(answer), X, rows.truth), rows, budget, key="", size_mib=1.5, notes=[])


def test_a_model_that_contradicts_itself_is_never_right_about_what_it_contradicts():
    """It fails the probe, and a row counts as right only where it was so every time."""
    calls = iter(range(100))

    def fickle(rows):
        scores = odds(rows)["y"]
        return {"y": scores[:, ::-1] if next(calls) % 2 else scores}

    base = base_of(fickle)
    assert base.probe.state is ProbeState.FAILED
    assert "asked twice about the same 40 rows, it gave another answer about 40" in base.probe.why
    assert base.clean.right == 0
    assert base.probe.figures == ()


def test_scores_that_tremble_are_a_note():
    draw = np.random.default_rng(1)

    def trembles(rows):
        sure = np.abs(rows[:, :1] - 0.5) > 0.05
        return {"y": odds(rows)["y"] + sure * draw.uniform(0, 1e-2, (len(rows), 2)).astype(np.float32)}

    base = base_of(trembles)
    assert base.probe.done
    assert "its scores differ by up to" in base.probe.notes[0]


def test_a_model_that_answers_always_alike_is_done():
    base = base_of(odds)
    assert base.probe.done
    assert base.probe.notes == ()
    assert (base.clean.right, base.right.total, len(base.noise)) == (40, 10, 1)
    assert [f.value for f in base.probe.figures] == [1.5]
    assert base_of(odds, domain=Domain(DomainKind.VECTOR)).clean == base.clean


def test_a_twin_is_asked_only_where_it_takes_very_many_questions_or_its_structure() -> None:
    """A trigger, a copy or what it gives away is looked for in the model itself: its twin may lack it."""
    from tallystick.crew.judging.victims import Victims
    from tallystick.evidence.probe import Threat
    from tallystick.ports.models.attack import Needs

    itself, twin = object.__new__(Seen), object.__new__(Seen)
    both = Victims(itself, twin)
    plain, trained = Needs(), Needs(train=True)
    asked = {threat for threat in Threat if both.for_(threat, plain) is twin}
    assert asked == {Threat.EVASION, Threat.CERTIFICATE}
    assert both.for_(Threat.POISONING, trained) is twin  # traces inside, told as the twin's
    assert both.for_(Threat.INFERENCE, trained) is itself
    assert all(both.for_(threat, Needs(itself=True)) is itself for threat in Threat)
    assert all(Victims(itself).for_(threat, plain) is itself for threat in Threat)
    assert not both.apart(np.zeros((3, 2))).any()
