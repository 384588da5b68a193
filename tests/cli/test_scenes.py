"""Patterns and equal names."""

import pytest

from prngeo.cli.scenes import expand, refuse_same_names
from prngeo.errors import UsageError


@pytest.fixture
def tiles(tmp_path):
    for name in ("b.tif", "a.tif", "c.jpg", "odd[1].tif"):
        (tmp_path / name).touch()
    (tmp_path / "folder.tif").mkdir()
    return tmp_path


def test_patterns_are_expanded_in_order_and_each_scene_comes_once(tiles):
    names = [str(tiles / name) for name in ("c.jpg", "*.tif", "a*.tif")]
    assert expand(names) == [str(tiles / name) for name in ("c.jpg", "a.tif", "b.tif", "odd[1].tif")]


def test_what_exists_or_is_remote_is_no_pattern(tiles):
    names = [str(tiles / "odd[1].tif"), "https://host/a.tif?key=*", "/vsizip/a.zip/*.tif", "missing.tif"]
    assert expand(names) == names


def test_a_pattern_without_a_match_is_refused(tiles):
    with pytest.raises(UsageError, match=r"No file matches .*\*\.png"):
        expand([str(tiles / "*.png")])


def test_outputs_are_no_scenes_unless_they_are_scores(tmp_path):
    for name in (
        "a.tif",
        "a_roads_mask.tif",
        "b.json",
        "b_roads_probability.tif",
        "b_roads_probability_roads_mask.tif",
    ):
        (tmp_path / name).touch()
    assert expand([str(tmp_path / "*.tif")]) == [str(tmp_path / "a.tif")]
    assert expand([str(tmp_path / "*.tif")], scores=True) == [
        str(tmp_path / name) for name in ("a.tif", "b_roads_probability.tif")
    ]
    with pytest.raises(UsageError, match="an output of an earlier run, not a scene; so are all"):
        expand([str(tmp_path / "b*ty.tif")])


def test_equal_names_into_one_folder_are_refused(tmp_path):
    scenes = []
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        scenes.append(str(tmp_path / folder / "scene.tif"))
        (tmp_path / folder / "scene.tif").touch()
    refuse_same_names(scenes, None)
    with pytest.raises(UsageError, match=r"same outputs \(scene_\*\)"):
        refuse_same_names(scenes, tmp_path / "out")
    with pytest.raises(UsageError, match="same outputs"):
        refuse_same_names([scenes[0], scenes[0].replace(".tif", ".jpg")], tmp_path)
