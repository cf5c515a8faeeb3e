"""What a component may ask for, and how this machine says where its packages are."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from tallystick.core.errors import NotSupported, Refused
from tallystick.core.pipeline.spec import Function
from tallystick.tiles.environments.tool import machine_env
from tallystick.tiles.environments.wanted import Indexes, requirements_of
from tests.tiles.environments.index import Index, served, wheel

ALLOWED = "https://one.invalid/simple"


def wanting(*packages, urls=(), hosts=()):
    return Function("it", "", packages, urls, hosts)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "-r x", "--index-url=https://x.invalid", "-e .", "./folder", "/etc/passwd", "../x.whl"),
        *(
            "file:///x.whl",
            "git+https://x.invalid/y",
            "name @ https://x.invalid/y.whl",
            "name @ file:///y.whl",
        ),
        *("name==1\n--index-url=x", "name==1\r-r x", "name\x00", "name==1 --hash=sha256:0", "name \\\n-r x"),
        *("name==1; python_version<'4' -r x", "name #\u2028-r x", "n" * 600, "$(id)", "name==1 ; x"),
    ],
)
def test_what_is_no_plain_requirement_is_refused(text):
    with pytest.raises(NotSupported) as wrong:
        requirements_of(wanting("fine", text))
    assert wrong.value.where == "it"


@given(st.text(max_size=40))
def test_whatever_is_taken_is_one_requirement_on_one_line(text):
    with contextlib.suppress(NotSupported):
        for line in requirements_of(wanting(text)):
            assert line.isprintable()
            assert not line.startswith(("-", "/", "."))
            assert not Requirement(line).url


def test_requirements_have_one_spelling():
    assert requirements_of(wanting("b >= 1 , < 2", "a[x]", "a[x]", "b<2,>=1")) == ("a[x]", "b<2,>=1")
    with pytest.raises(NotSupported, match="501 packages"):
        requirements_of(wanting(*(f"p{n}" for n in range(501))))


def test_indexes_that_are_allowed():
    indexes = Indexes.of(f" {ALLOWED}/ ,https://two.invalid/simple,".split(","))
    code = wanting("x", urls=(ALLOWED, "https://two.invalid/simple/"), hosts=("one.invalid",))
    assert indexes.options(code) == [
        f"--default-index={ALLOWED}",
        "--index=https://two.invalid/simple/",
        "--allow-insecure-host=one.invalid",
    ]
    assert indexes.options(wanting("x")) == []


@pytest.mark.parametrize(
    ("urls", "hosts"),
    [
        (("https://other.invalid/simple",), ()),
        ((ALLOWED, "https://other.invalid"), ()),
        ((ALLOWED + "/../evil",), ()),
        (("file:///etc",), ()),
        ((ALLOWED,), ("two.invalid",)),
        ((), ("one.invalid",)),
    ],
)
def test_indexes_that_are_not(urls, hosts):
    with pytest.raises(Refused) as wrong:
        Indexes.of([ALLOWED]).options(wanting("x", urls=urls, hosts=hosts))
    assert wrong.value.where == "it"


def test_a_refusal_shows_no_password_and_names_the_setting():
    with pytest.raises(Refused) as wrong:
        Indexes.of([]).options(wanting("x", urls=("https://me:secret@one.invalid/simple",)))
    assert "secret" not in str(wrong.value)
    assert "package_indexes" in wrong.value.hint


async def test_an_index_of_its_own_takes_the_place_of_the_machine_s(opened, index):
    own = Index(wheel("tinyone", "7.0"))
    with served(own) as url:
        code = wanting("tinyone", urls=(url,))
        with pytest.raises(Refused):
            await opened().resolve(code)
        assert (await opened(package_indexes=url).resolve(code)).packages == {"tinyone": "7.0"}
    assert own.asked
    assert index.asked == []
    assert (await opened().resolve(wanting("tinyone"))).packages == {"tinyone": "2.0"}


def test_nothing_of_the_hub_s_environment_but_how_packages_are_reached():
    env = {
        "SECRET": "x",
        "UV_INDEX": "a",
        "HTTPS_PROXY": "p",
        "SSL_CERT_FILE": "c",
        "HOME": "/h",
        "UV_BUILD": "y",
    }
    assert machine_env(env) == {k: env[k] for k in ("UV_INDEX", "HTTPS_PROXY", "SSL_CERT_FILE", "HOME")}


def test_what_pip_was_told_uv_is_told(tmp_path):
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "pip.conf").write_text(
        "[global]\nindex-url = https://one.invalid\nextra-index-url = https://two.invalid\n  https://three.invalid\n"
    )
    env = {
        "XDG_CONFIG_HOME": str(tmp_path),
        "PIP_FIND_LINKS": "/a /b",
        "PIP_INDEX_URL": "https://own.invalid",
    }
    found = machine_env(env)
    assert found["UV_DEFAULT_INDEX"] == "https://own.invalid"
    assert found["UV_INDEX"] == "https://two.invalid https://three.invalid"
    assert found["UV_FIND_LINKS"] == "/a,/b"
    assert "UV_FIND_LINKS" not in machine_env({**env, "UV_INDEX": "https://four.invalid"})
    (tmp_path / "pip" / "pip.conf").write_text("not a file of pip's")
    assert machine_env(env)["UV_DEFAULT_INDEX"] == "https://own.invalid"
