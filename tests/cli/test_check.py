"""`prngeo check` on the command line; what it finds is tested in tests/inspection."""

import json

from tests.conftest import write_scene


def test_a_scene_that_suits(cli, scene, tiny_model):
    before = set(scene.parent.iterdir())
    ran = cli("check", scene, "-m", tiny_model)
    assert ran.code == 0
    assert ran.out.rstrip().endswith("It can run.")
    assert "Estimated memory" in ran.out
    assert set(scene.parent.iterdir()) == before


def test_a_scene_that_needs_an_option(cli, tmp_path, tiny_model):
    gray = write_scene(tmp_path / "gray.tif", 64, 64, count=1)
    ran = cli("check", gray, "-m", tiny_model)
    assert ran.code == 1
    assert "--bands 1,1,1" in ran.out
    assert ran.out.rstrip().endswith("It cannot run like this.")
    assert cli("check", gray, "-m", tiny_model, "--bands", "1,1,1").code == 0


def test_as_json(cli, scene, tiny_model):
    report = json.loads(cli("check", scene, "-m", tiny_model, "--json").out)
    assert report["can_run"] is True
    assert [finding["name"] for finding in report["findings"]][:4] == ["size", "bands", "GSD", "CRS"]


def test_a_wrong_call(cli, scene, tiny_model):
    for arguments in (("nosuch.tif",), (scene, "--gsd", "-1"), (scene, "--bands", "red"), (scene, "--tile", "7")):
        ran = cli("check", *arguments, "-m", tiny_model)
        assert ran.code == 2
        assert ran.err.startswith("prngeo: ")
