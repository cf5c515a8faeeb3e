from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.core.errors import NotFound, Unavailable
from tallystick.hub.house.route import Live, Routes

FIRST = Live(Path("/s/1"), 1, "digits", "1")
SECOND = Live(Path("/s/2"), 2, "digits", "2")


def test_the_newest_that_was_put_is_found():
    routes = Routes()
    routes.put("a", FIRST)
    routes.put("a", SECOND)
    assert routes.find("a") == SECOND


def test_an_unknown_name_says_which_are_known():
    routes = Routes()
    with pytest.raises(NotFound, match="deploy a model first"):
        routes.find("a")
    routes.put("b", FIRST)
    routes.trouble("c", "starting")
    with pytest.raises(NotFound, match="known: b, c"):
        routes.find("a")


def test_many_known_names_are_cut_short():
    routes = Routes()
    for number in range(30):
        routes.put(f"n{number:02}", FIRST)
    with pytest.raises(NotFound, match=r"n09, \.\.\."):
        routes.find("a")


def test_trouble_says_why_until_something_answers():
    routes = Routes()
    routes.trouble("a", "it is starting")
    with pytest.raises(Unavailable, match="it is starting"):
        routes.find("a")
    routes.put("a", FIRST)
    assert routes.find("a") == FIRST


def test_trouble_with_a_successor_leaves_what_answers_in_place():
    routes = Routes()
    routes.put("a", FIRST)
    routes.trouble("a", "generation 2 failed")
    assert routes.find("a") == FIRST


def test_dropping_forgets_and_may_be_done_twice():
    routes = Routes()
    routes.put("a", FIRST)
    routes.drop("a")
    routes.drop("a")
    assert routes.names() == ()
