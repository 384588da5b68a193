"""Putting the Processing plugin into the profiles of QGIS."""

from __future__ import annotations

import configparser
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from prngeo.errors import PrngeoError
from prngeo.qgis.profiles import PLUGIN, Profile, find_profiles, write_setting

SOURCE = Path(__file__).parent / "plugin"
METADATA = "metadata.txt"
ENABLED = ("PythonPlugins", PLUGIN)
COMMAND = ("Processing", r"Configuration\PRNGEO_COMMAND")


@dataclass(frozen=True)
class Installed:
    """What `install_plugin` did in a profile."""

    profile: Profile
    command: str


def plugin_files() -> list[Path]:
    """The files of the plugin, relative to its folder."""
    files = (path.relative_to(SOURCE) for path in SOURCE.rglob("*") if path.is_file())
    return sorted(path for path in files if "__pycache__" not in path.parts and not path.name.startswith("."))


def own_command() -> str:
    """Path of the `prngeo` command of this installation.

    Raises:
        PrngeoError: there is none beside this Python, nor on the search path.
    """
    beside = Path(sys.executable).parent
    found = shutil.which("prngeo", path=str(beside)) or shutil.which("prngeo")
    if found is None:
        raise PrngeoError(f"There is no prngeo command in {beside}: install prngeo into this Python with pip.")
    return Path(found).absolute().as_posix()


def install_plugin(profile: str | None = None) -> list[Installed]:
    """Put the plugin into QGIS, switch it on and tell it where this installation's command is.

    Args:
        profile: name of a QGIS profile; the one QGIS starts with if None.

    Raises:
        UsageError: there is no such profile.
        PrngeoError: a folder cannot be written.
    """
    command, done = own_command(), []
    for place in find_profiles(profile):
        try:
            _copy(place.plugin)
            write_setting(place.settings, *ENABLED, "true")
            write_setting(place.settings, *COMMAND, command)
        except OSError as error:
            raise PrngeoError(
                f"{place.folder} cannot be written ({error.strerror}); close QGIS, or see its owner."
            ) from error
        done.append(Installed(place, command))
    return done


def _copy(target: Path) -> None:
    """Replace a folder of the plugin, at once as far as the file system lets."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    for path in plugin_files():
        (fresh / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SOURCE / path, fresh / path)
    if target.exists():
        shutil.rmtree(target)
    fresh.rename(target)


def read_metadata(path: Path) -> dict[str, str]:
    """What a file of metadata says; nothing if there is none."""
    return parse_metadata(path.read_text(encoding="utf-8")) if path.is_file() else {}


def parse_metadata(content: str) -> dict[str, str]:
    """Key and value of metadata."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(content)
    return dict(parser.items("general")) if parser.has_section("general") else {}
