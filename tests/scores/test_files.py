"""From files to a bundle and from a bundle to files."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from prngeo.errors import PrngeoError, UsageError
from prngeo.models.bundle import CARD, WEIGHTS, open_bundle, open_prn
from prngeo.models.card import PrnCard, TargetCard
from prngeo.refine import (
    ApplyOptions,
    FitRequest,
    Settings,
    apply_arrays,
    apply_file,
    fit_files,
    load_refiner,
)
from prngeo.scores import apply_files, learn
from tests.scores.conftest import best_iou, iou, make_prn, planted, sigmoid


def probability(seed=0, side=64, bias=1.2):
    return sigmoid(planted(seed, side, bias)[0]).astype("float32")


def stored(path):
    with rasterio.open(path) as file:
        return file.read(1)


@pytest.fixture
def scene(write):
    """Scores of 300 x 220 pixels with a hole."""
    values = np.random.default_rng(0).random((300, 220)).astype("float32")
    values[40:60, 100:130] = np.nan
    return write(values, "scores/town.tif")


def test_outputs_are_those_of_predict_on_the_pixels_of_the_scores(scene, tmp_path):
    result = apply_file(scene, make_prn(tmp_path / "my.prn"), tmp_path / "out")
    names = [
        f"town_roads_{kind}.{suffix}" for kind in ("correction", "mask", "probability") for suffix in ("qml", "tif")
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    hole = np.zeros((300, 220), bool)
    hole[40:60, 100:130] = True
    for kind, nodata in (("probability", 255), ("mask", 255), ("correction", -32768)):
        path = result.rasters["roads"][kind]
        with rasterio.open(path) as file, rasterio.open(scene) as scores:
            assert (file.shape, file.transform, file.crs) == (scores.shape, scores.transform, scores.crs)
            assert file.nodata == nodata
            assert file.tags()["PRNGEO_THRESHOLD"] == "0.6"
            assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            np.testing.assert_array_equal(file.read(1) == nodata, hole)
    summary = result.classes["roads"]
    assert summary.valid_pixels == 300 * 220 - 600
    assert summary.mask_pixels == (stored(result.rasters["roads"]["mask"]) == 1).sum()


def test_files_give_what_arrays_give_however_the_scene_is_cut(scene, tmp_path, monkeypatch):
    prn = make_prn(tmp_path / "my.prn")
    whole = apply_file(scene, prn, tmp_path / "whole")
    parts = apply_files.blocks
    monkeypatch.setattr(apply_files, "blocks", lambda window: parts(window, 96))
    cut = apply_file(scene, prn, tmp_path / "cut")
    for kind, path in whole.rasters["roads"].items():
        np.testing.assert_array_equal(stored(path), stored(cut.rasters["roads"][kind]))
    refined = apply_arrays(load_refiner(prn), stored(scene))
    valid = np.isfinite(stored(scene))
    np.testing.assert_array_equal(
        np.rint(refined.correction[0][valid] / 0.01), stored(whole.rasters["roads"]["correction"])[valid]
    )
    np.testing.assert_allclose(
        refined.probability[0][valid], stored(whole.rasters["roads"]["probability"])[valid] * 0.004, atol=0.0021
    )


def test_a_disabled_refiner_writes_the_scores_cut_at_the_tuned_threshold(scene, tmp_path):
    result = apply_file(scene, make_prn(tmp_path / "my.prn", enabled=False), tmp_path / "out")
    valid = np.isfinite(stored(scene))
    assert not stored(result.rasters["roads"]["correction"])[valid].any()
    np.testing.assert_allclose(
        stored(result.rasters["roads"]["probability"])[valid] * 0.004, stored(scene)[valid], atol=0.0025
    )
    np.testing.assert_array_equal(
        stored(result.rasters["roads"]["mask"])[valid], stored(result.rasters["roads"]["probability"])[valid] >= 100
    )
    assert "The gate has disabled the refiner for roads" in result.warnings[0]


def test_the_class_map_holds_the_most_probable_class_that_reaches_its_threshold(write, tmp_path):
    values = np.random.default_rng(0).random((3, 64, 64)).astype("float32")
    values[:, :4] = np.nan
    scene = write(values, "a.tif")
    prn = make_prn(tmp_path / "my.prn", classes=3, class_values={"roads": 5, "buildings": 1, "water": 9})
    result = apply_file(scene, prn, tmp_path / "out")
    probabilities = np.stack([stored(result.rasters[name]["probability"]) for name in ("roads", "buildings", "water")])
    masks = np.stack([stored(result.rasters[name]["mask"]) == 1 for name in ("roads", "buildings", "water")])
    expected = np.zeros((64, 64), np.uint8)
    for row, col in np.ndindex(64, 64):
        reached = [index for index in range(3) if masks[index, row, col]]
        if reached:
            best = max(reached, key=lambda index: (probabilities[index, row, col], -index))
            expected[row, col] = (5, 1, 9)[best]
    expected[:4] = 255
    drawn = stored(result.class_map)
    np.testing.assert_array_equal(drawn, expected)
    assert len(np.unique(drawn)) == 5
    assert "buildings" in result.class_map.with_suffix(".qml").read_text()


def test_a_refiner_that_reads_the_image_needs_it(write, scene, tmp_path):
    prn = make_prn(tmp_path / "my.prn", image_bands=3)
    with pytest.raises(UsageError, match="reads the image beside the scores; give it with --image"):
        apply_file(scene, prn, tmp_path / "out")
    rng = np.random.default_rng(0)
    images = [write(rng.integers(0, 255, (3, 300, 220), np.uint8), f"image{index}.tif") for index in range(2)]
    one, other = (
        stored(apply_file(scene, prn, tmp_path / f"out{index}", ApplyOptions(images=(image,))).rasters["roads"]["mask"])
        for index, image in enumerate(images)
    )
    assert (one != other).any()
    with pytest.raises(UsageError, match="reads no image; leave --image"):
        apply_file(scene, make_prn(tmp_path / "plain.prn"), tmp_path / "out", ApplyOptions(images=(images[0],)))


def test_other_pixel_sizes_are_told_and_much_other_ones_refused(write, tmp_path):
    prn = make_prn(tmp_path / "my.prn", gsd=(0.5, 0.5))
    near = write(probability(), "near.tif", gsd=0.8)
    far = write(probability(), "far.tif", gsd=1.2)
    assert "has pixels of 0.8 m, the refiner was fitted on 0.5 m: expect less" in apply_file(near, prn).warnings[0]
    with pytest.raises(UsageError, match="Resample the scores, for example with `gdalwarp -tr 0.5 0.5"):
        apply_file(far, prn)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda write: write(np.stack([probability()] * 2), "a.tif"), "has 2 bands, the refiner my takes 1: roads"),
        (lambda write: write(planted(0)[0], "a.tif"), "was read as a probability in 0..1, but holds"),
        (lambda write: write(np.full((64, 64), np.nan, "float32"), "a.tif"), "holds no valid pixel"),
        (
            lambda write: write(np.full((64, 64), 255, "uint8"), "a.tif", scale=0.004, nodata=255),
            "holds no valid pixel",
        ),
        (lambda write: "nosuch.tif", "No such file"),
    ],
)
def test_scores_that_do_not_suit_leave_nothing_behind(write, tmp_path, make, message):
    path = make(write)
    with pytest.raises(UsageError, match=message):
        apply_file(path, make_prn(tmp_path / "my.prn"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_outputs_are_not_replaced_unasked_and_inputs_never(write, scene, tmp_path):
    prn = make_prn(tmp_path / "my.prn")
    apply_file(scene, prn, tmp_path / "out")
    with pytest.raises(UsageError, match="--overwrite"):
        apply_file(scene, prn, tmp_path / "out")
    apply_file(scene, prn, tmp_path / "out", ApplyOptions(overwrite=True))
    mask = tmp_path / "out" / "town_roads_mask.tif"
    mask.unlink()
    mask.symlink_to(scene)
    with pytest.raises(UsageError, match="would replace the input"):
        apply_file(scene, prn, tmp_path / "out", ApplyOptions(overwrite=True))


def test_a_damaged_refiner_and_other_bundles_are_named(scene, tmp_path, tiny_model):
    prn = make_prn(tmp_path / "my.prn")
    with pytest.raises(UsageError, match="is a refiner for the scores of another segmenter.*prngeo refine apply"):
        open_bundle(prn)
    with pytest.raises(UsageError, match="is a model with a base network.*prngeo predict"):
        apply_file(scene, tiny_model)
    (prn / WEIGHTS).write_bytes((prn / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(UsageError, match="SHA-256 differs"):
        apply_file(scene, prn, tmp_path / "out")
    (prn / CARD).write_text((prn / CARD).read_text().replace('"window": 64', '"window": 65'))
    with pytest.raises(PrngeoError, match=r"is not a model card: refiner"):
        open_prn(prn)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_planted_bias_of_plain_pictures_is_removed_on_held_out_ones(write, tmp_path):
    for seed in range(10):
        scores, truth = planted(seed)
        folder = "new" if seed < 2 else "scores"
        write(np.rint(sigmoid(scores) * 255).astype("uint8"), f"{folder}/{seed}_score.png", crs=None)
        write(truth * np.uint8(255), f"masks/{seed}_mask.png", crs=None)
    request = FitRequest(settings=Settings(steps=100, reduction=4, validation=("2_*", "3_*")))
    fitted = fit_files(
        [f"{tmp_path}/scores/*_score.png"], [f"{tmp_path}/masks/*_mask.png"], tmp_path / "my.prn", request
    )
    assert fitted.bundle.card.targets["objects"].gate.enabled
    assert fitted.bundle.card.gsd is None
    for seed in (0, 1):
        result = apply_file(f"{tmp_path}/new/{seed}_score.png", tmp_path / "my.prn", tmp_path / "out")
        refined = iou(stored(result.rasters["objects"]["mask"]) == 1, planted(seed)[1])
        biased, unbiased = best_iou(*planted(seed)), best_iou(*planted(seed, bias=0))
        assert (refined - biased) / (unbiased - biased) > 0.4


def test_a_fit_on_a_layer_writes_a_bundle_that_applies(write, tmp_path, quick):
    import geopandas
    import shapely

    scores = write(probability(side=128), "roads_prob.tif")
    truth = planted(0, 128)[1]
    rows, cols = np.nonzero(truth)
    squares = shapely.box(
        500_000 + cols * 0.5, 5_000_000 - rows * 0.5 - 0.5, 500_000.5 + cols * 0.5, 5_000_000 - rows * 0.5
    )
    geopandas.GeoDataFrame(geometry=squares, crs="EPSG:32631").to_crs(4326).to_file(tmp_path / "labels.gpkg")
    result = fit_files([scores], [str(tmp_path / "labels.gpkg")], tmp_path / "my.prn", FitRequest(settings=quick))
    card = result.bundle.card
    assert list(card.targets) == ["roads"]
    assert card.gsd == pytest.approx((0.5, 0.5), rel=0.01)
    assert card.scenes == 1
    assert "blocks" in card.validation
    assert sorted(path.name for path in (tmp_path / "my.prn").iterdir()) == [CARD, WEIGHTS]
    apply_file(scores, tmp_path / "my.prn", tmp_path / "out")
    with pytest.raises(UsageError, match="already exist"):
        fit_files([scores], [str(tmp_path / "labels.gpkg")], tmp_path / "my.prn", FitRequest(settings=quick))


def test_a_fit_of_several_classes_with_an_image(write, tmp_path):
    values = np.stack([probability(0, 96), probability(1, 96)])
    scores, image = write(values, "a.tif"), write(np.zeros((3, 96, 96), np.uint8), "image.tif")
    labels = write(planted(0, 96)[1] + 2 * planted(1, 96)[1] * (1 - planted(0, 96)[1]), "map.tif")
    request = FitRequest(images=(image,), classes="roads=1,water=2", settings=Settings(steps=1, window=64, reduction=4))
    card = fit_files([scores], [labels], tmp_path / "my.prn", request).bundle.card
    assert card.class_values == {"roads": 1, "water": 2}
    assert card.image_bands == 3
    assert card.refiner.use_image


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": "mask"}, "--values is one of auto, unit"),
        ({"classes": "a,b"}, "names 2, but the scores have one band"),
    ],
)
def test_a_fit_that_does_not_suit_leaves_nothing_behind(write, tmp_path, changes, message):
    scores, labels = write(probability(), "a.tif"), write(planted(0)[1], "b.tif")
    with pytest.raises(UsageError, match=message):
        fit_files([scores], [labels], tmp_path / "my.prn", FitRequest(**changes))
    assert not (tmp_path / "my.prn").exists()


def test_a_mask_saved_as_a_picture_of_three_equal_bands_is_a_mask(write, tmp_path, quick):
    scores, mask = write(probability(0, 128), "a.tif", crs=None), planted(0, 128)[1] * 255
    cards = []
    for name, bands in (("gray", mask), ("rgb", np.stack([mask] * 3))):
        labels = write(bands.astype("uint8"), f"{name}.png", crs=None)
        cards.append(fit_files([scores], [labels], tmp_path / f"{name}.prn", FitRequest(settings=quick)).bundle.card)
    assert cards[0].targets == cards[1].targets
    gray = np.stack([np.arange(128, dtype="uint8")[None].repeat(128, 0)] * 3)
    for name, bands in (("colored", np.stack([mask, mask, 255 - mask]).astype("uint8")), ("photo", gray)):
        with pytest.raises(UsageError, match=f"{name}.png holds 3 bands"):
            fit_files(
                [scores], [write(bands, f"{name}.png", crs=None)], tmp_path / "no.prn", FitRequest(settings=quick)
            )


@pytest.mark.slow
def test_scores_of_another_scale_than_the_fits_are_refused_unless_told(write, tmp_path):
    model = make_prn(tmp_path / "my.prn", values="byte")
    scores = write(probability(), "a.tif")
    with pytest.raises(UsageError, match=r"fitted on probabilities in 0..255. .* --values unit if they are"):
        apply_file(scores, model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (summary,) = apply_file(scores, model, tmp_path / "out", ApplyOptions(values="unit")).classes.values()
    assert summary.mask_pixels
    apply_file(write(np.rint(probability() * 255).astype("uint8"), "b.tif"), model, tmp_path / "out")
    sparse = (probability(0, 2048) / 2).astype("float32")  # one pixel that samples do not meet tells the scale
    sparse[500, 200] = 90
    apply_file(write(sparse, "c.tif"), model, tmp_path / "out")


def test_labels_that_are_all_ignored_are_refused(write, tmp_path):
    scores = write(probability(), "a.tif")
    labels = write(np.full((64, 64), 9, np.uint8), "b.tif", nodata=9)
    with pytest.raises(UsageError, match=r"b.tif holds no valid pixel"):
        fit_files([scores], [labels], tmp_path / "my.prn")
    holes = probability()
    holes[:, :32] = np.nan
    half = planted(0)[1].copy()
    half[:, 32:] = 9
    with pytest.raises(UsageError, match="No pixel has both a score and a label"):
        fit_files([write(holes, "c.tif")], [write(half, "d.tif", nodata=9)], tmp_path / "my.prn")


def test_a_model_or_a_file_is_not_overwritten_by_a_refiner(write, tmp_path, tiny_model):
    import shutil

    scores, labels = write(probability(), "a.tif"), write(planted(0)[1], "b.tif")
    shutil.copytree(tiny_model, tmp_path / "model")
    with pytest.raises(UsageError, match="holds a model, which is not overwritten"):
        fit_files([scores], [labels], tmp_path / "model", FitRequest(overwrite=True))
    with pytest.raises(UsageError, match="is a file; give a folder"):
        fit_files([scores], [labels], Path(scores))


def test_the_order_of_files_does_not_matter(write, tmp_path, quick):
    for seed, name in enumerate("ab"):
        place = {"origin": (500_000 + 500 * seed, 5_000_000)}
        write(probability(seed, 128), f"s/{name}.tif", **place)
        write(planted(seed, 128)[1], f"m/{name}.tif", **place)
    scores, masks = ([str(tmp_path / folder / f"{name}.tif") for name in "ab"] for folder in "sm")
    request = FitRequest(settings=quick)
    one = fit_files(scores, masks, tmp_path / "one.prn", request)
    other = fit_files(scores[::-1], masks[::-1], tmp_path / "other.prn", request)
    assert one.bundle.card.weights_sha256 == other.bundle.card.weights_sha256
    assert one.bundle.card.targets == other.bundle.card.targets


def test_pieces_that_are_left_out_are_told(write, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(learn, "PIECE", 64)
    monkeypatch.setattr(learn, "MOST_PIECES", 3)
    scores, labels = write(probability(0, 256), "a.tif"), write(planted(0, 256)[1], "b.tif")
    result = fit_files([scores], [labels], tmp_path / "my.prn", FitRequest(settings=quick))
    card = result.bundle.card
    assert card.pieces == 3
    assert 0 < card.left <= 13
    assert card.pixels <= 3 * 64 * 64
    assert any(f"Learned from 3 pieces of the scenes, drawn by --seed; {card.left} more" in t for t in result.warnings)


def test_pixels_of_the_card_are_those_learned_from(write, tmp_path, quick):
    scores, labels = write(probability(0, 128), "a.tif"), write(planted(0, 128)[1], "b.tif")
    card = fit_files([scores], [labels], tmp_path / "my.prn", FitRequest(settings=quick)).bundle.card
    held = card.targets["objects"].gate.pixels
    assert card.left == 0
    assert 0 < card.pixels < 128 * 128 - held  # and the gap


def test_the_refiner_corrects_every_pixel(write, tmp_path, quick):
    scores, labels = write(probability(0, 128), "a.tif"), write(planted(0, 128)[1], "b.tif")
    bundle = fit_files([scores], [labels], tmp_path / "my.prn", FitRequest(settings=quick)).bundle
    assert bundle.card.refiner.detail
    assert "refiner.detail.weight" in bundle.tensors()


def test_a_mask_in_place_of_scores_is_told(write, tmp_path):
    mask = write(planted(0)[1], "a.tif")
    result = apply_file(mask, make_prn(tmp_path / "my.prn"), tmp_path / "out")
    assert any("holds nothing between 0 and 1" in text for text in result.warnings)


def test_a_refiner_in_the_folder_at_hand_has_its_name(write, tmp_path, quick, monkeypatch):
    scores, labels = write(probability(0, 128), "a.tif"), write(planted(0, 128)[1], "b.tif")
    (tmp_path / "mine.prn").mkdir()
    monkeypatch.chdir(tmp_path / "mine.prn")
    assert fit_files([scores], [labels], ".", FitRequest(settings=quick)).bundle.card.name == "mine"


@pytest.mark.parametrize("changes", [{"gsd": (2.0, 1.0)}, {"targets": {"../up": TargetCard()}}])
def test_a_card_that_contradicts_itself_is_refused(tmp_path, changes):
    card = open_prn(make_prn(tmp_path / "my.prn")).card
    with pytest.raises(ValueError, match=r"gsd must be|can be a part of a file's name"):
        PrnCard.model_validate(card.model_dump() | changes)


def test_what_is_held_out_is_never_learned_from(write, tmp_path):
    settings = Settings(steps=3, window=64, reduction=4, validation=("b",))
    weights = []
    for seed in (1, 2):
        for name, number in (("a", 0), ("b", seed)):
            place = {"origin": (500_000 + 500 * (name == "b"), 5_000_000)}
            write(probability(number, 128), f"{seed}/s/{name}.tif", **place)
            write(planted(number, 128)[1], f"{seed}/m/{name}.tif", **place)
        files = [str(tmp_path / str(seed) / folder / "*.tif") for folder in "sm"]
        card = fit_files(files[:1], files[1:], tmp_path / f"{seed}.prn", FitRequest(settings=settings)).bundle.card
        weights.append(card.weights_sha256)
    assert weights[0] == weights[1]


def test_the_mask_is_where_the_stored_probability_reaches_the_threshold(scene, tmp_path):
    result = apply_file(scene, make_prn(tmp_path / "my.prn", classes=1), tmp_path / "out")
    probability, mask = (stored(result.rasters["roads"][kind]) for kind in ("probability", "mask"))
    valid = mask != 255
    np.testing.assert_array_equal(mask[valid] == 1, probability[valid] * 0.004 >= result.classes["roads"].threshold)
    assert len(np.unique(mask[valid])) == 2


def test_what_is_assumed_of_labels_is_told(write, tmp_path, quick):
    scores, labels = write(probability(0, 128), "a.tif"), write(planted(0, 128)[1], "b.tif", nodata=0)
    result = fit_files([scores], [labels], tmp_path / "my.prn", FitRequest(settings=quick))
    assert any("calls 0 nodata; it was taken for background" in text for text in result.warnings)
    labels = write((probability(0, 128) * 255).astype("uint8"), "c.tif")
    result = fit_files([scores], [labels], tmp_path / "other.prn", FitRequest(settings=quick))
    assert any("c.tif was read as a probability in 0..255" in text for text in result.warnings)
