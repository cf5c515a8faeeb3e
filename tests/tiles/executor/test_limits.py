"""What a step may use, on which cores, and what is imported before it begins."""

from __future__ import annotations

import os
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.pipeline.imports import MODULES, modules_of, packages_in, starts_differently
from tallystick.core.pipeline.spec import Resources
from tallystick.tiles.executor.limits import MIB, Cores, Limits
from tallystick.tiles.executor.local import OPTIONS
from tests.fakes.steps import step

names = st.sampled_from([*MODULES, "os", "numpyro", "my.numpy", "pandas_like"])


@given(
    cpus=st.floats(0, 1000, allow_nan=False),
    memory=st.integers(0, 2**60),
    timeout=st.integers(0, 2**40),
    threads=st.integers(1, 256),
)
def test_a_component_narrows_and_never_widens(cpus, memory, timeout, threads):
    options = {**OPTIONS, "step_threads": threads}
    asked = replace(step("pass"), resources=Resources(cpus=cpus, memory_bytes=memory), timeout_s=timeout)
    limits = Limits.of(asked, options, 1260)
    assert 1 <= limits.memory_mib <= options["step_memory_mib"]
    assert 1 <= limits.threads <= threads
    assert 1 <= limits.seconds <= 1260
    assert not memory or limits.memory_mib * MIB <= max(memory, MIB)
    assert not timeout or limits.seconds <= timeout
    assert limits.wire(counted=True)["RLIMIT_NPROC"] == (512, 512)
    assert "RLIMIT_NPROC" not in limits.wire(counted=False)


@given(st.lists(st.floats(0, 8, allow_nan=False), max_size=12))
def test_cores_are_dealt_out_evenly_and_given_back(asked):
    cores, own, open_ones = Cores(), os.sched_getaffinity(0), []
    for cpus in asked:
        taken = cores.taken(cpus)
        chosen = taken.__enter__()
        open_ones.append(taken)
        assert set(chosen) <= own
        assert not chosen or cpus <= len(chosen) < len(own)
    spread = [cores._steps[core] for core in own]
    narrow = [1 for cpus in asked if 0 < cpus < len(own)]
    assert max(spread) - min(spread) <= max(1, len(narrow))
    for taken in open_ones:
        taken.__exit__(None, None, None)
    assert not any(cores._steps.values())


@given(
    st.lists(
        st.tuples(
            names, st.sampled_from(["import {}", "from {} import x", "import {} as y", "import os, {}"])
        )
    )
)
def test_what_a_source_imports_is_guessed(lines):
    source = "def it():\n" + "".join(f"    {form.format(name)}\n" for name, form in lines)
    assert packages_in(source) == {name for name, _ in lines} & MODULES.keys()


@given(st.text())
def test_no_source_is_too_odd_to_be_looked_at(source):
    assert packages_in(source) <= MODULES.keys()
    assert modules_of(packages_in(source)) <= {m for some in MODULES.values() for m in some}


def test_submodules_count_and_words_do_not():
    assert packages_in("  from sklearn.linear_model import Ridge\nimport scipy.stats") == {"sklearn", "scipy"}
    assert packages_in("# import numpy\nx = 'import pandas'\nimportant = numpy") == frozenset()


def test_variables_that_are_read_at_the_start():
    assert starts_differently({"PYTHONHASHSEED": "0"}, {})
    assert starts_differently({"OMP_NUM_THREADS": "4"}, {"OMP_NUM_THREADS": "1"})
    assert not starts_differently({"OMP_NUM_THREADS": "1", "MLFLOW_RUN_ID": "x"}, {"OMP_NUM_THREADS": "1"})
