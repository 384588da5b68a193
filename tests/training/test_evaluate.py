"""Figures of test areas: those of `prngeo evaluate` on what `prngeo predict` writes, whatever the blocks."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import prngeo
from prngeo import EvaluateOptions
from prngeo.inference.options import PredictOptions
from prngeo.models import devices
from prngeo.models.bundle import open_bundle
from prngeo.models.card import TargetCard
from prngeo.refine.pseudo_labels import oracle_counts
from prngeo.tiling.grid import Window
from prngeo.training import count
from prngeo.training.evaluate import area_cards
from prngeo.training.tiles import KEPT, Ranking
from tests.conftest import make_tiny_model
from tests.training.areas import changed, judged, of, region, stripes, values

SHAPE, BLOCK = (230, 290), 128
SHARED = ("iou", "precision", "recall", "f1", "accuracy", "relaxed_f1", "average_precision", "calibration_error")


def predicted(scene, model, folder, **options):
    """Mask and probability of every target, as `prngeo predict` writes them."""
    options = {"device": "cpu"} | options
    found = prngeo.predict(scene.region.scene, folder, PredictOptions(model=model, **options))
    return {target: (kinds["mask"], kinds["probability"]) for target, kinds in found.rasters.items()}


def evaluated(pair, truth, baseline=None):
    """Figures of a mask, with those of its probabilities, by `prngeo evaluate`."""
    mask, probability = pair
    named = {} if baseline is None else {"baseline": str(baseline[0]), "baseline_scores": str(baseline[1])}
    # Any name but roads, whose network is not of interest here.
    return prngeo.evaluate(
        mask, truth, options=EvaluateOptions(scores=str(probability), target="things", block=BLOCK, **named)
    )


def assert_same(mine, theirs, names=SHARED):
    for name in names:
        for part in ("value", "low", "high"):
            assert getattr(mine[name], part) == pytest.approx(getattr(theirs[name], part), abs=1e-9), (name, part)


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """The tiny model in float32, which is what areas are judged in here."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "exact")


@pytest.fixture(autouse=True, scope="module")
def _alike():
    """Small blocks; and predictions compute as `judged` does, also on a CPU with bfloat16."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(count, "BLOCK", BLOCK)
        patch.setattr(devices, "_cpu_has_bfloat16", lambda: False)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A scene with a hole and an unlabelled part, in six blocks of which one has no truth and two are slivers."""
    folder = tmp_path_factory.mktemp("place")
    labels = stripes(SHAPE)
    labels[128:, 256:] = 0
    labels[100:160, 60:150] = 255
    return region(folder, labels=labels, shape=SHAPE, holes=[(slice(20, 70), slice(120, 150))]), folder


@pytest.fixture(scope="module")
def tested(exact, place, _alike):
    return judged(exact, [place[0]])


@pytest.fixture(scope="module")
def written(exact, place, tmp_path_factory, _alike):
    """What predictions of the scene with PRN, without, and at 0.5 write."""
    options = {"prn": {}, "tuned": {"refine": False}, "half": {"refine": False, "threshold": 0.5}}
    return {name: predicted(place[0], exact, tmp_path_factory.mktemp(name), **own) for name, own in options.items()}


@pytest.mark.parametrize("target", ["roads", "buildings"])
def test_figures_are_those_of_evaluate_on_what_predict_writes(tested, place, written, target):
    found, truth = of(tested, target), place[1] / f"scene_{target}.tif"
    assert found.used == ("prn" if target == "roads" else "tuned")
    whole = evaluated(written["prn"][target], truth, written["tuned"][target])
    assert_same(found.predictions[found.used].metrics, whole.prediction.metrics)
    assert found.predictions[found.used].pixels == whole.prediction.pixels
    assert_same(found.predictions["tuned"].metrics, whole.predictions[1].metrics)
    base = evaluated(written["half"][target], truth).prediction.metrics
    assert_same(found.predictions["base"].metrics, base, SHARED[:6])
    assert (found.known_pixels, found.blocks) == (whole.known_pixels, whole.blocks)
    if target == "roads":
        assert_same(found.gain.differences, whole.comparison.differences)
        assert (found.gain.better, found.gain.worse) == (whole.comparison.better, whole.comparison.worse)
        curves = found.predictions["prn"].curves
        assert curves.iou == pytest.approx(whole.prediction.curves.iou, nan_ok=True)
        assert curves.bin_share == pytest.approx(whole.prediction.curves.bin_share, nan_ok=True)


