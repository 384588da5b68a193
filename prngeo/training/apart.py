"""Regions of different roles kept apart: what comes too close to a region of a stricter role is cut, or left out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from prngeo.config import Role
from prngeo.tiling.grid import Window
from prngeo.training.pictures import Refused
from prngeo.training.places import Place, around, bounds, box_of, distance, free, overlaps, seen
from prngeo.training.regions import Region

ORDER: tuple[Role, ...] = ("test", "validation", "refine", "train")
"""The strictest role first: it pushes out all behind it."""


def keep_apart(
    regions: Sequence[Region], places: Mapping[str, Place], cut: Collection[str], refused: Mapping[str, Refused]
) -> list[Region]:
    """Regions that keep their gap from those of stricter roles, with blocks.

    Args:
        regions: drafts, with `arrays` the key of their scene, and `block` the name of an area that pictures without a
            coordinate system are parts of.
        places: of the scenes, by key.
        cut: names of sources whose training regions are cut by the gap; a region of another one is left out.
        refused: is told of what is left out, by source.

    Returns:
        Strictest role first. Those of one role that come closer to each other than the gap share a block.
    """
    kept: list[Region] = []
    areas = {region.arrays: region.block for region in regions}
    for role in ORDER:
        rank = []
        for region in (region for region in regions if region.role == role):
            found = _kept(region, kept, places, cut, areas, refused[region.source])
            rank += [] if found is None else [found]
        kept += _with_blocks(rank, places)
    return kept


def _kept(
    region: Region,
    kept: Sequence[Region],
    places: Mapping[str, Place],
    cut: Collection[str],
    areas: Mapping[str, str],
    refused: Refused,
) -> Region | None:
    place, forbidden = places[region.arrays], list(region.forbidden)
    for other in kept:
        own = other.arrays == region.arrays
        if own and region.source not in cut:
            continue  # an area of the scene: it is forbidden already
        box = seen(other.window, places[other.arrays], place)
        gap = max(region.gap, other.gap)
        if box is None or distance(box, box_of(region.window), place.gsd) >= gap:
            judge = {region.role, other.role} <= {"test", "validation"}
            if box is None and areas[region.arrays] and areas[region.arrays] == areas[other.arrays] and not judge:
                if all(held.arrays != region.arrays for held in kept):
                    refused.leave_out(region.scene, f"by its name it is of one area with {other.key} ({other.role})")
                return None
            continue
        if region.source in cut and region.role in ("train", "refine"):
            forbidden.append(around(box, gap, place.gsd).moved(-region.window.row, -region.window.col))
        elif other.source not in cut or region.source not in cut or overlaps(box, box_of(region.window)):
            apart = distance(box, box_of(region.window), place.gsd)
            near = f"lies {apart:.0f} m from" if apart else "overlaps or abuts"
            refused.leave_out(region.scene, f"its {region.role} area {near} {other.key} ({other.role})")
            return None
    if not forbidden:
        return region
    found = _without(region, tuple(forbidden))
    if found is None and not any(other.arrays == region.arrays for other in kept):
        refused.leave_out(region.scene, f"all of it lies within {region.gap:.0f} m of held-out areas")
    return found


def _without(region: Region, forbidden: tuple[Window, ...]) -> Region | None:
    """The part of a region that holds all of it that is not forbidden; None if nothing is left."""
    left = free(region.shape, forbidden)
    if not left:
        return None
    row, col = min(window.row for window in left), min(window.col for window in left)
    shape = max(window.row_end for window in left) - row, max(window.col_end for window in left) - col
    moved = (window.moved(-row, -col) for window in forbidden)
    window = Window(region.window.row + row, region.window.col + col, *shape)
    return replace(
        region,
        window=window,
        shape=shape,
        bounds=bounds(window, region.transform, bool(region.crs)),
        forbidden=tuple(dict.fromkeys(other for other in moved if not other.intersect(Window(0, 0, *shape)).is_empty)),
    )


def _with_blocks(regions: Sequence[Region], places: Mapping[str, Place]) -> Iterator[Region]:
    """The regions, each with the key of the first one of its connected group as block."""
    blocks: list[str] = []
    for number, region in enumerate(regions):
        place = places[region.arrays]
        joined = set()
        for block, other in zip(blocks, regions[:number], strict=True):
            box = seen(other.window, places[other.arrays], place)
            near = box is not None and distance(box, box_of(region.window), place.gsd) < max(region.gap, other.gap)
            if near or (region.block and region.block == other.block):
                joined.add(block)
        name = next((block for block in blocks if block in joined), region.key)
        blocks = [name if block in joined else block for block in blocks] + [name]
    for region, block in zip(regions, blocks, strict=True):
        yield replace(region, block=block)


def smallest_distance(regions: Sequence[Region], places: Mapping[str, Place], source: str, role: Role) -> float | None:
    """Metres between the pixels that a source trains on and the nearest region of a role in any source.

    Returns:
        None if there is no such pair, or nothing tells how they lie to each other.
    """
    best: float | None = None
    others = [region for region in regions if region.role == role]
    for region in (region for region in regions if region.role == "train" and region.source == source):
        place = places[region.arrays]
        left = [window.moved(region.window.row, region.window.col) for window in free(region.shape, region.forbidden)]
        for other in others:
            box = seen(other.window, places[other.arrays], place)
            if box is None or (best is not None and distance(box, box_of(region.window), place.gsd) >= best):
                continue
            found = min((distance(box, box_of(window), place.gsd) for window in left), default=best)
            best = found if best is None or found is None else min(best, found)
    return best
