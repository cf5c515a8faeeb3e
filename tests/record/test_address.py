"""A database's address as it is shown: whatever the password, its text is in no output."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tallystick.record.address import apart, cleaned, without_password

BEGIN, END = "Zq7begin", "Zq7end"
"""What a password begins and ends with, so that a part of one is noticed too."""


def password_of(noise: str) -> str:
    return f"{BEGIN}{noise}{END}"


ODD = st.text(alphabet="@:/?#&=%+ \\'\"[],;aZ09\u00e9\udc80", max_size=12)
PASSWORDS = st.builds(password_of, st.one_of(ODD, st.text(max_size=20)))
USERS = st.sampled_from(["", "ada", "ada.b", "a%40b"])
REST = st.sampled_from(
    ["host/runs", "host:5432/runs?sslmode=require", "[::1]:5432/runs", "/runs?host=/s", "h1,h2/r"]
)
KEYS = st.sampled_from(["password", "pass%77ord", "PassWord", "sslpassword", "oauth_client_secret"])


def nothing_of_it(shown: str) -> bool:
    return BEGIN not in shown and END not in shown


@given(USERS, PASSWORDS, REST)
@example("user", password_of("?x"), "dbhost/mlflow")
@example("user", password_of("?password=a@b"), "dbhost/mlflow")
@example("user", password_of("://"), "dbhost/mlflow")
def test_before_the_host(user: str, password: str, rest: str) -> None:
    for given_ in (password, quote(password, safe="", errors="surrogateescape")):
        url = f"{user}:{given_}@{rest}"
        assert nothing_of_it(without_password(f"postgresql://{url}"))
        assert nothing_of_it(without_password(url)), "no URL at all"
        assert nothing_of_it(without_password(f"postgresql:/{url}"))
        assert nothing_of_it(without_password(f"postgresql:///{url}"))
        if "@" not in given_:
            assert nothing_of_it(without_password(f"postgresql://ada:{given_}")), "the host forgotten"


@given(KEYS, PASSWORDS, st.sampled_from(["", "ada@", "ada:x@"]), st.sampled_from(["", "&host=/s", "&a=b@c"]))
def test_among_the_parameters(key: str, password: str, user: str, more: str) -> None:
    for given_ in (password, quote(password, safe="", errors="surrogateescape")):
        shown = without_password(f"postgresql://{user}host:5432/runs?user=a&{key}={given_}{more}")
        assert nothing_of_it(shown)
        assert nothing_of_it(without_password(f"dbname=runs {key}={given_}"))


@given(USERS, PASSWORDS, KEYS, PASSWORDS)
def test_a_proper_address_is_taken_apart(user: str, first: str, key: str, second: str) -> None:
    def quoted(text: str) -> str:
        return quote(text, safe="", errors="surrogateescape")

    url = f"postgresql://{user}:{quoted(first)}@host/runs?sslmode=require&{key}={quoted(second)}&host=h"
    left, secrets = apart(url)
    assert left == f"postgresql://{user}{'@' if user else ''}host/runs?sslmode=require&host=h"
    assert [value for _, value in secrets] == [first, second]
    assert without_password(left) == left
    for told in (first, quoted(first), quoted(first).lower(), repr(first)[1:-1], second, url):
        if BEGIN in told:
            assert nothing_of_it(cleaned(f"x{told}y", url))


@given(st.sampled_from(["p", "u", "ho", "p:"]))
def test_a_short_password_spoils_no_other_word(password: str) -> None:
    url = f"postgresql://up:{quote(password)}@hop/pop"
    assert cleaned(f"postgresql://up:{quote(password)}@hop/pop: no '{password}'", url) == (
        "postgresql://up:***@hop/pop: no '***'"
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://host/runs", None),
        ("postgresql://ada@host/runs", None),
        ("postgresql://h1:5432,h2:5433/runs?sslmode=require&passfile=/p", None),
        ("postgresql://[::1]:5432/runs", None),
        ("postgresql:///runs?host=/run/pg", None),
        ("sqlite:////home/a@b/m.db", None),
        ("s3://bucket/prefix", None),
        ("/data/a@b,file:///data/x", None),
        ("127.0.0.1", None),
        ("postgresql://ada:x@host/runs", "postgresql://ada:***@host/runs"),
        ("postgresql://ada:s@cre/t@host:1/runs?a=b", "postgresql://ada:***@host:1/runs?a=b"),
        (
            "postgresql://ada:x@host/runs?a=b&password=y&c=d",
            "postgresql://ada:***@host/runs?a=b&password=***",
        ),
    ],
)
def test_what_is_no_password_is_shown(url: str, shown: str | None) -> None:
    assert without_password(url) == (shown or url)
