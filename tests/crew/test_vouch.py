"""The errand ``vouch``: OpenSSF's library says yes to what it should, and no to the rest, in a process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput, Failed, TookTooLong
from tallystick.core.names import digest_of
from tallystick.doors.vouch import stock
from tallystick.doors.vouch.stock import ask_stock
from tallystick.evidence.papers.oms import model_statement
from tallystick.evidence.papers.tree import Member
from tallystick.ports.tile import Place
from tallystick.tiles.signing.dsse import open_tile

pytest.importorskip("model_signing", reason="model-signing is not installed")


@pytest.fixture
def signing(tmp_path):
    return open_tile(Place(tmp_path / "home"))


@pytest.fixture
def model(signing, tmp_path) -> tuple[Path, Path]:
    """A folder with a file, and its signature."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "f").write_bytes(b"content")
    statement = model_statement("model", [Member("f", digest_of(b"content"), 7)])
    (tmp_path / "model.sig").write_text(json.dumps(signing.sign_model(statement.to_bytes())))
    return tmp_path / "model", tmp_path / "model.sig"


def test_it_agrees_and_says_which_version_did(signing, model):
    from importlib.metadata import version

    assert ask_stock(*model, signing.keys()[1]) == version("model-signing")


def test_it_says_no_in_its_own_words(signing, model):
    folder, signature = model
    with pytest.raises(Failed, match="it says no"):
        ask_stock(folder, signature, signing.keys()[0])  # Ed25519
    (folder / "f").write_bytes(b"changed")
    with pytest.raises(Failed, match="Signature mismatch"):
        ask_stock(folder, signature, signing.keys()[1])
    signature.write_text("{}")
    with pytest.raises(Failed, match="it says no"):
        ask_stock(folder, signature, signing.keys()[1])


def test_what_is_not_said_in_time_is_not_waited_for(signing, model, monkeypatch):
    """No process says a word in no time; of large files it is waited for longer."""
    monkeypatch.setattr(stock, "START_S", 0.0)
    with pytest.raises(TookTooLong, match="it was not done within 0 s"):
        ask_stock(*model, signing.keys()[1])
    monkeypatch.setattr(stock, "BYTES_A_SECOND", 7 / 60)
    assert ask_stock(*model, signing.keys()[1])


def test_an_order_says_everything():
    from tallystick.crew.vouch import main

    class Desk:
        def __init__(self):
            self.order = {"folder": "x"}

    with pytest.raises(BadInput):
        main(Desk())
