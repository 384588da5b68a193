"""What is cached is not cached again, and what is not whole, or not understood, is."""

import os

import numpy as np
import pytest

from prngeo.errors import PrngeoError, UsageError
from prngeo.training import cache, pictures
from prngeo.training.prepare import prepare
from prngeo.training.regions import load_regions, read_index
from tests.training.conftest import north_up, roles


@pytest.fixture
def cached(monkeypatch):
    """Counts the scenes that are cached."""
    done = []
    original = pictures.cache_scene

    def noting(scene, *more):
        done.append(scene.name)
        return original(scene, *more)

    monkeypatch.setattr(pictures, "cache_scene", noting)
    return done


def test_a_complete_cache_is_not_made_again(tmp_path, scene, cached, config):
    scene("s")
    first = prepare(config(tmp_path), tmp_path / "cache")
    assert prepare(config(tmp_path), tmp_path / "cache") == first
    assert cached == ["s"]


@pytest.mark.parametrize("changed", ["images/s.tif", "masks/s.tif"])
def test_a_file_that_changed_is_cached_again_and_no_other(tmp_path, scene, cached, changed, config):
    scene("s")
    scene("t", north_up(600_000), seed=1)
    prepare(config(tmp_path), tmp_path / "cache")
    os.utime(tmp_path / changed, (1, 1))
    prepare(config(tmp_path), tmp_path / "cache")
    assert cached == ["s", "t", "s"]


def test_roles_can_change_without_caching_again(tmp_path, scene, cached, config):
    for i, name in enumerate(["s", "t"]):
        scene(name, north_up(500_000 + 1000 * i), seed=i)
    prepare(config(tmp_path), tmp_path / "cache")
    found = prepare(config(tmp_path, {"test": ["s"]}), tmp_path / "cache")
    assert roles(found) == {"a-s": "test", "a-t": "train"}
    assert cached == ["s", "t"]


def test_a_cache_that_was_interrupted_goes_on_with_the_scene_that_is_not_whole(
    tmp_path, scene, cached, monkeypatch, config
):
    expected = {}
    for i, name in enumerate(["s", "t", "u"]):
        expected[name] = scene(name, north_up(500_000 + 1000 * i), seed=i)

    def stop(place, *arguments):
        if place.name == "a-t":
            raise KeyboardInterrupt
        return original(place, *arguments)

    original = cache.mark_finished
    with monkeypatch.context() as patch:
        patch.setattr(cache, "mark_finished", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(config(tmp_path), tmp_path / "cache")
    assert read_index(tmp_path / "cache") == ("", [])
    prepare(config(tmp_path), tmp_path / "cache")
    assert cached == ["s", "t", "t", "u"]
    for item in load_regions(tmp_path / "cache", "train"):
        np.testing.assert_array_equal(item.labels[..., 1], expected[item.region.key[-1]][1])


@pytest.mark.parametrize(
    "content", ['{"fingerprint": "f", "regions": [{"key": "of an older version"}]}', '{"finger', "[]"]
)
def test_an_index_that_is_not_understood_is_as_none(tmp_path, scene, config, content):
    scene("s")
    folder = tmp_path / "cache"
    regions = prepare(config(tmp_path), folder)
    (folder / "index.json").write_text(content, encoding="utf-8")
    assert prepare(config(tmp_path), folder) == regions
    assert read_index(folder)[1] == regions


def test_another_configuration_over_a_cache_replaces_it(tmp_path, scene, config):
    _, mask = scene("s")
    for targets in (["buildings", "roads"], ["roads", "buildings"], ["buildings", "roads"]):
        prepare(config(tmp_path, targets=targets), tmp_path / "cache")
        (found,) = load_regions(tmp_path / "cache", "train")
        np.testing.assert_array_equal(found.labels[..., targets.index("roads")], mask)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of file sizes are of Unix")
def test_a_full_disk_is_told_with_what_is_needed(tmp_path, scene, config):
    """A file that may not grow fails as a full disk does."""
    import resource

    scene("s", shape=(200, 200))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(PrngeoError, match=r"a-s could not be written .* set work=FOLDER") as caught:
            prepare(config(tmp_path), tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not isinstance(caught.value, UsageError)
    assert len(prepare(config(tmp_path), tmp_path / "cache")) == 1


def test_scenes_are_read_in_strips(tmp_path, scene, monkeypatch, config):
    """The same pixels, whatever is held at once."""
    image, mask = scene("s", shape=(57, 91))
    monkeypatch.setattr(cache, "_STRIP", 91 * 10)
    prepare(config(tmp_path), tmp_path / "cache")
    (found,) = load_regions(tmp_path / "cache", "train")
    np.testing.assert_array_equal(np.moveaxis(found.image[..., :3], -1, 0), image)
    np.testing.assert_array_equal(found.labels[..., 1], mask)
