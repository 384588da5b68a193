"""What a source's images are refused, skipped or taken for copies of each other for."""

import json

import numpy as np
import pytest
from affine import Affine
from PIL import Image

from prngeo.errors import UsageError
from prngeo.training.prepare import prepare
from prngeo.training.regions import load_regions

SIZE = 64
GSD = 0.5


def at(x, y=6_000_000.0):
    return Affine(GSD, 0, 500_000.0 + x, 0, -GSD, y)


def split_of(folder):
    return json.loads((folder / "split.json").read_text())["sources"]


def roles(regions):
    return {region.key: region.role for region in regions}


def test_bands_are_read_in_the_order_of_the_model(tmp_path, write, scene, config):
    scene("s")
    image = np.random.default_rng(0).integers(1, 255, (5, 40, 40)).astype("uint8")
    write("images/s.tif", image)
    names = ["red", "green", "blue", "nir"]
    for bands, expected in ((None, [0, 1, 2, 3]), ([3, 2, 1, 5], [2, 1, 0, 4])):
        (region,) = prepare(config(tmp_path, {"bands": bands}, bands=names), tmp_path / "cache")
        (item,) = load_regions(tmp_path / "cache", "train")
        assert item.image.shape == (40, 40, 5)
        np.testing.assert_array_equal(np.moveaxis(item.image[..., :4], -1, 0), image[expected])
        assert region.bands == (None if bands is None else tuple(bands))


def test_a_wrong_number_of_bands_names_file_count_and_key(tmp_path, write, scene, config):
    scene("s")
    with pytest.raises(
        UsageError, match=r"s\.tif has 3 bands of image values, but `bands` of the configuration names 4"
    ):
        prepare(config(tmp_path, bands=["red", "green", "blue", "nir"]), tmp_path / "cache")
    with pytest.raises(UsageError, match=r"s\.tif has 3 bands, but `bands` of source a is \[1, 2, 4\]: .* no band 4"):
        prepare(config(tmp_path, {"bands": [1, 2, 4]}), tmp_path / "cache")
    write("images/s.tif", np.ones((4, 40, 40), "uint8"), photometric="rgb", alpha="yes")
    with pytest.raises(UsageError, match="3 bands of image values and 1 of transparency"):
        prepare(config(tmp_path, bands=["red", "green", "blue", "nir"]), tmp_path / "cache")


def test_towns_have_three_bands(tmp_path, config):
    settings = config(tmp_path, bands=["red", "green", "blue", "nir"], towns={"train": 1, "size": 64})
    with pytest.raises(UsageError, match="Synthetic towns have the bands red, green and blue"):
        prepare(settings.model_copy(update={"sources": []}), tmp_path / "cache")


def test_images_with_and_without_a_system_in_one_source_are_refused(tmp_path, scene, config):
    scene("placed")
    scene("plain", Affine.identity(), None, seed=1)
    with pytest.raises(UsageError, match=r"Source a: .*plain\.tif has no coordinate system, .*placed\.tif has one"):
        prepare(config(tmp_path, {"gsd": 0.5}), tmp_path / "cache")


def test_images_of_which_some_lack_a_system_are_told_so_before_their_gsd(tmp_path, scene, config):
    scene("placed")
    scene("plain", Affine.identity(), None)
    with pytest.raises(UsageError, match=r"plain\.tif has no coordinate system, .*placed\.tif has one"):
        prepare(config(tmp_path), tmp_path / "cache")


def test_an_unknown_gsd_names_its_key(tmp_path, scene, config):
    scene("plain", Affine.identity(), None)
    with pytest.raises(UsageError, match="Source a: the ground sample distance .* Set `gsd` of the source"):
        prepare(config(tmp_path), tmp_path / "cache")


