"""Packing the Processing plugin, by the rules of QGIS's plugin repository."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

from prngeo.errors import PrngeoError, UsageError
from prngeo.files import refuse_existing, whole
from prngeo.qgis.install import METADATA, SOURCE, parse_metadata, plugin_files
from prngeo.qgis.profiles import PLUGIN

REQUIRED = ("name", "description", "version", "qgisMinimumVersion", "author", "email", "about", "tracker", "repository")
"""What https://plugins.qgis.org refuses an upload without; the homepage must be an address too."""
LARGEST = 25_000_000  # bytes


def package_plugin(
    output: Path, email: str | None = None, repository: str | None = None, overwrite: bool = False
) -> list[str]:
    """Pack the plugin for the plugin manager of QGIS ("Install from ZIP") and for https://plugins.qgis.org.

    Args:
        output: file that ends in .zip.
        email: of the publisher, for the repository.
        repository: address of the published source; homepage and tracker (`/issues`) follow from it.
        overwrite: replace the file.

    Returns:
        What an upload would still be refused for, as sentences; none if nothing.

    Raises:
        UsageError: the file exists or its folder does not, or an argument is no address.
        PrngeoError: the file cannot be written.
    """
    if output.suffix.lower() != ".zip":
        raise UsageError(f"-o {output} should end in .zip.")
    if not output.parent.is_dir():
        raise UsageError(f"-o {output}: the folder {output.parent} does not exist; create it first.")
    refuse_existing([output], overwrite)
    changes = {"email": email} if email else {}
    if repository:
        changes |= {"repository": repository, "homepage": repository, "tracker": repository.rstrip("/") + "/issues"}
    text = (SOURCE / METADATA).read_text(encoding="utf-8")
    for key, value in changes.items():
        text = re.sub(rf"(?m)^{key}=.*$", f"{key}={value}".replace("\\", r"\\"), text)
    try:
        with whole(output) as hidden:
            _pack(hidden, text)
            refused = refusals(hidden)
    except OSError as error:
        raise PrngeoError(f"{output} cannot be written ({error.strerror}).") from error
    return refused


def _pack(path: Path, metadata: str) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name in plugin_files():
            content = metadata.encode() if name.name == METADATA else (SOURCE / name).read_bytes()
            entry = zipfile.ZipInfo(f"{PLUGIN}/{name.as_posix()}", (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            file.writestr(entry, content, zipfile.ZIP_DEFLATED)


def refusals(path: Path) -> list[str]:
    """Why the plugin repository would refuse a zip, by its published rules, as far as can be told offline."""
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
        content = file.read(f"{PLUGIN}/{METADATA}").decode("utf-8") if f"{PLUGIN}/{METADATA}" in names else ""
    values = parse_metadata(content)
    found = [f"{key} is missing in {METADATA}." for key in REQUIRED if not values.get(key)]
    found += [f"{name} is missing." for name in ("__init__.py", "LICENSE", METADATA) if f"{PLUGIN}/{name}" not in names]
    if len({name.partition("/")[0] for name in names}) != 1:
        found.append("The files are not in one folder.")
    found += [f"{name} may not be in it." for name in names if re.search(r"\.pyc|\.\.|\\|/\.git|__MACOSX", name)]
    if path.stat().st_size > LARGEST:
        found.append(f"It is larger than {LARGEST / 1e6:g} MB.")
    if not re.fullmatch("[^/]+", values.get("author", "")):
        found.append("The author's name may not hold a slash.")
    for key in ("homepage", "repository", "tracker"):
        address = urlsplit(values.get(key, ""))
        if address.scheme not in ("http", "https") or "." not in address.netloc:
            found.append(f"{key} is no address.")
        elif address.netloc.endswith("example.org"):
            found.append(f"{key} is a placeholder; give --repository.")
    if values.get("email", "").endswith("@example.org"):
        found.append("email is a placeholder; give --email.")
    return found
