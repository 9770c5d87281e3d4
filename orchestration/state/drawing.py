"""A graph in layers: where its nodes stand and how its edges run, for a drawing that the server makes. Pure.

Cycles are broken where a walk from the first node comes back; each node stands below all that lead to it; edges that
pass a layer bend around what stands there; nodes are pulled towards their neighbours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

HEIGHT: Final = 34  # of a node
_GAP_X: Final = 28
_GAP_Y: Final = 44
_PAD: Final = 14
_LETTER: Final = 7.3  # width of one, about
_LONGEST: Final = 28  # letters of a name
_BEND: Final = 26  # how far a way back goes round
Edge = tuple[str, str]


@dataclass(frozen=True)
class Box:
    name: str
    label: str
    x: float  # its left edge
    y: float
    width: float

    @property
    def middle(self) -> float:
        return round(self.x + self.width / 2, 1)

    @property
    def base(self) -> float:
        return round(self.y + HEIGHT / 2 + 4.5, 1)


@dataclass(frozen=True)
class Way:
    """An edge, as the path of a curve."""

    edge: Edge
    path: str


@dataclass(frozen=True)
class Layout:
    boxes: list[Box]
    ways: list[Way]
    width: int
    height: int


def laid_out(nodes: Sequence[str], edges: Iterable[Edge], labels: Mapping[str, str]) -> Layout:
    """Return where everything stands. Edges of unknown nodes are left out."""
    known = set(nodes)
    found = [edge for edge in edges if edge[0] in known and edge[1] in known and edge[0] != edge[1]]
    layers = _Layers(nodes, found, {name: _short(labels.get(name, name)) for name in nodes})
    return layers.layout()


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"


class _Layers:
    def __init__(self, nodes: Sequence[str], edges: list[Edge], labels: dict[str, str]) -> None:
        self.nodes, self.edges, self.labels = list(nodes), edges, labels
        self.widths = {name: max(72.0, len(labels[name]) * _LETTER + 26) for name in nodes}
        self.back = _back_edges(self.nodes, edges)
        forward = list(dict.fromkeys(edge[::-1] if edge in self.back else edge for edge in edges))
        self.rank = _ranks(self.nodes, forward)
        self.up: dict[str, list[str]] = defaultdict(list)
        self.down: dict[str, list[str]] = defaultdict(list)
        self.chains: dict[Edge, list[str]] = {}
        self.order = self._with_bends(forward)
        self._untangle()
        self.x = self._places()

    def _with_bends(self, forward: list[Edge]) -> list[list[str]]:
        layers: dict[int, list[str]] = defaultdict(list)
        for name in self.nodes:
            layers[self.rank[name]].append(name)
        bends = 0
        for before, after in forward:
            chain = [before]
            for rank in range(self.rank[before] + 1, self.rank[after]):
                bend = f"\0{bends}"
                bends += 1
                self.widths[bend], self.rank[bend] = 10.0, rank
                layers[rank].append(bend)
                chain.append(bend)
            chain.append(after)
            for one, other in pairwise(chain):
                self.down[one].append(other)
                self.up[other].append(one)
            self.chains[(before, after)] = chain
        return [layers[rank] for rank in sorted(layers)]

    def _untangle(self) -> None:
        for sweep in range(8):
            goes_down = sweep % 2 == 0
            rows = range(1, len(self.order)) if goes_down else range(len(self.order) - 2, -1, -1)
            beside = self.up if goes_down else self.down
            for row in rows:
                places = {name: at for at, name in enumerate(self.order[row - 1 if goes_down else row + 1])}
                now = {name: at for at, name in enumerate(self.order[row])}
                self.order[row].sort(key=lambda name: (_mean(beside[name], places, now[name]), now[name]))

    def _places(self) -> dict[str, float]:
        x: dict[str, float] = {}
        for row in self.order:
            right = 0.0
            for name in row:
                x[name] = right + self.widths[name] / 2
                right += self.widths[name] + _GAP_X
        for turn in range(24):
            for row in self.order if turn % 2 == 0 else self.order[::-1]:
                wanted = [_mean(self.up[name] + self.down[name], x, x[name]) for name in row]
                placed = list(wanted)
                for at in range(1, len(row)):
                    least = placed[at - 1] + (self.widths[row[at - 1]] + self.widths[row[at]]) / 2 + _GAP_X
                    placed[at] = max(placed[at], least)
                off = sum(want - place for want, place in zip(wanted, placed, strict=True)) / len(row)
                for name, place in zip(row, placed, strict=True):
                    x[name] = place + off
        left = min((x[name] - self.widths[name] / 2 for name in x), default=0.0)
        return {name: place + _PAD - left for name, place in x.items()}

    def _y(self, name: str) -> float:
        return _PAD + self.rank[name] * (HEIGHT + _GAP_Y)

    def layout(self) -> Layout:
        boxes = [
            Box(
                name,
                self.labels[name],
                round(self.x[name] - self.widths[name] / 2, 1),
                round(self._y(name), 1),
                round(self.widths[name], 1),
            )
            for name in self.nodes
        ]
        ways = [Way(edge, self._curve(edge)) for edge in self.edges]
        width = max((self.x[name] + self.widths[name] / 2 for name in self.x), default=0.0) + _PAD
        height = max((self._y(name) for name in self.nodes), default=0.0) + HEIGHT + _PAD
        return Layout(boxes, ways, round(width + (_BEND if self.back else 0)), round(height))

    def _curve(self, edge: Edge) -> str:
        is_back = edge in self.back
        chain = self.chains[edge[::-1] if is_back else edge]
        chain = chain[::-1] if is_back else chain
        if is_back and len(chain) == 2:
            return self._around(*edge)
        half = HEIGHT / 2
        sign = -1 if is_back else 1
        middle = {name: self._y(name) + half for name in chain}
        points = [(self.x[chain[0]], middle[chain[0]] + sign * half)]
        points += [(self.x[name], middle[name]) for name in chain[1:-1]]
        points.append((self.x[chain[-1]], middle[chain[-1]] - sign * half))
        parts = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
        for (ax, ay), (bx, by) in pairwise(points):
            bend = (ay + by) / 2
            parts.append(f"C{ax:.1f} {bend:.1f} {bx:.1f} {bend:.1f} {bx:.1f} {by:.1f}")
        return "".join(parts)

    def _around(self, before: str, after: str) -> str:
        """Return a way back between two neighbouring layers, on the outer side."""
        half = HEIGHT / 2
        y0, y1 = self._y(before) + half, self._y(after) + half
        if self.x[before] < self.x[after] - 1:
            x0, x1 = self.x[before] - self.widths[before] / 4, self.x[after] - self.widths[after] / 2
            return f"M{x0:.1f} {y0 - half:.1f}C{x0:.1f} {y1:.1f} {x0:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
        x0, x1 = self.x[before] + self.widths[before] / 2, self.x[after] + self.widths[after] / 2
        far = max(x0, x1) + _BEND
        return f"M{x0:.1f} {y0:.1f}C{far:.1f} {y0:.1f} {far:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"


def _mean(names: Sequence[str], places: Mapping[str, float], otherwise: float) -> float:
    return sum(places[name] for name in names) / len(names) if names else otherwise


def _back_edges(nodes: Sequence[str], edges: Sequence[Edge]) -> set[Edge]:
    """Return the edges that close a cycle, by a walk without recursion: a graph may be deep."""
    out: dict[str, list[str]] = defaultdict(list)
    for before, after in edges:
        out[before].append(after)
    is_open: dict[str, bool] = {}
    found: set[Edge] = set()
    for root in nodes:
        if root in is_open:
            continue
        is_open[root] = True
        stack: list[tuple[str, Iterator[str]]] = [(root, iter(out[root]))]
        while stack:
            name, following = stack[-1]
            after = next(following, "")
            if after == "":
                is_open[name] = False
                stack.pop()
            elif is_open.get(after):
                found.add((name, after))
            elif after not in is_open:
                is_open[after] = True
                stack.append((after, iter(out[after])))
    return found


def _ranks(nodes: Sequence[str], forward: Sequence[Edge]) -> dict[str, int]:
    """Return for each node the length of the longest way to it."""
    rank = dict.fromkeys(nodes, 0)
    for _ in nodes:
        moved = False
        for before, after in forward:
            if rank[after] < rank[before] + 1:
                rank[after] = rank[before] + 1
                moved = True
        if not moved:
            break
    return rank
