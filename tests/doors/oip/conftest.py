from __future__ import annotations

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from tests.fakes.models import build
from tests.fakes.serving import House


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    return build(tmp_path_factory)


@pytest.fixture(scope="session")
def house(made, tmp_path_factory):
    opened = House(tmp_path_factory.mktemp("s"))
    opened.open()
    try:
        opened.serve(made / "forest", "digits")
        opened.serve(made / "picky", "picky")
        opened.serve(made / "mixed", "mixed")
        yield opened
    finally:
        ended = opened.close()
    assert all(status == 0 for _, status in ended)


@pytest.fixture
def record(house):
    house.record.clear()
    return house.record


@pytest.fixture(scope="session")
def told(made):
    return np.load(made / "forest.npz")


@pytest.fixture
def client(house):
    with httpx.Client(base_url=f"http://127.0.0.1:{house.port}", timeout=60) as opened:
        yield opened


@pytest.fixture
def stock(house):
    opened = triton.InferenceServerClient(f"127.0.0.1:{house.port}")
    yield opened
    opened.close()
