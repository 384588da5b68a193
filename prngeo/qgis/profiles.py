"""The profiles of QGIS on this machine: where they are, and settings in them."""

from __future__ import annotations

import configparser
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from prngeo.errors import UsageError
from prngeo.files import whole

VERSIONS = ("QGIS3", "QGIS4")
PLUGIN = "prngeo_qgis"
"""Folder of the plugin: not `prngeo`, which would hide this package from the Python of QGIS."""


@dataclass(frozen=True)
class Profile:
    """A profile of QGIS.

    Attributes:
        folder: of the profile.
        version: QGIS3 or QGIS4.
    """

    folder: Path
    version: str

    @property
    def plugin(self) -> Path:
        """Where the plugin is, if it is installed."""
        return self.folder / "python" / "plugins" / PLUGIN

    @property
    def settings(self) -> Path:
        """The file of its settings."""
        return self.folder / "QGIS" / f"{self.version}.ini"


def roots() -> dict[str, Path]:
    """Folders of profiles by version of QGIS, whether they exist or not."""
    chosen = os.environ.get("QGIS_CUSTOM_CONFIG_PATH")
    if chosen:
        return {VERSIONS[0]: Path(chosen) / "profiles"}
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return {version: base / "QGIS" / version / "profiles" for version in VERSIONS}


def find_profiles(name: str | None = None) -> list[Profile]:
    """The profiles to use: of each version of QGIS that has been started here, else of QGIS 3.

    Args:
        name: of a profile; the one that QGIS starts with if None.

    Raises:
        UsageError: there is no profile of that name.
    """
    found = {version: root for version, root in roots().items() if root.is_dir()}
    if name is None:
        used = found or dict(list(roots().items())[:1])
        return [Profile(root / default_profile(root), version) for version, root in used.items()]
    profiles = [Profile(root / name, version) for version, root in found.items() if (root / name).is_dir()]
    if not profiles:
        known = sorted({path.name for root in found.values() for path in root.iterdir() if path.is_dir()})
        raise UsageError(
            f"QGIS has no profile {name!r}; --profile takes one of: {', '.join(known) or 'none, start QGIS once'}."
        )
    return profiles


def default_profile(root: Path) -> str:
    """Name of the profile that QGIS starts with."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read(root / "profiles.ini", encoding="utf-8")
        return parser.get("core", "defaultProfile", fallback="default") or "default"
    except (configparser.Error, UnicodeDecodeError):
        return "default"


def read_setting(path: Path, section: str, key: str) -> str | None:
    """A setting as it stands in a file of QGIS; None if it is not there."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    at = _find(lines, section, key)[1]
    return None if at is None else _plain(lines[at].partition("=")[2])


def write_setting(path: Path, section: str, key: str, value: str) -> None:
    """Set a value in a file of QGIS's settings; every other line stays as it is.

    Raises:
        OSError: the file cannot be written.
    """
    lines = path.read_bytes().decode("utf-8", "surrogateescape").splitlines() if path.exists() else []
    end, at = _find(lines, section, key)
    line = f"{key}={_escaped(value)}"
    if at is not None:
        lines[at] = line
    elif end is not None:
        lines.insert(end, line)
    else:
        lines += ["", f"[{section}]", line]
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as hidden:
        hidden.write_bytes(("\n".join(lines).lstrip("\n") + "\n").encode("utf-8", "surrogateescape"))


def _find(lines: list[str], section: str, key: str) -> tuple[int | None, int | None]:
    """Line behind the last one of a section, and line of the key in it."""
    here, end, at = False, None, None
    for number, line in enumerate(lines):
        if line.startswith("["):
            here = line.strip() == f"[{section}]"
        elif here and line.partition("=")[0].strip() == key:
            at = number
        if here and line.strip():
            end = number + 1
    return end, at


def _escaped(value: str) -> str:
    """A text as Qt writes it: in quotes, with backslashes doubled and other than ASCII as `x` and hexadecimal."""
    units = value.encode("utf-16-le", "surrogatepass")
    codes = [int.from_bytes(units[i : i + 2], "little") for i in range(0, len(units), 2)]
    text, after_hex = "", False
    for code in codes:
        letter = chr(code)
        # A hexadecimal digit behind an escape would be read as a part of it.
        if 32 <= code < 127 and not (after_hex and letter in "0123456789abcdefABCDEF"):
            text += f"\\{letter}" if letter in '\\"' else letter
            after_hex = False
        else:
            text += f"\\x{code:x}"
            after_hex = True
    return f'"{text}"'


def _plain(text: str) -> str:
    """What `_escaped` wrote, or a plain text."""
    text = text.strip()
    if len(text) > 1 and text.startswith('"') and text.endswith('"'):
        text = text[1:-1]
    units = re.sub(r"\\x([0-9a-fA-F]{1,4})|\\(.)", lambda m: chr(int(m[1], 16)) if m[1] else m[2], text)
    return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