def test_with_the_gate_off_it_is_told_what_prn_would_have_given(tested, place, exact, tmp_path):
    scene, folder = place
    targets = open_bundle(exact).card.targets
    card = targets["buildings"]
    gate = card.gate.model_copy(update={"enabled": True})
    opened = changed(exact, tmp_path / "on", targets=targets | {"buildings": card.model_copy(update={"gate": gate})})
    written = predicted(scene, opened, tmp_path / "out")
    found = of(tested, "buildings")
    assert found.used == "tuned"
    expected = evaluated(written["buildings"], folder / "scene_buildings.tif").prediction
    assert_same(found.predictions["prn"].metrics, expected.metrics)


def test_blocks_change_no_total(tested, place, exact, monkeypatch):
    monkeypatch.setattr(count, "BLOCK", 512)
    whole = judged(exact, [place[0]])
    for target in ("roads", "buildings"):
        one, other = of(tested, target), of(whole, target)
        assert (one.blocks, other.blocks) == (6, 1)
        assert other.known_pixels == one.known_pixels
        for name, prediction in one.predictions.items():
            for metric in SHARED[:6]:
                assert other.predictions[name].metrics[metric].value == pytest.approx(prediction.metrics[metric].value)


def test_an_area_is_judged_on_its_own_pixels_of_the_scene(exact, tmp_path):
    window = Window(30, 40, 133, 201)
    area = region(tmp_path, shape=SHAPE, window=window)
    found = of(judged(exact, [area]), "roads")
    mask = predicted(area, exact, tmp_path / "out")["roads"][0]
    mine = values(mask)[30:163, 40:241] == 1
    true = stripes(SHAPE)[30:163, 40:241, 0] == 1
    assert found.known_pixels == true.size
    assert found.predictions["prn"].metrics["iou"].value == pytest.approx((mine & true).sum() / (mine | true).sum())


def test_scenes_of_other_systems_and_pixel_sizes_are_judged_each_by_its_source(exact, tmp_path):
    coarse = region(tmp_path, "coarse", source="b", shape=(100, 120), gsd=2.0, crs="EPSG:32633")
    plain = region(tmp_path, "plain", source="c", shape=(128, 128), crs=None)
    fine = region(tmp_path, "fine", shape=(128, 128))
    sources = [{"name": "c", "images": "x", "labels": {"roads": "x"}, "gsd": 1.0}]
    found = judged(exact, [coarse, fine, plain], sources=sources)
    assert [(one.source, one.target) for one in found.results] == [
        (source, target) for source in "bac" for target in ("roads", "buildings")
    ]
    mask = predicted(coarse, exact, tmp_path / "coarse", refine=False)["roads"]
    expected = evaluated(mask, tmp_path / "coarse_roads.tif").prediction
    assert_same(of(found, "roads", "b").predictions["tuned"].metrics, expected.metrics)
    mask = predicted(plain, exact, tmp_path / "plain", gsd=1.0)["roads"][0]
    mine, true = values(mask) == 1, stripes((128, 128))[..., 0] == 1
    assert of(found, "roads", "c").predictions["prn"].pixels["tp"] == (mine & true).sum()


def test_bands_are_read_in_the_order_of_the_source(exact, tmp_path):
    area = region(tmp_path, shape=(128, 128))
    source = {"name": "a", "images": "x", "labels": {"roads": "x"}, "bands": [3, 2, 1]}
    found = of(judged(exact, [area], sources=[source]), "roads")
    mask = predicted(area, exact, tmp_path / "out", bands=(3, 2, 1))["roads"]
    assert found.predictions["prn"].pixels == evaluated(mask, tmp_path / "scene_roads.tif").prediction.pixels
    assert found.predictions["prn"].pixels != of(judged(exact, [area]), "roads").predictions["prn"].pixels


