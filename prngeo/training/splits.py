"""Which blocks of labelled scenes test, validate, fit PRN and train: far enough from each other, never at random.

Every scene is cut into blocks on a grid that is anchored to it; a small scene is one block. Several ways to hold blocks
out are drawn (whole groups of scenes that lie far from all others; one compact cluster, or a few), and the one that
serves best is taken: shares as wished, objects of every target in every role, few labels lost to the gap. torchgeo's
splits (torchgeo.datasets.random_grid_cell_assignment and others) keep no gap between neighboring cells.

Blocks that test and blocks that validate may abut: from neither is a weight of the network learned.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from prngeo.config import Role, Split
from prngeo.errors import UsageError
from prngeo.scores.holdout import Unit
from prngeo.tiling.grid import Window
from prngeo.training.places import Box, Place, box_of, distance, joined, overlaps, seen

logger = logging.getLogger(__name__)

HELD: tuple[Role, ...] = ("test", "validation", "refine")
MOST_BLOCKS = 10_000
"""Of a source; the time and memory to choose from them grow with their square."""
_BLOCKS = 100  # about so many, if the side of a block is not told
_DRAWS = 40  # of each kind; fewer where there are many blocks
_TRAIN = 3  # number of the role that trains, behind those of HELD

Counts = Callable[[Window], tuple[int, NDArray[np.int64]]]
"""Labelled pixels of a window, and of them those of every target's objects, (targets,)."""


@dataclass(frozen=True)
class Land:
    """A scene that is to be split.

    Attributes:
        place: where it lies.
        shape: (height, width) in pixels.
        counts: of its labels.
        area: name that pictures of one area share of which nothing tells how they lie to each other; empty if each
            is by itself.
    """

    place: Place
    shape: tuple[int, int]
    counts: Counts
    area: str = ""


@dataclass(frozen=True)
class HeldOut:
    """A window of some scene that has a role already.

    Attributes:
        role: which.
        place: of the scene.
        window: pixels of the scene.
    """

    role: Role
    place: Place
    window: Window


def split_blocks(
    lands: Sequence[Land], split: Split, gap: float, seed: int, held: Sequence[HeldOut] = ()
) -> list[dict[Role, list[Window]]]:
    """Choose what is held out of scenes; the same for the same scenes and seed.

    Args:
        lands: the scenes of one source.
        split: shares, and the side of a block.
        gap: metres between what trains and what does not.
        seed: decides between choices that are equally good.
        held: what other sources hold out; blocks on the same ground get the same role.

    Returns:
        For each scene, windows by role; all the rest, but for the gap, trains.

    Raises:
        UsageError: `split.block` makes too many blocks.
    """
    side = split.block or max(gap / 2, math.sqrt(sum(_area(land) for land in lands) / _BLOCKS))
    units = [unit for number, land in enumerate(lands) for unit in _units(number, land, side, split.block is not None)]
    if not units:
        return [{} for _ in lands]
    if split.block is not None and len(units) > MOST_BLOCKS:
        raise UsageError(
            f"Blocks of split.block {split.block:g} m are {len(units):,}; at most {MOST_BLOCKS:,} can be weighed "
            "against each other. Make split.block larger, or leave it out."
        )
    problem = _Problem.of(units, lands, split, gap, held)
    roles = min(problem.draws(np.random.default_rng(seed)), key=problem.cost)
    found: list[dict[Role, list[Window]]] = [{} for _ in lands]
    for unit, role in zip(units, roles, strict=True):
        if role < _TRAIN:
            found[unit.scene].setdefault(HELD[role], []).append(unit.window)
    return [{role: joined(windows) for role, windows in own.items()} for own in found]


def _area(land: Land) -> float:
    return land.shape[0] * land.place.gsd[1] * land.shape[1] * land.place.gsd[0]


def _units(number: int, land: Land, side: float, exact: bool) -> Iterator[Unit]:
    """The blocks of a scene that hold labels, as the units that are held out or not."""
    steps = []
    for length, gsd in zip(land.shape, reversed(land.place.gsd), strict=True):
        pixels = max(1, round(side / gsd))
        steps.append(pixels if exact else math.ceil(length / max(1, round(length / pixels))))
    for row in range(0, land.shape[0], steps[0]):
        for col in range(0, land.shape[1], steps[1]):
            window = Window(row, col, *steps).intersect(Window(0, 0, *land.shape))
            known, positives = land.counts(window)
            if known:
                yield Unit(number, window, known, positives)