def truncate(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


@pytest.mark.parametrize("share", [0.5, 0.001])
def test_a_corrupt_tile_is_skipped_with_a_warning_and_counted(tmp_path, scene, config, caplog, share):
    for i, name in enumerate(["whole", "broken"]):
        scene(name, at(1000 * i), seed=i, shape=(SIZE, SIZE), compress="deflate")
    truncate(tmp_path / "images" / "broken.tif", share)
    found = prepare(config(tmp_path), tmp_path / "cache")
    assert roles(found) == {"a-whole": "train"}
    (skipped,) = split_of(tmp_path / "cache")["a"]["skipped"]
    assert skipped["scene"].endswith("broken.tif")
    assert "read" in skipped["reason"]
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "skipped" in warning.message
    assert "broken.tif" in warning.message


def test_a_truncated_jpeg_is_skipped_and_a_source_of_nothing_else_is_an_error(tmp_path, config):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    rng = np.random.default_rng(0)
    for name in "ab":
        Image.fromarray(rng.integers(0, 255, (300, 300, 3)).astype("uint8")).save(tmp_path / "images" / f"{name}.jpg")
        Image.fromarray(rng.integers(0, 2, (300, 300)).astype("uint8") * 255).save(tmp_path / "masks" / f"{name}.png")
    source = {"images": "images/*.jpg", "labels": {"roads": "masks/*.png"}, "gsd": 1.0}
    truncate(tmp_path / "images" / "a.jpg")
    assert roles(prepare(config(tmp_path, source), tmp_path / "cache")) == {"a-b": "train"}
    assert len(split_of(tmp_path / "cache")["a"]["skipped"]) == 1
    truncate(tmp_path / "images" / "b.jpg")
    with pytest.raises(UsageError, match=r"Source a: none of its .*images can be read"):
        prepare(config(tmp_path, source), tmp_path / "cache")


COPIES = {
    "the same place": {},
    "another compression": {"compress": "lzw"},
    "no place": {"transform": Affine.identity(), "crs": None},
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_a_test_tile_under_another_name_is_not_trained_on(tmp_path, scene, write, config, how):
    """Also in another source."""
    image, mask = scene("held", at(0), shape=(SIZE, SIZE))
    scene("other", at(5000), seed=1, shape=(SIZE, SIZE))
    options = dict(COPIES[how])
    place, crs = options.pop("transform", at(0)), options.pop("crs", "EPSG:32630")
    write("more/copy.tif", image, place, crs, **options)
    write("masks/copy.tif", mask[None], place, crs)
    sources = {"test": ["held"]}, {"name": "b", "images": "more/*.tif", "gsd": GSD}
    third = {"name": "c", "images": "images/other.tif"}
    found = prepare(config(tmp_path, *sources, third), tmp_path / "cache")
    assert "b-copy" not in roles(found)
    assert roles(found)["a-held"] == "test"
    (left,) = split_of(tmp_path / "cache")["b"]["left_out"]
    assert "a-held (test)" in left["reason"]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_pictures_without_a_place_are_told_by_what_they_show(tmp_path, config, suffix):
    """A copy in another format, saved with losses or without; and the two are in one block where both train."""
    for folder in ("images", "masks", "copies"):
        (tmp_path / folder).mkdir()
    rng = np.random.default_rng(0)
    for name in ("held_1", "else_1"):
        coarse = rng.integers(40, 215, (8, 8, 3)).astype("uint8").repeat(16, 0).repeat(16, 1)
        picture = Image.fromarray(coarse)
        picture.save(tmp_path / "images" / f"{name}.png")
        Image.fromarray(coarse[..., 0] // 128 * 255).save(tmp_path / "masks" / f"{name}.png")
        picture.save(tmp_path / "copies" / f"x{name}{suffix}", quality=80)
        Image.fromarray(coarse[..., 0] // 128 * 255).save(tmp_path / "masks" / f"x{name}.png")
    first = {"images": "images/*.png", "labels": {"roads": "masks/*.png"}, "gsd": 1.0, "test": ["held_1"]}
    second = first | {"name": "b", "images": f"copies/*{suffix}", "test": []}
    found = prepare(config(tmp_path, first, second), tmp_path / "cache")
    assert roles(found) == {"a-held_1": "test", "a-else_1": "train", "b-xelse_1": "train"}
    assert len({region.block for region in found if region.role == "train"}) == 1


@pytest.mark.parametrize("quality", [95, 80, 60])
def test_a_copy_of_a_picture_with_fine_detail_is_known_after_strong_compression(tmp_path, config, quality):
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for name in ("held", "else"):
        pixels = rng.integers(40, 215, (40, 40, 3)).repeat(8, 0).repeat(8, 1) + rng.integers(-40, 40, (320, 320, 3))
        picture = Image.fromarray(pixels.astype("uint8"))
        picture.save(tmp_path / "images" / f"{name}.png")
        if name == "held":
            picture.save(tmp_path / "images" / "copy.jpg", quality=quality)
    for name in ("held", "else", "copy"):
        Image.fromarray(rng.integers(0, 2, (320, 320)).astype("uint8") * 255).save(tmp_path / "masks" / f"{name}.png")
    source = {"images": "images/*.*", "labels": {"roads": "masks/*.png"}, "gsd": 1.0, "test": ["held"]}
    assert roles(prepare(config(tmp_path, source), tmp_path / "cache")) == {"a-held": "test", "a-else": "train"}


@pytest.mark.parametrize("seed", range(3))
def test_copies_are_on_one_side_of_a_split_by_blocks(tmp_path, scene, write, config, seed):
    for i in range(12):
        image, mask = scene(f"s{i}", at(2000 * i), seed=i, shape=(SIZE, SIZE))
        write(f"images/copy{i}.tif", image, at(2000 * i), compress="deflate")
        write(f"masks/copy{i}.tif", mask[None], at(2000 * i))
    found = prepare(config(tmp_path, split={"gap": 50}, seed=seed), tmp_path / "cache")
    by_number = {}
    for region in found:
        by_number.setdefault(region.key.removeprefix("a-").strip("scopy").split("-")[0], set()).add(region.role)
    assert set(by_number) == {str(i) for i in range(12)}
    assert all(len(own) == 1 for own in by_number.values())
    assert {role for own in by_number.values() for role in own} == {"train", "validation", "test"}


def test_parts_of_one_area_are_told_by_their_names_where_nothing_else_tells(tmp_path, scene, config, caplog):
    for area in range(8):
        for part in range(3):
            scene(f"area{area}_{part}", Affine.identity(), None, seed=10 * area + part, shape=(SIZE, SIZE))
    found = prepare(config(tmp_path, {"gsd": GSD}, split={}, tile=64, overlap=16), tmp_path / "cache")
    assert "nothing tells where its images lie to each other" in caplog.text
    assert "(8 areas)" in caplog.text
    roles_of = {}
    for region in found:
        roles_of.setdefault(region.key[: len("a-area0")], set()).add(region.role)
    assert not any("train" in own and len(own) > 1 for own in roles_of.values())
    assert len(found) == 24
    assert split_of(tmp_path / "cache")["a"]["smallest_distance_m"] == {"test": None, "validation": None}
