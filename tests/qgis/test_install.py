"""The plugin goes into QGIS's profiles and into a zip, and the doctor says what it lacks."""

from __future__ import annotations

import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prngeo import PrngeoError, UsageError, __version__
from prngeo.cli.app import run
from prngeo.qgis import doctor, install
from prngeo.qgis.doctor import inspect_plugin
from prngeo.qgis.install import COMMAND, ENABLED, install_plugin
from prngeo.qgis.package import package_plugin, refusals
from prngeo.qgis.profiles import PLUGIN, _escaped, _plain, find_profiles, read_setting, write_setting
from tests.qgis.real import run_in_qgis, skip_if_missing


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of profiles of a QGIS that was never started."""
    monkeypatch.setenv("QGIS_CUSTOM_CONFIG_PATH", str(tmp_path / "config"))
    return tmp_path / "config" / "profiles"


def test_installed_twice_it_is_in_place_switched_on_and_knows_the_command(root: Path) -> None:
    (root / "default" / "QGIS").mkdir(parents=True)
    settings = root / "default" / "QGIS" / "QGIS3.ini"
    settings.write_text("[PythonPlugins]\nother=true\n\n[qgis]\nlast=é\n", encoding="utf-8")
    for _ in range(2):
        (done,) = install_plugin()
    plugin = root / "default" / "python" / "plugins" / PLUGIN
    assert done.profile.plugin == plugin
    assert {path.name for path in plugin.iterdir()} >= {"__init__.py", "metadata.txt", "LICENSE", "icon.svg"}
    assert not list(plugin.rglob("__pycache__"))
    assert read_setting(settings, *ENABLED) == "true"
    assert read_setting(settings, *COMMAND) == done.command
    assert Path(done.command).is_file()
    lines = settings.read_text(encoding="utf-8").splitlines()
    assert lines[:3] == ["[PythonPlugins]", "other=true", f'{PLUGIN}="true"']
    assert "last=é" in lines
    assert sum(PLUGIN in line for line in lines) == 1
    assert [path.name for path in plugin.parent.iterdir()] == [PLUGIN]


def test_an_old_plugin_is_replaced_whole(root: Path) -> None:
    (done,) = install_plugin()
    (done.profile.plugin / "old.py").touch()
    install_plugin()
    assert not (done.profile.plugin / "old.py").exists()


def test_a_profile_is_chosen_by_name_or_as_qgis_does(root: Path) -> None:
    for name in ("default", "work"):
        (root / name).mkdir(parents=True)
    assert [place.folder.name for place in find_profiles()] == ["default"]
    assert [place.folder.name for place in find_profiles("work")] == ["work"]
    (root / "profiles.ini").write_text("[core]\ndefaultProfile=work\n")
    assert [place.folder.name for place in find_profiles()] == ["work"]
    with pytest.raises(UsageError, match="no profile 'home'; --profile takes one of: default, work"):
        find_profiles("home")


@pytest.mark.parametrize(
    ("platform", "variable", "below"),
    [
        ("linux", "XDG_DATA_HOME", "QGIS/QGIS3/profiles"),
        ("win32", "APPDATA", "QGIS/QGIS3/profiles"),
        ("darwin", "HOME", "Library/Application Support/QGIS/QGIS3/profiles"),
    ],
)
def test_every_version_of_qgis_that_was_started_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, variable: str, below: str
) -> None:
    monkeypatch.delenv("QGIS_CUSTOM_CONFIG_PATH", raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert [place.folder for place in find_profiles()] == [tmp_path / below / "default"]
    for version in ("QGIS3", "QGIS4"):
        (tmp_path / below.replace("QGIS3", version)).mkdir(parents=True)
    assert [place.settings.name for place in find_profiles()] == ["QGIS3.ini", "QGIS4.ini"]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_settings_come_back_as_they_were_written(value: str) -> None:
    written = _escaped(value)
    assert written.isascii()
    assert written.isprintable()
    assert _plain(written) == value


READ = """
import json, sys
from qgis.PyQt.QtCore import QSettings
settings = QSettings(json.loads(sys.argv[1]), QSettings.IniFormat)
values = [settings.value("/Processing/Configuration/" + str(i)) for i in range(settings.value("/n/n", type=int))]
print("SHOWN" + json.dumps({"values": values}))
"""
VALUES = ["C:/Program Files/a b/prngeo.exe", "/home/josé/prngeo", "é1\\n", 'a "b", c; d=e', "日本/x", "\U0001f600a", ""]


@pytest.mark.qgis
def test_real_qt_reads_the_settings(tmp_path: Path) -> None:
    skip_if_missing()
    path = tmp_path / "QGIS3.ini"
    for number, value in enumerate(VALUES):
        write_setting(path, "Processing", rf"Configuration\{number}", value)
    write_setting(path, "n", "n", str(len(VALUES)))
    assert run_in_qgis(tmp_path, READ, str(path))["values"] == VALUES


def problems(profile: str | None = None) -> str:
    return " ".join(inspect_plugin(profile).problems)


def test_the_doctor_names_what_is_missing_and_what_mends_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "find_qgis", lambda: None)
    assert "QGIS was neither found nor ever started here" in problems()
    assert "run `prngeo qgis install`" in problems()
    assert run(["qgis", "doctor"]) == 1
    assert "plugin: not installed" in capsys.readouterr().out
    assert run(["qgis", "install"]) == 0
    assert "Start QGIS again" in capsys.readouterr().err
    assert run(["qgis", "doctor"]) == 0, "the command of this installation answers"
    said = capsys.readouterr().out
    assert f"it answers: prngeo {__version__}" in said
    assert said.endswith("The plugin is ready.\n")
    (place,) = find_profiles()
    write_setting(place.settings, *COMMAND, str(root / "nosuch"))
    assert f"{root / 'nosuch'} does not answer `--version`" in problems()
    write_setting(place.settings, *ENABLED, "false")
    assert "switched off" in problems()
    text = (place.plugin / "metadata.txt").read_text()
    (place.plugin / "metadata.txt").write_text(text.replace(f"version={__version__}", "version=0.0.1"))
    assert f"The plugin is version 0.0.1, prngeo is {__version__}" in problems()
    assert run(["qgis", "install", "--profile", "nosuch"]) == 2
    assert "no profile 'nosuch'" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_told(root: Path) -> None:
    root.parent.mkdir()
    root.write_text("a file in its place")
    with pytest.raises(PrngeoError, match="cannot be written"):
        install_plugin()


def test_an_installation_without_a_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(PrngeoError, match="There is no prngeo command"):
        install.own_command()


def test_a_package_of_a_publisher_passes_the_rules_of_the_repository(tmp_path: Path) -> None:
    path = tmp_path / "plugin.zip"
    refused = package_plugin(path, "someone@somewhere.net", "https://somewhere.net/prngeo")
    assert refused == []
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        names = file.namelist()
        metadata = file.read(f"{PLUGIN}/metadata.txt").decode()
    assert {name.split("/")[0] for name in names} == {PLUGIN}
    assert PLUGIN.isidentifier()
    assert {f"{PLUGIN}/__init__.py", f"{PLUGIN}/LICENSE", f"{PLUGIN}/metadata.txt"} <= set(names)
    assert "tracker=https://somewhere.net/prngeo/issues\n" in metadata
    before = path.read_bytes()
    package_plugin(path, "someone@somewhere.net", "https://somewhere.net/prngeo", overwrite=True)
    assert path.read_bytes() == before


def test_without_a_publisher_the_placeholders_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plugin.zip"
    assert run(["qgis", "package", "-o", str(path)]) == 0
    said = capsys.readouterr().err
    assert "Install from ZIP" in said
    assert "email is a placeholder; give --email" in said
    assert "repository is a placeholder; give --repository" in said
    assert run(["qgis", "package", "-o", str(path)]) == 2
    assert (
        run(["qgis", "package", "-o", str(path), "--overwrite", "--email", "a@b.net", "--repository", "nonsense"]) == 0
    )
    assert "repository is no address" in capsys.readouterr().err
    assert run(["qgis", "package", "-o", str(tmp_path / "a.tar")]) == 2
    assert run(["qgis", "package", "-o", str(tmp_path / "no" / "a.zip")]) == 2


@pytest.mark.parametrize(
    ("entry", "content", "reason"),
    [
        ("prngeo_qgis/__pycache__/a.pyc", "", r"a\.pyc may not be in it"),
        ("other/a.py", "", "not in one folder"),
        ("prngeo_qgis/metadata.txt", "[general]\nname=a\nauthor=a/b\n", "email is missing"),
    ],
)
def test_what_the_repository_refuses_is_found(tmp_path: Path, entry: str, content: str, reason: Any) -> None:
    path = tmp_path / "plugin.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("prngeo_qgis/__init__.py", "")
        file.writestr(entry, content)
    found = " ".join(refusals(path))
    assert "LICENSE is missing" in found
    assert re.search(reason, found)
