"""The scenes a command line names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from prngeo.errors import UsageError
from prngeo.files import matches


def expand(names: Iterable[str], scores: bool = False) -> list[str]:
    """Expand the patterns that the shell left alone (Windows does not expand any); each scene comes once.

    Outputs that an earlier run left beside a scene of the call, or beside their record, are not taken for scenes.

    Args:
        names: files and patterns.
        scores: the scenes are themselves scores, which may have a record.

    Raises:
        UsageError: a pattern matches no file, or all are outputs of earlier runs.
    """
    scenes: list[str] = []
    for name in names:
        scenes += matches(name)
    unique = list(dict.fromkeys(scenes))
    stems = {(Path(scene).parent, Path(scene).stem) for scene in unique}
    found = [scene for scene in unique if not _is_output(Path(scene), stems, recorded=not scores)]
    if unique and not found:
        raise UsageError(f"{unique[0]} is an output of an earlier run, not a scene; so are all that were given.")
    return found


def _is_output(path: Path, stems: set[tuple[Path, str]], recorded: bool) -> bool:
    """True for `scene_<target>_<kind>.tif` where `scene` is one of the stems, or `recorded`, in the same folder."""
    head, _, kind = path.stem.rpartition("_")
    if kind not in ("probability", "mask", "correction"):
        return False
    scene = head.rpartition("_")[0]
    return (path.parent, scene) in stems or (recorded and path.with_name(f"{scene}.json").exists())


def refuse_same_names(scenes: list[str], output: Path | None) -> None:
    """Refuse scenes whose outputs would have the same names in the same folder.

    Raises:
        UsageError: there are two of them.
    """
    if len(scenes) < 2:
        return
    from prngeo.raster.source import scene_name

    seen: dict[tuple[Path, str], str] = {}
    for scene in scenes:
        folder = output or (Path(scene).parent if Path(scene).exists() else Path())
        key = folder.resolve(), scene_name(scene)
        if key in seen:
            raise UsageError(
                f"{seen[key]} and {scene} would write the same outputs ({key[1]}_*) in {folder}. Give them one "
                "at a time, each with its own -o."
            )
        seen[key] = scene
