"""A preprocessing that the policy's domain declares reaches the gradients of the model that is judged."""

from __future__ import annotations

import pytest

from tallystick.core.errors import BadInput
from tallystick.core.facts import to_json
from tallystick.crew.judging.offers import list_threats, open_attacks
from tallystick.evidence.domain import Domain, DomainKind, Preprocessing
from tallystick.evidence.probe import ProbeState
from tests.crew.judging.orders import digits, order, told
from tests.gradient.behind import model


@pytest.fixture
def judged(tmp_path):
    folder = model("bits", tmp_path / "bits")

    def run(out, preprocessing):
        listed = list_threats(*open_attacks(tmp_path)).chosen(())
        domain = Domain(DomainKind.IMAGE, (8, 8), preprocessing=preprocessing)
        probes = [to_json(p) for p in listed if p.name == "pgd"]
        return told(order(tmp_path, folder, digits(), probes, domain=to_json(domain), out=out))

    return run


def test_without_it_gradients_do_not_apply_and_with_it_they_turn_the_model(judged):
    plain = judged("plain", None)
    assert plain["pgd"].state is ProbeState.NOT_APPLICABLE
    assert "it needs gradients" in plain["pgd"].why
    declared = judged("declared", Preprocessing(stand_in="identity"))
    assert declared["pgd"].done
    assert declared["pgd"].gradients > 0
    assert declared.parts[-1]["robust"][-1] < declared.base.right.right / 2
    said = "gradients taken across its declared preprocessing by identity (Athalye et al. 2018)"
    assert any(said in note for note in declared["clean"].notes)


def test_one_that_the_model_has_not_is_said(judged):
    wrong = judged("wrong", Preprocessing("nowhere"))
    assert wrong["pgd"].state is ProbeState.NOT_APPLICABLE
    assert "the model has no tensor 'nowhere'" in wrong["pgd"].why


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (DomainKind.IMAGE, {"stand_in": "hope"}),
        (DomainKind.IMAGE, {"size": 4}),
        (DomainKind.IMAGE, {"size": 0}),
        (DomainKind.VECTOR, {"stand_in": "mean"}),
    ],
)
def test_what_is_no_declaration_is_refused(kind, said):
    with pytest.raises(BadInput):
        Domain(kind, (8, 8) if kind is DomainKind.IMAGE else (), preprocessing=Preprocessing(**said))
