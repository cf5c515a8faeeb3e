from __future__ import annotations

import pytest

MADE = {
    "key": "schedule-1", "name": "p", "next_due_ms": 1_700_000_000_000, "enabled": True, "last_run": "",
    "last_state": "", "error": "", "timing": {"cron": "", "every_s": 21_600},
    "options": {"on": "", "host": ""},
}  # fmt: skip


@pytest.fixture
def hub(desk, tmp_path):
    (tmp_path / "p.yaml").write_text("pipeline")
    desk.answers["POST /api/tally/schedules"] = MADE
    desk.answers["GET /api/tally/schedules"] = [MADE]
    return desk


def test_a_schedule_says_where_its_runs_are_done(hub):
    words = ("schedule", "add", "p.yaml", "--every", "6h", "-p", "n=1")
    said = hub.type(*words, "--on", "kubeflow", "--host", "http://there")
    assert (said.status, said.out) == (0, "schedule-1 p, next due 2023-11-14 22:13:20 UTC\n")
    assert hub.bodies("POST /api/tally/schedules") == [
        {
            "spec": "pipeline", "filename": "p.yaml", "params_text": {"n": "1"}, "cron": "",
            "every_s": 21_600, "options": {"on": "kubeflow", "host": "http://there"}, "name": "",
            "at_once": 1, "catchup": False,
        }
    ]  # fmt: skip
    assert hub.type(*words).status == 0
    assert hub.bodies("POST /api/tally/schedules")[1]["options"] == {}


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"on": "", "host": ""}, "every 6h"),
        ({"on": "ray", "host": ""}, "every 6h, on ray"),
        ({"on": "kubeflow", "host": "http://there"}, "every 6h, on http://there"),
    ],
)
def test_the_list_says_so_too(hub, options, shown):
    hub.answers["GET /api/tally/schedules"] = [{**MADE, "options": options}]
    said = hub.type("schedule", "list")
    assert [" ".join(part.split()) for part in said.out.splitlines()[1].split("  ") if part][2] == shown
