"""Opening a raster by path, VSI name or URL: its name, its identity, and errors a user can act on."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from prngeo.errors import PrngeoError, ReadError, UsageError
from prngeo.files import file_hash
from prngeo.tiling.grid import Window

_REMOTE = re.compile(r"^/vsi(curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs)|^[a-z][a-z0-9+]*://", re.IGNORECASE)
_LOCAL_SCHEME = re.compile(r"^(file|zip|tar|gzip|zip\+file|tar\+file|gzip\+file)://", re.IGNORECASE)
_ARCHIVE = re.compile(r"^(?:/vsi(?:zip|tar|gzip|7z|rar)/|(?:zip|tar|gzip)(?:\+file)?://)\{?(.+)$", re.IGNORECASE)
_DRIVER_PREFIX = re.compile(r"^[A-Za-z0-9_]{2,}:")
_REMOTE_OPTIONS = {
    "GDAL_HTTP_MAX_RETRY": "4",
    "GDAL_HTTP_RETRY_DELAY": "0.5",  # seconds, doubled each time
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
    "GDAL_HTTP_LOW_SPEED_TIME": "60",  # seconds without a byte a second
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
}
_HEAD_TIMEOUT = 10  # seconds for a server to tell a file's ETag
_warnings_lock = threading.Lock()  # warnings.catch_warnings changes the whole process


def remote_options() -> dict[str, str]:
    """GDAL's options by which a server that fails for a moment is asked again, and a silent one given up.

    What the environment says of them stays. Caches and directory listings stay GDAL's own: of a COG, others did not
    read fewer bytes.
    """
    return {name: os.environ.get(name, value) for name, value in _REMOTE_OPTIONS.items()}


def open_dataset(path: str, overview_level: int | None = None) -> DatasetReader:
    """Opens a raster for reading, on a handle of its own.

    Args:
        path: local path, /vsi name or URL.
        overview_level: index of the overview to open in place of the full resolution.

    Raises:
        UsageError: no such file, or GDAL finds no raster in it.
        PrngeoError: a remote file cannot be reached.
    """
    _check_local_path(path)
    options = {} if overview_level is None else {"overview_level": overview_level}
    try:
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(path, sharing=False, **options)
    except (RasterioError, OSError, ValueError) as error:
        shown, reason = public_path(path), _reason(error, path)
        if is_remote(path):
            raise PrngeoError(
                f"{shown} could not be opened: {reason}. Check the address, the network and the credentials "
                f"GDAL uses, or download the file and give its path."
            ) from error
        raise UsageError(
            f"{shown} cannot be read as a raster: {reason}. Give a raster that GDAL opens "
            f"(`gdalinfo {shown}` tells), such as a GeoTIFF; if it should be one, copy it again."
        ) from error
    if dataset.count == 0:
        inside = dataset.subdatasets
        dataset.close()
        raise UsageError(
            f"{public_path(path)} holds no bands of its own"
            + (f"; give one of its {len(inside)} subdatasets: {', '.join(inside[:8])}." if inside else ".")
        )
    return dataset


@contextmanager
def reading(path: str, window: Window) -> Iterator[None]:
    """Turns a failed read of `window` (pixels of the file) into a ReadError that names file and place."""
    try:
        yield
    except (RasterioError, OSError) as error:
        shown = public_path(path)
        advice = (
            "The server or the network may have failed, or the file is damaged: run the command again, or download the "
            "file and give its path."
            if is_remote(path)
            else "The file may be truncated or damaged: check it with "
            f"`gdalinfo -checksum {shown}`, and copy or download it again."
        )
        raise ReadError(
            f"{shown}: rows {window.row}-{window.row_end - 1}, columns {window.col}-{window.col_end - 1} "
            f"could not be read: {_reason(error, path)}. {advice}"
        ) from error


def is_remote(path: str) -> bool:
    """True for URLs and network file systems of GDAL."""
    inner = _ARCHIVE.match(path)
    if inner and not _LOCAL_SCHEME.match(path):
        return is_remote(inner.group(1)) or inner.group(1).startswith("vsi")
    return bool(_REMOTE.match(path)) and not _LOCAL_SCHEME.match(path)


def public_path(path: str) -> str:
    """The path as it may be shown or stored: a URL without user, password and query (signatures, tokens)."""
    match = re.match(r"^(/vsi\w+/)?([a-z][a-z0-9+]*://.*)$", path, re.IGNORECASE | re.DOTALL)
    if not match or _LOCAL_SCHEME.match(path):
        return path
    url = urlsplit(match.group(2))
    return (match.group(1) or "") + urlunsplit((url.scheme, url.netloc.rpartition("@")[2], url.path, "", ""))


def scene_name(path: str) -> str:
    """The stem that outputs are named after: `b` for `/vsizip/a.zip/b.tif` or `https://host/b.tif?key=1`."""
    if path.lstrip().startswith("<"):
        return "scene"
    public = public_path(path)
    if public != path or "://" in path:
        public = unquote(public)
    last = re.split(r"[/\\!]", public.rstrip("/\\"))[-1]
    stem = Path(last).stem
    return re.sub(r'[:"<>|?*\x00-\x1f]+', "_", stem).strip(" _") or "scene"


def gdal_name(path: str, dataset: DatasetReader) -> str:
    """The name by which GDAL itself opens a raster, from anywhere: absolute, /vsicurl/ before a URL.

    Raises:
        UsageError: the name holds a key or a password, which must not be written down.
    """
    name = os.path.abspath(path) if os.path.exists(path) else path
    if "://" in path and not path.startswith("/vsi"):
        name = dataset.files[0]
    if public_path(name) != name:
        raise UsageError(
            f"The address of {public_path(path)} holds a key or a password, which would be written into a file. Give "
            "GDAL the credentials by its environment variables, or download the file and give its path."
        )
    return name


def identity(path: str, dataset: DatasetReader) -> dict[str, Any]:
    """What tells this input from another: a hash for local files, ETag and size for remote ones.

    Of a file in an archive, the archive is hashed. A file comes with others that its pixels are in: a VRT's sources, a
    mask or overviews beside it, and then its hash is over its own content and what is told of them. Files of
    statistics (.aux.xml), which viewers leave behind, are none of them.

    Returns:
        `path` (absolute for a file), with `size_bytes` and `sha256` (local) or `etag` and `size` (remote, where the
        server tells), and where there are other files `sources`, a list of the same.
    """
    found = _file_identity(path)
    file = _local_file(path)
    own = dataset.files[0] if dataset.files else path
    others = [
        name
        for name in sorted(_files(dataset))
        if name != own and (file is None or _local_file(name) != file) and not name.endswith(".aux.xml")
    ]
    if not others:
        return found
    sources = [_file_identity(name) for name in others]
    if "sha256" not in found:
        return found | {"sources": sources}
    facts = json.dumps([{key: value for key, value in source.items() if key != "path"} for source in sources])
    digest = hashlib.sha256((found["sha256"] + facts).encode()).hexdigest()
    return found | {"sha256": digest, "sources": sources}


def _files(dataset: DatasetReader) -> set[str]:
    """The files that a raster's pixels are in; of a VRT, GDAL tells its sources, but not those of a source."""
    found, more = set(dataset.files[:1]), list(dataset.files[1:])
    while more:
        name = more.pop()
        if name in found:
            continue
        found.add(name)
        if name.lower().endswith(".vrt"):
            with suppress(PrngeoError), open_dataset(name) as inner:
                more += inner.files
    return found


