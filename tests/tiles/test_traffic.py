"""The traffic record in files."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput, Unavailable
from tallystick.ports.tile import Place
from tallystick.ports.traffic import Exchange, Traffic, read_window
from tallystick.proofs.traffic import TrafficProof, exchange
from tallystick.tiles.traffic.files import FileTraffic, open_tile
from tallystick.tiles.traffic.segments import SEGMENTS_MAX, encode


def opened(home: Path) -> FileTraffic:
    return open_tile(Place(home, options={"traffic_mib_max": 1}))


def segments(home: Path) -> list[Path]:
    return sorted(home.glob("traffic/t/e/*"))


class TestFileTraffic(TrafficProof):
    async def open(self, home: Path) -> Traffic:
        return opened(home)

    async def shut(self, traffic: Traffic) -> None:
        assert isinstance(traffic, FileTraffic)
        await traffic.close()


@pytest.fixture
async def traffic(tmp_path: Path) -> AsyncIterator[FileTraffic]:
    traffic = opened(tmp_path)
    yield traffic
    await traffic.close()


async def test_a_record_is_as_documented(traffic: FileTraffic) -> None:
    traffic.record("t", "e", Exchange(7, 2, 200, 1.5, b'{"a":1}\x00\x01', json_bytes=7))
    (path,) = await traffic.window("t", "e")
    assert path.parts[-4:] == ("traffic", "t", "e", "0000000001.exchanges")
    raw = path.read_bytes()
    line = raw[9 : 9 + int(raw[:8], 16)]
    assert raw[8:9] == b" "
    assert line == (
        b'{"at_ms":7,"generation":2,"status":200,"latency_ms":1.5,"json_bytes":7,"body_bytes":9,'
        b'"crc32":' + str(int(line.split(b":")[-1].rstrip(b"}\n"))).encode() + b"}\n"
    )
    assert raw.endswith(b'}\n{"a":1}\x00\x01')


@pytest.mark.parametrize("torn", [b"", b"0", b"00000060", b"\x00" * 500, b"zzzzzzzz {}", b"00000003 {}\n"])
async def test_a_torn_end_is_left_out(traffic: FileTraffic, torn: bytes) -> None:
    traffic.record("t", "e", exchange(1))
    window = await traffic.window("t", "e")
    with window[0].open("ab") as out:
        out.write(torn)
    assert list(read_window(window)) == [exchange(1)]


async def test_wherever_it_is_torn_the_rest_is_read(tmp_path: Path) -> None:
    whole = b"".join(encode(exchange(n, body=b"b" * n)) for n in range(4))
    ends = [sum(len(encode(exchange(n, body=b"b" * n))) for n in range(m)) for m in range(5)]
    path = tmp_path / "1.exchanges"
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        assert len(list(read_window([path]))) == sum(end <= size for end in ends[1:])
    damaged = bytearray(whole)
    damaged[ends[2] - 1] ^= 1  # the body of the second: nothing after it can be trusted
    path.write_bytes(damaged)
    assert list(read_window([path])) == [exchange(0, body=b"")]


async def test_after_a_restart_the_record_goes_on(tmp_path: Path) -> None:
    for n in range(3):
        traffic = opened(tmp_path)
        traffic.record("t", "e", exchange(n))
        await traffic.close()
    traffic = opened(tmp_path)
    window = await traffic.window("t", "e")
    recorded_bytes = traffic.stats("t", "e", 0).recorded_bytes
    await traffic.close()
    assert list(read_window(window)) == [exchange(n) for n in range(3)]
    assert recorded_bytes == sum(path.stat().st_size for path in window)
    assert traffic.stats("t", "e", 0).requests == 0


async def test_however_often_it_restarts_there_are_few_files(tmp_path: Path) -> None:
    for n in range(SEGMENTS_MAX + 10):
        traffic = opened(tmp_path)
        traffic.record("t", "e", exchange(n))
        await traffic.close()
    kept = [int(each.latency_ms) for each in read_window(segments(tmp_path))]
    assert kept == list(range(kept[0], SEGMENTS_MAX + 10))
    assert len(segments(tmp_path)) <= SEGMENTS_MAX


async def test_files_that_made_room_are_passed_over(traffic: FileTraffic) -> None:
    traffic.record("t", "e", exchange(1))
    window = list(await traffic.window("t", "e"))
    await traffic.clear("t", "e")
    traffic.record("t", "e", exchange(2))
    assert list(read_window([*window, *await traffic.window("t", "e")])) == [exchange(2)]


CHILD = """
import sys
from pathlib import Path
from tallystick.ports.tile import Place
from tallystick.ports.traffic import Exchange
from tallystick.tiles.traffic.files import open_tile
traffic = open_tile(Place(Path(sys.argv[1]), options={"traffic_mib_max": 1}))
n = 0
while True:
    traffic.record("t", "e", Exchange(n, 1, 200, 1.0, b"%d," % n * 500))
    n += 1
    if n == 3000:
        print("many", flush=True)
"""


def killed_while_it_writes(home: Path) -> None:
    """Have a process record until there are files, and kill it."""
    with subprocess.Popen([sys.executable, "-c", CHILD, str(home)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size for path in segments(home)) and time.monotonic() < deadline:
            pass
        child.kill()


async def test_killed_while_it_writes_what_it_wrote_is_read(tmp_path: Path) -> None:
    killed_while_it_writes(tmp_path)
    traffic = opened(tmp_path)
    window = await traffic.window("t", "e")
    found = list(read_window(window))
    await traffic.close()
    assert found
    assert all(each.body == b"%d," % each.at_ms * 500 for each in found)
    assert sum(path.stat().st_size for path in window) <= 2**20


async def test_a_disk_that_refuses_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "traffic" / "t").mkdir(parents=True)
    (tmp_path / "traffic" / "t" / "e").write_bytes(b"a file where a folder should be")
    traffic = opened(tmp_path)
    for n in range(100):
        traffic.record("t", "e", exchange(n))
    assert list(await traffic.window("t", "e")) == []
    assert traffic.stats("t", "e", 0).requests == 100
    traffic.record("t", "f", exchange(1))
    assert list(read_window(await traffic.window("t", "f"))) == [exchange(1)]
    await traffic.close()
    assert caplog.text.count("exchanges are not recorded") == 1


async def test_a_closed_record_only_counts(traffic: FileTraffic) -> None:
    await traffic.close()
    await traffic.close()
    traffic.record("t", "e", exchange(1))
    assert traffic.stats("t", "e", 0).requests == 1
    with pytest.raises(Unavailable):
        await traffic.window("t", "e")


@pytest.mark.parametrize("mib_max", [0, "1", True, 2**21])
def test_a_limit_that_is_none_is_refused(tmp_path: Path, mib_max: object) -> None:
    with pytest.raises(BadInput):
        open_tile(Place(tmp_path, options={"traffic_mib_max": mib_max}))
