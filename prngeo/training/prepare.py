"""From a training configuration to a cache of labelled regions, kept apart."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from prngeo.config import TrainConfig
from prngeo.errors import UsageError
from prngeo.files import write_json
from prngeo.training.apart import smallest_distance
from prngeo.training.pictures import Refused, files, images, key_of, pictures, places, stamp
from prngeo.training.places import Place
from prngeo.training.regions import Region, read_index, write_index
from prngeo.training.roles import check_names, with_roles
from prngeo.training.towns import cache_towns

logger = logging.getLogger(__name__)


def prepare(config: TrainConfig, folder: Path) -> list[Region]:
    """Cache every scene of the configuration as arrays, and give its regions their roles.

    A scene that is cached is not cached again while its files, their labels and the settings of its source are the
    same; nothing is done if all of the cache is complete. `split.json` in the folder tells the gap of every source,
    the smallest distances between what trains and what is held out, and which scenes are not used, and why.

    Args:
        config: the run.
        folder: where the arrays go.

    Returns:
        The regions, held-out ones first.

    Raises:
        UsageError: the configuration does not fit its data: no image or label, labels of another place, bands that are
            missing, nothing labelled, or too little left to train on.
        PrngeoError: the cache cannot be written.
    """
    fingerprint = _fingerprint(config)
    known, regions = read_index(folder)
    if known == fingerprint and (folder / "split.json").exists():
        return regions
    _check_names(config)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").unlink(missing_ok=True)
    refused = {source.name: Refused.none() for source in config.sources}
    found = {source.name: pictures(source, config, folder, refused[source.name]) for source in config.sources}
    placed = places([picture for own in found.values() for picture in own], folder)
    regions = with_roles(config, found, placed, folder, refused)
    _write_split(config, regions, placed, refused, folder)
    regions += cache_towns(config, folder)
    write_index(folder, regions, fingerprint)
    return regions


def _check_names(config: TrainConfig) -> None:
    """Refuse scenes that the cache could not tell apart, and roles by names that no scene has."""
    first: dict[str, str] = {}
    for source in config.sources:
        found = [file.path for file in images(source, config.root)]
        for path in found:
            same = first.setdefault(key_of(source, path), path)
            if same != path:
                raise UsageError(
                    f"Source {source.name}: {same} and {path} have the same name; scenes of a source need names of "
                    "their own. Rename one, or make two sources of them, by their `images`."
                )
        check_names(source, [Path(path).stem for path in found])


def _fingerprint(config: TrainConfig) -> str:
    """What the cache follows from: settings, and names, sizes and times of the files."""
    settings = config.model_dump_json(
        include={"sources", "towns", "targets", "bands", "gsd", "split", "tile", "network", "seed"}
    )
    stamps = [stamp(path) for source in config.sources for path in files(source, config.root)]
    return hashlib.sha256(json.dumps([settings, stamps]).encode()).hexdigest()


def _write_split(
    config: TrainConfig,
    regions: Sequence[Region],
    placed: Mapping[str, Place],
    refused: Mapping[str, Refused],
    folder: Path,
) -> None:
    gaps = {region.source: region.gap for region in regions}
    sources = {
        source.name: {
            "gap_m": gaps.get(source.name),
            "smallest_distance_m": {
                role: smallest_distance(regions, placed, source.name, role) for role in ("test", "validation")
            },
            "left_out": refused[source.name].left_out,
            "skipped": refused[source.name].skipped,
        }
        for source in config.sources
    }
    for name, entry in sources.items():
        logger.info("source %s: smallest distances of training in metres: %s", name, entry["smallest_distance_m"])
    write_json(folder / "split.json", {"sources": sources})
