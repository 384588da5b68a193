"""The Processing plugin: putting it into QGIS, packing it for the plugin manager, and what keeps it from working."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from prngeo import __version__
from prngeo.errors import PrngeoError, UsageError
from prngeo.files import refuse_existing, whole
from prngeo.qgis.profiles import PLUGIN, Profile, find_profiles, read_setting, write_setting

SOURCE = Path(__file__).parent / "plugin"
METADATA = "metadata.txt"
ENABLED = ("PythonPlugins", PLUGIN)
COMMAND = ("Processing", r"Configuration\PRNGEO_COMMAND")
REQUIRED = ("name", "description", "version", "qgisMinimumVersion", "author", "email", "about", "tracker", "repository")
"""What https://plugins.qgis.org refuses an upload without; the homepage must be an address too."""
LARGEST = 25_000_000
SECONDS = 60


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
    version = _metadata(place.plugin / METADATA).get("version")
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
    values = _parse(content)
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


def _metadata(path: Path) -> dict[str, str]:
    return _parse(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _parse(content: str) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(content)
    return dict(parser.items("general")) if parser.has_section("general") else {}
