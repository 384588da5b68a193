"""What keeps the Processing plugin from working."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from prngeo import __version__
from prngeo.qgis.install import COMMAND, ENABLED, METADATA, read_metadata
from prngeo.qgis.profiles import Profile, find_profiles, read_setting

SECONDS = 60
"""For a command to tell its version."""


@dataclass(frozen=True)
class PluginReport:
    """What `prngeo qgis doctor` tells.

    Attributes:
        facts: name and finding, in order.
        problems: what keeps the plugin from working, each with what mends it; empty if nothing does.
    """

    facts: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def inspect_plugin(profile: str | None = None) -> PluginReport:
    """Look for QGIS, the plugin, its settings, and the command it calls.

    Args:
        profile: name of a QGIS profile; the one QGIS starts with if None.

    Raises:
        UsageError: there is no such profile.
    """
    report = PluginReport()
    qgis = find_qgis()
    report.facts.append(("QGIS", str(qgis) if qgis else "not found on the search path or in its usual places"))
    places = find_profiles(profile)
    if qgis is None and not any(place.folder.is_dir() for place in places):
        report.problems.append("QGIS was neither found nor ever started here: install it from https://qgis.org.")
    for place in places:
        _inspect(place, report)
    return report


def find_qgis() -> Path | None:
    """The program of QGIS, on the search path or where its installers put it."""
    for name in ("qgis", "qgis.bin", "qgis-ltr", "qgis-bin"):
        if found := shutil.which(name):
            return Path(found)
    usual = {
        "win32": (Path("C:/Program Files"), "QGIS*/bin/qgis*-bin.exe"),
        "darwin": (Path("/Applications"), "QGIS*.app"),
    }
    base, pattern = usual.get(sys.platform, (Path("/nonexistent"), ""))
    return next(iter(sorted(base.glob(pattern), reverse=True)), None) if base.is_dir() else None


def _inspect(place: Profile, report: PluginReport) -> None:
    report.facts.append(("profile", str(place.folder)))
    version = read_metadata(place.plugin / METADATA).get("version")
    report.facts.append(("plugin", f"version {version}" if version else "not installed"))
    if version is None:
        report.problems.append(f"The plugin is not in the profile {place.folder.name}: run `prngeo qgis install`.")
        return
    if version != __version__:
        report.problems.append(
            f"The plugin is version {version}, prngeo is {__version__}: run `prngeo qgis install` again."
        )
    enabled = (read_setting(place.settings, *ENABLED) or "").lower() == "true"
    report.facts.append(("enabled", "yes" if enabled else "no"))
    if not enabled:
        report.problems.append("The plugin is switched off: tick prngeo under Plugins > Manage and Install Plugins.")
    chosen = read_setting(place.settings, *COMMAND) or ""
    report.facts.append(("command", chosen or "the one on the search path"))
    answer = command_version(chosen or "prngeo")
    if answer is None:
        report.problems.append(
            f"{chosen or 'prngeo'} does not answer `--version`: run `prngeo qgis install` from the installation to use."
        )
    else:
        report.facts.append(("it answers", answer))


def command_version(command: str) -> str | None:
    """What a command answers to `--version`; None if it does not."""
    try:
        done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 and done.stdout.startswith("prngeo ") else None
