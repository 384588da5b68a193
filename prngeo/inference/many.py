"""Many scenes predicted as one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from prngeo.errors import UsageError
from prngeo.files import refuse_inputs, staging_folder, whole
from prngeo.inference.options import PredictOptions
from prngeo.inference.pipeline import predict
from prngeo.inference.result import PredictResult
from prngeo.progress import Report, silent
from prngeo.raster.vrt import mosaic_vrt


def predict_mosaic(
    scenes: Sequence[str | Path],
    output: str | Path | None = None,
    options: PredictOptions | None = None,
    report: Report = silent,
    *,
    name: str = "mosaic",
) -> PredictResult:
    """Segment scenes that lie side by side as one: tiles and PRN see across files, polygons are joined.

    All scenes have one coordinate system, one grid of pixels (a corner may lie 0.01 pixels off it), and the same
    bands, data type and nodata value. Their order does not matter: where they overlap, the one whose file name sorts
    last is on top, and its invalid pixels let the others show through. What none covers is nodata. Values are
    stretched once for all of them.

    Args:
        scenes: rasters that GDAL opens, of which none lies under the name of an output.
        output: folder of the outputs, created if missing; the folder in which all scenes lie if None.
        options: see PredictOptions.
        report: is told of every step.
        name: of the mosaic: its outputs are `<name>_roads_mask.tif` and so on, beside `<name>.vrt`, the scenes as one
            raster, which names their files.

    Returns:
        Paths and figures; `scene` is the VRT.

    Raises:
        UsageError: a scene does not fit the others, or see `predict`; nothing was written.
        PrngeoError: the run failed.
    """
    options = options or PredictOptions()
    if not scenes:
        raise UsageError("A mosaic needs at least one scene.")
    if not re.fullmatch(r"[^\\/:\"<>|?*\x00-\x1f.][^\\/:\"<>|?*\x00-\x1f]*", name):
        raise UsageError(f"--name is the beginning of file names, such as town, got {name!r}.")
    folder = Path(output) if output is not None else _common_folder(scenes)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {folder} is a file; give a folder.")
    with _placed(mosaic_vrt(scenes, folder), folder / f"{name}.vrt", scenes, options.overwrite) as vrt:
        return predict(vrt, folder, options, report)


def _common_folder(scenes: Sequence[str | Path]) -> Path:
    folders = {Path(scene).parent if Path(scene).exists() else Path() for scene in scenes}
    if len(folders) > 1:
        raise UsageError("The scenes of the mosaic lie in several folders. Choose one for the outputs with -o.")
    return folders.pop()


@contextmanager
def _placed(text: str, path: Path, scenes: Sequence[str | Path], overwrite: bool) -> Iterator[Path]:
    """A file with this text; if what follows fails and leaves nothing to continue, what was there before, or nothing.

    A run that was interrupted has left the same text, with which the next one continues.

    Raises:
        UsageError: the file cannot be written, is a scene, or exists with another text.
    """
    refuse_inputs([path], scenes)
    created = [parent for parent in path.parents if not parent.exists()]
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else None
        if before not in (None, text) and not overwrite:
            raise UsageError(
                f"{path} already exists and is another mosaic. Pass --overwrite, or choose another --name or -o."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, text)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no VRT"
        raise UsageError(f"{path} cannot be written ({reason}). Choose another folder with -o.") from error
    try:
        yield path
    except BaseException:
        if not staging_folder(path.parent, path.stem).exists():
            with suppress(OSError):
                path.unlink() if before is None else _write(path, before)
                for parent in created:
                    parent.rmdir()
        raise


def _write(path: Path, text: str) -> None:
    with whole(path) as hidden:
        hidden.write_text(text, encoding="utf-8")