def test_without_a_true_pixel_figures_are_undefined_and_false_alarms_counted(exact, tmp_path):
    labels = stripes((128, 128))
    labels[..., 0] = 0
    tested = judged(exact, [region(tmp_path, labels=labels, shape=(128, 128))])
    roads = of(tested, "roads")
    assert roads.predictions["prn"].metrics["iou"].value is None
    assert roads.predictions["prn"].pixels["fp"] > 0
    assert roads.ceiling is None
    assert [card.target for card in area_cards(tested.results)] == ["buildings"]
    assert not tested.tiles["roads"].best


def test_a_target_that_no_label_tells_of_is_not_judged(exact, tmp_path):
    labels = stripes((128, 128))
    labels[..., 1] = 255
    tested = judged(exact, [region(tmp_path, labels=labels, shape=(128, 128))])
    assert [one.target for one in tested.results] == ["roads"]


def test_a_single_block_has_no_interval(exact, tmp_path):
    (roads, _) = area_cards(judged(exact, [region(tmp_path, shape=(128, 128))]).results)
    assert roads.blocks == 1
    assert roads.base_interval is roads.refined_interval is roads.gain_interval is None
    assert 0 <= roads.base_relaxed_f1 <= 1


def test_without_a_refiner_the_base_network_is_judged_alone(exact, tmp_path):
    targets = {name: TargetCard() for name in ("roads", "buildings")}
    alone = changed(exact, tmp_path / "alone", drop="refiner.", refiner=None, targets=targets)
    found = of(judged(alone, [region(tmp_path, shape=(128, 128))]), "roads")
    assert list(found.predictions) == ["base", "tuned"]
    assert found.gain is None
    assert found.used == "tuned"


def test_without_validation_prn_is_judged_at_a_half_and_not_used(exact, tmp_path):
    targets = {name: TargetCard() for name in ("roads", "buildings")}
    blind = changed(exact, tmp_path / "blind", targets=targets)
    found = of(judged(blind, [region(tmp_path, shape=(128, 128))]), "roads")
    assert found.used == "tuned"
    assert {one.threshold for one in found.predictions.values()} == {0.5}
    assert found.predictions["prn"].pixels != found.predictions["tuned"].pixels


def test_the_ceiling_is_that_of_all_thresholds_of_patches(place, tested, written):
    levels = values(written["tuned"]["roads"][1])
    labels = np.where(levels == 255, 255, place[0].labels[..., 0]).astype(np.uint8)
    hits, union = oracle_counts(levels.astype(np.float32), labels, count.PATCH)
    found = of(tested, "roads").ceiling
    assert found.joint == pytest.approx(hits / union)
    assert found.single <= found.joint
    assert found.single >= of(tested, "roads").predictions["tuned"].metrics["iou"].value


def test_tiles_show_what_was_judged(tested, place):
    scene, _ = place
    best, worst = tested.tiles["roads"].shown
    tiles = [*best, *worst]
    assert len({tile.window for tile in tiles}) == len(tiles) == tested.tiles["roads"].ranked == 4
    for tile in tiles:
        here = tile.window.within(Window(0, 0, *SHAPE))
        np.testing.assert_array_equal(tile.image, scene.image[here][..., :3])
        np.testing.assert_array_equal(tile.truth, scene.labels[here][..., 0])
        assert tile.truth.shape == tile.correction.shape == tile.masks["prn"].shape
        mask, known, true = tile.masks["prn"], tile.truth <= 1, tile.truth == 1
        assert tile.iou["prn"] == pytest.approx((mask & true).sum() / ((mask & known) | true).sum())
    assert best[0].iou["prn"] >= worst[0].iou["prn"]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scores=st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), max_size=12))
def test_the_best_and_the_worst_tiles_are_kept_and_none_is_both(scores):
    ranking = Ranking()
    for number, score in enumerate(scores):
        ranking.offer(score, lambda number=number: number)
    best, worst = ranking.shown
    assert len(best) == min(KEPT, (len(scores) + 1) // 2)
    assert len(worst) == min(KEPT, len(scores) // 2)
    assert not set(best) & set(worst)
    assert sorted((scores[tile] for tile in best), reverse=True) == sorted(scores, reverse=True)[: len(best)]
    assert [scores[tile] for tile in worst] == sorted(scores)[: len(worst)]