def _file_identity(path: str) -> dict[str, Any]:
    shown = os.path.abspath(path) if os.path.exists(path) else public_path(path)
    if is_remote(path):
        return {"path": shown} | _remote_identity(path)
    file = _local_file(path)
    if file is None:
        return {"path": shown}
    return {"path": shown, "size_bytes": file.stat().st_size, "sha256": file_hash(file)}


def _check_local_path(path: str) -> None:
    if path.startswith("/vsi") or "://" in path or path.lstrip().startswith("<"):
        return
    if not os.path.exists(path):
        if not _DRIVER_PREFIX.match(path):
            raise UsageError(f"No such file: {path}")
    elif not os.access(path, os.R_OK):
        raise UsageError(f"No permission to read {path}")


def _local_file(path: str) -> Path | None:
    """The file on disk behind a local path; the archive for a file inside one; None if there is none."""
    archive = _ARCHIVE.match(path)
    if archive:
        path = archive.group(1).replace("!", "/").replace("}", "")
    elif path.lower().startswith("file://"):
        path = unquote(urlsplit(path).path)
    elif _DRIVER_PREFIX.match(path) and not os.path.exists(path):
        path = path.split(":", 1)[1].strip('"')
    candidate = Path(path)
    for option in (candidate, *candidate.parents):
        if option.is_file():
            return option
    return None


def _remote_identity(path: str) -> dict[str, Any]:
    url = re.sub(r"^/vsicurl(_streaming)?/", "", path, flags=re.IGNORECASE)
    if urlsplit(url).scheme.lower() not in ("http", "https"):
        return {}
    try:
        request = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(request, timeout=_HEAD_TIMEOUT) as answer:
            etag, size = answer.headers.get("ETag"), answer.headers.get("Content-Length")
    except (urllib.error.URLError, OSError, ValueError):
        return {}  # some servers refuse HEAD: the record then holds the address alone
    found: dict[str, Any] = {"etag": etag} if etag else {}
    return found | ({"size": int(size)} if size and size.isdigit() else {})


def _reason(error: BaseException, path: str) -> str:
    """GDAL's own words, found at the end of the chain of causes, without what must not be shown.

    Where a cause names a file other than the raster, as that of a VRT that cannot be read, it goes before them.
    """
    source = ""
    while error.__cause__ is not None:
        error = error.__cause__
        named = re.match(r"(.+), band \d+: ", str(error))
        if named and named[1] != Path(path).name:
            source = f"{named[1]}: "
    text = source + (" ".join(str(error).split()) or type(error).__name__)
    return text.replace(path, public_path(path)).rstrip(". ")
