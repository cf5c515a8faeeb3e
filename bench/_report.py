"""The table: what each server did at each work, the ratios, and the goal beside each."""

from __future__ import annotations

from collections.abc import Iterable

from _measure import PLUGIN, READS, WRITES, Figures, Work
from _services import ANALYSED, STOCK, TALLY

WORKS = {work.name: work for work in (*READS, *WRITES, PLUGIN)}
POSTGRESQL_BATCH_GOAL = 10.0
SEARCH_P50_GOAL_MS = 50.0


def print_figures(all_figures: list[Figures]) -> None:
    """Each work with its servers, then the ratios."""
    groups: dict[tuple[str, str, str], list[Figures]] = {}
    for figures in all_figures:
        groups.setdefault((figures.backend, figures.size, figures.work), []).append(figures)
    print(f"\n{'':44}{'rate':>11} {'p50':>10} {'p99':>10} {'CPU a unit':>15} {'n':>7}  (load's own CPU)")
    for (backend, size, work), group in groups.items():
        print(f"\n{work} ({backend}, {size} runs)")
        for figures in group:
            print(_line(figures))
        for line in _ratios(WORKS[work], group, all_figures):
            print(f"    {line}")


def _line(f: Figures) -> str:
    database = f" + {f.database_cpu_ms * 1000:,.1f}" if f.backend == "PostgreSQL" else ""
    line = f"  {f.service:42}{f.rate:>9,.1f}/s {f.p50_ms:>7,.2f} ms {f.p99_ms:>7,.2f} ms"
    line += f" {f.cpu_ms * 1000:>12,.1f}{database} µs {f.n:>7}  ({f.load_ms * 1000:,.1f} µs)"
    line += "" if f.n >= 100 else "  p99 is that of few"
    return line + (f"  {f.errors} ERRORS: {f.first_error[:160]}" if f.errors else "")


def _ratios(work: Work, group: list[Figures], everything: list[Figures]) -> Iterable[str]:
    ours = next((f for f in group if f.service == TALLY), None)
    if ours is None:
        return
    stock = [f for f in group if f.service in STOCK and f.n]
    if work is PLUGIN:  # there is no plugin for stock: it is compared with stock's own way
        stock = [
            f
            for f in everything
            if f.work == "Python client, log_metric" and f.service in STOCK and f.backend == ours.backend
        ]
    goal = _rate_goal(work, ours)
    binding = [f for f in stock if f.service == ANALYSED] if work.kind == "search" else []
    for f in binding or stock:
        rate, cpu = ours.rate / f.rate, f.cpu_ms / ours.cpu_ms if ours.cpu_ms else float("inf")
        line = f"against {f.service}: {rate:,.1f}x the rate (goal {goal:g}x: {_verdict(rate >= goal)})"
        line += f", {cpu:,.1f}x less CPU"
        yield line + (
            f" (goal {work.cpu_goal:g}x: {_verdict(cpu >= work.cpu_goal)})" if work.cpu_goal else ""
        )
    for f in stock if binding else ():
        if f not in binding:
            yield f"against {f.service}: {ours.rate / f.rate:,.1f}x the rate (no goal: not analysed)"
    if work.kind == "search" and work.size == 100 and ours.size == "50k":
        reached = _verdict(ours.p50_ms < SEARCH_P50_GOAL_MS)
        yield f"p50 {ours.p50_ms:.1f} ms (goal under {SEARCH_P50_GOAL_MS:g} ms: {reached})"


def _rate_goal(work: Work, ours: Figures) -> float:
    on_server = ours.backend == "PostgreSQL" and work.kind == "log_batch"
    return POSTGRESQL_BATCH_GOAL if on_server else work.rate_goal


def _verdict(reached: bool) -> str:
    return "reached" if reached else "FALLS SHORT"


def print_idle(rows: list[dict[str, object]]) -> None:
    """Memory of the whole service, idle."""
    print("\nMemory of the whole service, idle (proportional set size of all its processes)")
    ours = {(r["backend"], r["size"]): float(str(r["mib"])) for r in rows if r["service"] == TALLY}
    for row in rows:
        mib, place = float(str(row["mib"])), (row["backend"], row["size"])
        where = f"({row['backend']}, {row['size']} runs)"
        line = f"  {row['service']:42}{mib:>9,.1f} MiB in {row['processes']} processes {where}"
        if row["service"] in STOCK and place in ours:
            ratio = mib / ours[place]
            line += f": tallystick's is 1/{ratio:.1f} of it (goal under a tenth: {_verdict(ratio > 10)})"
        print(line)
