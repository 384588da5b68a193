"""Which bands of a raster the model sees."""

from __future__ import annotations

from collections.abc import Sequence

from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader

from prngeo.errors import UsageError
from prngeo.raster.source import public_path


def choose_bands(dataset: DatasetReader, bands: Sequence[int] | None, n_bands: int) -> tuple[int, ...]:
    """Picks the bands to read, in the model's order.

    Red, green and blue by color interpretation when all three are marked and the model takes three; else
    the first `n_bands` that are not alpha. `bands` overrides this; repeating a band is allowed.

    Args:
        dataset: an open raster.
        bands: 1-based band numbers asked for, or None.
        n_bands: bands the model takes.

    Raises:
        UsageError: numbers out of range or too many or few, not enough bands, or bands that are no image
            values (a palette, complex numbers, mixed data types).
    """
    path, meanings = public_path(dataset.name), list(dataset.colorinterp)
    if bands is not None:
        chosen = _check_asked(dataset, tuple(bands), n_bands)
    else:
        usable = [i + 1 for i, meaning in enumerate(meanings) if meaning != ColorInterp.alpha]
        rgb = [meanings.index(c) + 1 for c in (ColorInterp.red, ColorInterp.green, ColorInterp.blue) if c in meanings]
        if any(meanings[band - 1] == ColorInterp.palette for band in usable):
            raise _palette_error(path)
        if n_bands == 3 and len(rgb) == 3:
            chosen = tuple(rgb)
        elif len(usable) >= n_bands:
            chosen = tuple(usable[:n_bands])
        else:
            raise _too_few_error(dataset, usable, n_bands)
    if any(meanings[band - 1] == ColorInterp.palette for band in chosen):
        raise _palette_error(path)
    _check_dtypes(dataset, chosen)
    return chosen


def describe_bands(dataset: DatasetReader) -> str:
    """One line a band: number, data type, color interpretation, description."""
    rows = zip(dataset.indexes, dataset.dtypes, dataset.colorinterp, dataset.descriptions, strict=True)
    return "\n".join(
        f"  band {number}: {dtype}, {meaning.name}" + (f", {text!r}" if text else "")
        for number, dtype, meaning, text in rows
    )


def _check_asked(dataset: DatasetReader, bands: tuple[int, ...], n_bands: int) -> tuple[int, ...]:
    given = ",".join(map(str, bands))
    wrong = [band for band in bands if not 1 <= band <= dataset.count]
    if wrong:
        problem = f"has no band {', '.join(map(str, wrong))} (given: `--bands {given}`); its bands are"
    elif len(bands) != n_bands:
        problem = f"was given {len(bands)} bands (`--bands {given}`) but the model takes {n_bands}; its bands are"
    else:
        return bands
    raise UsageError(f"{public_path(dataset.name)} {problem}:\n{describe_bands(dataset)}")


def _check_dtypes(dataset: DatasetReader, bands: tuple[int, ...]) -> None:
    dtypes = sorted({dataset.dtypes[band - 1] for band in bands})
    path = public_path(dataset.name)
    if any("complex" in dtype for dtype in dtypes):
        raise UsageError(
            f"{path} holds complex values, which are no image. Give a raster of magnitudes or reflectances.\n"
            + describe_bands(dataset)
        )
    if len(dtypes) > 1:
        raise UsageError(
            f"{path}: the bands {','.join(map(str, bands))} have different data types ({', '.join(dtypes)}). "
            f"Name bands of one type with `--bands`, or convert them with `gdal_translate -ot`.\n"
            + describe_bands(dataset)
        )


def _palette_error(path: str) -> UsageError:
    return UsageError(
        f"{path} is a palette image: its pixels are numbers of colors, not values of red, green and blue. "
        f"Expand it first, which takes no time as a VRT: `gdal_translate -of VRT -expand rgb {path} "
        f"rgb.vrt`, and give rgb.vrt."
    )


def _too_few_error(dataset: DatasetReader, usable: list[int], n_bands: int) -> UsageError:
    have = f"{len(usable)} band{'' if len(usable) == 1 else 's'}"
    advice = "Name the bands to read with `--bands`, in the model's order"
    if len(usable) == 1:
        example = ",".join([str(usable[0])] * n_bands)
        advice += f"; a gray image can be given as `--bands {example}`, with less accuracy than in color"
    else:
        example = ",".join(str(usable[min(i, len(usable) - 1)]) for i in range(n_bands)) if usable else ""
        advice += f" (a band may be repeated, as in `--bands {example}`)" if example else ""
    return UsageError(
        f"{public_path(dataset.name)} has {have} of image values but the model takes {n_bands}. {advice}. "
        f"Its bands are:\n{describe_bands(dataset)}"
    )