@dataclass(frozen=True)
class _Problem:
    """Blocks to be given roles, n of them.

    Attributes:
        known: (n,) labelled pixels.
        positives: (n, targets) of them those of objects.
        cover: (n, n) share of the column's block that lies within the gap of the row's.
        overlap: (n, n) True where two blocks share ground.
        lost: (n,) share of a block that other sources' held-out areas and the gap around them take.
        forced: (n,) number of the role that another source gives the same ground; that of training if none does.
        shares: of the roles in HELD.
    """

    known: NDArray[np.float64]
    positives: NDArray[np.float64]
    cover: NDArray[np.float32]
    overlap: NDArray[np.bool_]
    lost: NDArray[np.float32]
    forced: NDArray[np.int64]
    shares: tuple[float, ...]

    @classmethod
    def of(
        cls, units: Sequence[Unit], lands: Sequence[Land], split: Split, gap: float, held: Sequence[HeldOut]
    ) -> _Problem:
        n = len(units)
        cover, overlap = np.zeros((n, n), np.float32), np.zeros((n, n), bool)
        lost, forced = np.zeros(n, np.float32), np.full(n, _TRAIN)
        own = [[i for i, unit in enumerate(units) if unit.scene == number] for number in range(len(lands))]
        for land, members in zip(lands, own, strict=True):
            boxes = np.array([box_of(units[i].window) for i in members], float).reshape(-1, 4)
            for other, others in zip(lands, own, strict=True):
                if not _near(Window(0, 0, *other.shape), other.place, land, gap):
                    cover[np.ix_(others, members)] = bool(land.area) and land.area == other.area
                    continue
                for i in others:
                    box = seen(units[i].window, other.place, land.place)
                    if box is not None:
                        cover[i, members] = _share(boxes, box, gap, land.place)
                        overlap[i, members] = [overlaps(box, tuple(each)) for each in boxes]
            for area in held:
                box = seen(area.window, area.place, land.place)
                if box is None or not _near(area.window, area.place, land, gap):
                    continue
                lost[members] = np.maximum(lost[members], _share(boxes, box, gap, land.place))
                same = _share(boxes, box, 0.0, land.place) >= 0.5
                forced[members] = np.where(same & (forced[members] == _TRAIN), HELD.index(area.role), forced[members])
        known = np.array([unit.known for unit in units], float)
        positives = np.array([unit.positives for unit in units], float)
        return cls(known, positives, cover, overlap, lost, forced, (split.test, split.validation, split.refine))

    def draws(self, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """(n,) numbers of roles, again and again."""
        many = int(np.clip(4e6 / len(self.known) ** 2, 4, _DRAWS))
        group = connected_components(self.cover > 0, directed=False)[1]
        if group.max() >= 2:
            for _ in range(many):
                yield self._whole_groups(group, rng)
        for clusters in (1, 2, 3):
            for _ in range(many):
                yield self._clusters(clusters, rng)

    def _whole_groups(self, group: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.int64]:
        """Groups of scenes that lie apart from all others, in random order."""
        roles, size = self.forced.copy(), np.bincount(group, self.known)
        order = [g for g in rng.permutation(len(size)) if (roles[group == g] == _TRAIN).all()]
        for role, share in enumerate(self.shares):
            want, have = share * self.known.sum(), float(self.known[roles == role].sum())
            for g in list(order):
                if have < 0.9 * want and have + size[g] <= 1.3 * want:
                    roles[group == g] = role
                    have += size[g]
                    order.remove(g)
            if want and not have and order:
                smallest = min(order, key=lambda g: size[g])
                roles[group == smallest] = role
                order.remove(smallest)
        return roles

    def _clusters(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """So many clusters for each role, grown block by block where that takes the fewest labels from training."""
        roles, lost = self.forced.copy(), self.lost.copy()
        for i in np.flatnonzero(roles < _TRAIN):
            lost = np.maximum(lost, self.cover[i])
        anywhere = rng.random() < 0.5  # a cluster begins in the middle, or where it takes least
        for role, share in enumerate(self.shares):
            worth = self.known * (1 - lost) if HELD[role] == "refine" else self.known
            want, have, begun = share * self.known.sum(), float(worth[roles == role].sum()), 0
            while have < want:
                others = (roles != role) & (roles < _TRAIN)
                possible = (roles == _TRAIN) & (worth > 0.5 * self.known) & ~self.overlap[others].any(0)
                if not possible.any():
                    break
                begins = begun * want / count <= have
                begun += begins
                if begins and (anywhere or begun > 1):
                    best = int(rng.choice(np.flatnonzero(possible)))
                else:
                    taken = np.maximum(self.cover - lost, 0) @ (self.known * (roles == _TRAIN))
                    price = np.where(possible, taken / np.maximum(worth, 1), np.inf)
                    best = int(rng.choice(np.flatnonzero(price <= price.min() + 1e-6)))
                if have and have + worth[best] - want > want - have:
                    break
                roles[best] = role
                have += worth[best]
                lost = np.maximum(lost, self.cover[best])
        return roles

    def cost(self, roles: NDArray[np.int64]) -> float:
        """How far a choice is from what is wished."""
        lost = np.maximum(self.lost, self.cover[roles < _TRAIN].max(0, initial=0))
        worth = np.where(roles == _TRAIN, 1 - lost, 1.0)
        total, objects = self.known.sum(), self.positives.sum(0)
        found = 0.0
        for role, share in (*enumerate(self.shares), (_TRAIN, 0.0)):
            own = np.where(roles == role, worth, 0.0)
            if role < _TRAIN and not share:
                continue
            held, positives = own @ self.known, own @ self.positives
            found += 10 * int(((positives < 1) & (objects > 0)).sum())
            density = np.abs(positives / np.maximum(held, 1) - objects / total) / np.maximum(objects / total, 1e-9)
            found += 0.3 * float(np.minimum(density, 1).mean())
            found += abs(held / total - share) / share if share else 3 * (1 - sum(self.shares) - held / total)
        return found


def _near(window: Window, place: Place, land: Land, gap: float) -> bool:
    box = seen(window, place, land.place)
    return box is not None and distance(box, (0, 0, *land.shape), land.place.gsd) < max(gap, 1e-9)


def _share(boxes: NDArray[np.float64], box: Box, gap: float, place: Place) -> NDArray[np.float64]:
    """(n,) share of boxes of a scene, (n, 4), that lies within a gap of another box."""
    rows, cols = gap / place.gsd[1], gap / place.gsd[0]
    height = np.minimum(boxes[:, 2], box[2] + rows) - np.maximum(boxes[:, 0], box[0] - rows)
    width = np.minimum(boxes[:, 3], box[3] + cols) - np.maximum(boxes[:, 1], box[1] - cols)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    share: NDArray[np.float64] = np.maximum(height, 0) * np.maximum(width, 0) / area
    return share
