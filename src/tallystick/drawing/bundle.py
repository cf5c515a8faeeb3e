"""Large graphs made readable: tasks that are alike, or follow each other, stand as one. Pure.

In turn: tasks of one kind with the same neighbours on both sides; pieces of chains; and where that is not
enough, all tasks of a layer (as far from the beginning as each other), then layers that follow each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

__all__ = ["bundled"]

Edge = tuple[str, str]
_LEAST = 3
_ROUNDS = 4


def bundled(
    kinds: Mapping[str, str], edges: Sequence[Edge], most: int
) -> tuple[dict[str, list[str]], list[Edge]]:
    """Groups of the names in ``kinds`` (each named by its first), and the edges between groups.

    The names are in an order in which all edges lead forward. There are at most ``most`` groups; a graph that
    has no more tasks than that is left as it is. Tasks of an empty kind are never like others.
    """
    groups = {name: [name] for name in kinds}
    links = list(dict.fromkeys(edges))
    ways: list[Callable[[list[str], list[Edge]], list[list[str]]]] = [
        lambda names, known: _siblings({n: kinds[n] for n in names}, known),
        lambda names, known: _chains(names, known, max(_LEAST, -(-len(names) // most))),
    ]
    for i in range(2 * _ROUNDS):
        if len(groups) <= most:
            return groups, links
        groups, links = _merged(groups, links, ways[i % 2](list(groups), links))
    if len(groups) > most:
        groups, links = _merged(groups, links, _layers(list(groups), links))
    if len(groups) > most:
        size = -(-len(groups) // most)
        groups, links = _merged(groups, links, _batches(list(groups), size))
    return groups, links


def _batches(names: list[str], size: int) -> list[list[str]]:
    return [names[i : i + size] for i in range(0, len(names), size)]


def _merged(
    groups: Mapping[str, list[str]], edges: Sequence[Edge], together: Sequence[Sequence[str]]
) -> tuple[dict[str, list[str]], list[Edge]]:
    place = {name: i for i, name in enumerate(groups)}
    head = {name: min(names, key=place.__getitem__) for names in together for name in names}
    merged: dict[str, list[str]] = {}
    for name, members in groups.items():
        merged.setdefault(head.get(name, name), []).extend(members)
    links = dict.fromkeys((head.get(a, a), head.get(b, b)) for a, b in edges)
    return merged, [(a, b) for a, b in links if a != b]


def _near(names: Sequence[str], edges: Sequence[Edge]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    before: dict[str, list[str]] = {name: [] for name in names}
    after: dict[str, list[str]] = {name: [] for name in names}
    for a, b in edges:
        after[a].append(b)
        before[b].append(a)
    return before, after


def _siblings(kinds: Mapping[str, str], edges: list[Edge]) -> list[list[str]]:
    before, after = _near(list(kinds), edges)
    alike: dict[tuple[str, frozenset[str], frozenset[str]], list[str]] = {}
    for name, kind in kinds.items():
        if kind:
            alike.setdefault((kind, frozenset(before[name]), frozenset(after[name])), []).append(name)
    return [found for found in alike.values() if len(found) >= _LEAST]


def _chains(names: list[str], edges: list[Edge], most: int) -> list[list[str]]:
    """Chains in pieces of ``most``."""
    before, after = _near(names, edges)

    def follows(name: str) -> str:
        """What comes after ``name`` and after nothing else; empty where there is no such."""
        only = after[name][0] if len(after[name]) == 1 else ""
        return only if only and len(before[only]) == 1 else ""

    inside = {follows(name) for name in names}
    found = []
    for name in names:
        if name in inside:
            continue
        chain = [name]
        while following := follows(chain[-1]):
            chain.append(following)
        if len(chain) >= _LEAST:
            found += _batches(chain, most)
    return found


def _layers(names: list[str], edges: list[Edge]) -> list[list[str]]:
    """Names by the longest way to them, the nearest first."""
    before, after = _near(names, edges)
    waits = {name: len(before[name]) for name in names}
    depth = dict.fromkeys(names, 0)
    order = [name for name in names if not waits[name]]
    for name in order:
        for other in after[name]:
            depth[other] = max(depth[other], depth[name] + 1)
            waits[other] -= 1
            if not waits[other]:
                order.append(other)
    layers: dict[int, list[str]] = {}
    for name in order:
        layers.setdefault(depth[name], []).append(name)
    return [layers[i] for i in sorted(layers)]
