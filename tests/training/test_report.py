"""The report of a training: what it says, what it leaves undefined, and how a browser takes it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rasterio.crs import CRS

from prngeo.models.bundle import open_bundle
from prngeo.models.card import TargetCard
from prngeo.tiling.grid import Window
from prngeo.training import count, run
from prngeo.training.curves import read_log
from prngeo.training.evaluate import Findings
from prngeo.training.report import write_report
from prngeo.training.split_map import panels
from tests.browser import assert_whole, in_browser, open_page
from tests.conftest import make_tiny_model
from tests.training.areas import changed, judged, of, region, settings, stripes

PAGES = ("full", "undefined", "untested")
LICENSE = "CC-BY <4.0> & more"


def configured(folder, **values):
    labels = {"roads": "x", "buildings": "x"}
    sources = [{"name": name, "images": "x", "labels": labels, "license": LICENSE} for name in "ab"]
    return settings(work=str(folder), sources=sources, **values)


def reported(folder, model, tested, regions, split=None, logs=()):
    """The page and the figures of a run's folder."""
    (folder / "cache").mkdir(parents=True, exist_ok=True)
    if split is not None:
        (folder / "cache/split.json").write_text(json.dumps({"sources": split}))
    for name, text in logs:
        (folder / "logs").mkdir(exist_ok=True)
        (folder / "logs" / name).write_text(text)
    facts = {"runtime": "torch", "version": "x", "device": "cpu"}
    page = write_report(
        configured(folder), folder, open_bundle(model), [one.region for one in regions], tested, facts, {"base": 12.3}
    )
    metrics = json.loads((folder / "metrics.json").read_text(), parse_constant=pytest.fail)
    return page.read_text(encoding="utf-8"), metrics


def train_and_held(areas):
    """The regions of a split: tests, a training scene beside with a gap, and a validation scene."""
    first = areas[0]
    train, held = (
        replace(first.region, key=role, role=role, scene=f"{role}.tif", bounds=(left, 4_999_936, left + 64, 5_000_000))
        for role, left in (("train", 500_200), ("validation", 500_400))
    )
    train = replace(train, forbidden=(Window(0, 0, 128, 30),))
    return [*areas, replace(first, region=train), replace(first, region=held)]


SPLIT = {
    "a": {
        "gap_m": 20.0,
        "smallest_distance_m": {"test": 123.4, "validation": None},
        "left_out": [{"scene": "/data/near<1>.tif", "reason": "lies 3 m from x"}],
        "skipped": [{"scene": f"broken{number}.tif", "reason": "cannot be read"} for number in range(40)],
    }
}
LOGS = (
    (
        "metrics.csv",
        "step,loss,learning_rate,validation_iou,validation_iou_roads\n"
        + "".join(f"{step},{1 / step},0.01,,\n" for step in range(1, 41))
        + "40,,,0.5,0.4\n",
    ),
    ("refiner.csv", "step,loss\n1,0.9\n2,0.8\n"),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """PRN is on for roads and off for buildings."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module", autouse=True)
def _small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(count, "BLOCK", 64)
        yield


@pytest.fixture(scope="module")
def areas(tmp_path_factory):
    """Test areas of two sources in two systems, and one without."""
    folder = tmp_path_factory.mktemp("areas")
    return [
        region(folder, "north", shape=(128, 128)),
        region(folder, "south", shape=(128, 128), source="b", crs="EPSG:32733"),
    ]


@pytest.fixture(scope="module")
def tested(model, areas, _small_blocks):
    return judged(model, areas)


@pytest.fixture(scope="module")
def full(model, areas, tested, tmp_path_factory):
    folder = tmp_path_factory.mktemp("full")
    return folder, *reported(folder, model, tested, train_and_held(areas), SPLIT, LOGS)


@pytest.fixture(scope="module")
def undefined(tmp_path_factory, model, _small_blocks):
    """No road in the truth, a scene without coordinate system, no validation, no log, no record of the split."""
    folder = tmp_path_factory.mktemp("undefined")
    labels = stripes((64, 64))
    labels[..., 0] = 0
    labels[..., 1] = 255
    blind = changed(model, folder / "model", targets={name: TargetCard() for name in ("roads", "buildings")})
    areas = [region(folder, labels=labels, shape=(64, 64), crs=None)]
    tested = judged(blind, areas, sources=[{"name": "a", "images": "x", "labels": {"roads": "x"}, "gsd": 1.0}])
    return folder, *reported(folder, blind, tested, areas)


@pytest.fixture(scope="module")
def untested(tmp_path_factory, model):
    """No test area at all."""
    folder = tmp_path_factory.mktemp("untested")
    return folder, *reported(folder, model, Findings([], {}, 0.0), [], {})


@in_browser
@pytest.mark.parametrize("name", PAGES)
@pytest.mark.slow
def test_a_browser_opens_it_without_message_or_request(browser, request, name):
    folder, _, _ = request.getfixturevalue(name)
    images = open_page(browser, folder / "report.html")
    assert len(images) >= {"full": 4 * 2 + 5 * 4 + 3, "undefined": 3, "untested": 0}[name]
    assert all(min(width, height) > 20 for width, height, _ in images)


@in_browser
def test_it_prints(browser, full):
    browser.get((full[0] / "report.html").as_uri())
    assert len(browser.print_page()) > 50_000


@pytest.mark.parametrize("name", PAGES)
def test_it_is_whole_and_self_contained(request, name):
    assert_whole(request.getfixturevalue(name)[0] / "report.html")


def test_the_figures_are_those_of_the_test_areas(full, tested):
    _, page, metrics = full
    assert len(metrics["tests"]) == 4
    for found in metrics["tests"]:
        one = of(tested, found["target"], found["source"])
        for name, prediction in one.predictions.items():
            told = found["predictions"][name]
            assert told["pixels"] == prediction.pixels
            assert told["threshold"] == prediction.threshold
            for metric, figure in prediction.metrics.items():
                assert told["metrics"][metric] == {"value": figure.value, "low": figure.low, "high": figure.high}
                assert metric in metrics["definitions"]
            assert f"{prediction.metrics['iou'].value:.3f}" in page
        assert found["gain"]["differences"]["iou"]["value"] == pytest.approx(
            one.predictions["prn"].metrics["iou"].value - one.predictions["tuned"].metrics["iou"].value
        )
        assert found["used"] == one.used


def test_a_closed_gate_is_told_with_what_prn_would_have_given(full):
    _, page, metrics = full
    start = "PRN is off for buildings: on the validation areas its IoU is 0.6000"
    assert any(text.startswith(start) for text in metrics["notes"])
    assert not any("PRN is off for roads" in text for text in metrics["notes"])
    assert page.count("PRN (off, for comparison)") == 2
    assert page.count("<b>PRN, ") == 2


def test_few_blocks_give_no_verdict(full):
    _, page, metrics = full
    assert any("4 blocks for roads in a" in text for text in metrics["notes"])
    assert "threshold: better" not in page
    assert "not told apart" not in page


def test_what_is_undefined_is_a_dash_and_null(undefined):
    _, page, metrics = undefined
    (roads,) = metrics["tests"]
    assert roads["predictions"]["prn"]["metrics"]["iou"] == {"value": None, "low": None, "high": None}
    assert roads["ceiling"] is None
    assert '<td class="n">\N{EM DASH}</td>' in page
    notes = " ".join(metrics["notes"])
    for text in ("hold no roads in a", "No validation area labels roads", "No test area labels buildings"):
        assert text in notes
    assert metrics["split"]["a"]["smallest_distance_m"] == {"test": None, "validation": None}
    assert "No tile has enough true pixels" in page
    assert "holds no log" in page


def test_without_test_areas_it_says_that_nothing_is_known(untested):
    _, page, metrics = untested
    assert metrics["tests"] == []
    assert "nothing is known of the model" in page
    assert "Best and worst" not in page


def test_the_split_tells_distances_and_every_scene_that_was_not_used(full):
    _, page, metrics = full
    told = metrics["split"]["a"]
    assert told["smallest_distance_m"] == {"test": 123.4, "validation": None}
    assert told["gap_m"] == 20
    assert [len(told[kind]) for kind in ("skipped", "left_out")] == [40, 1]
    assert told["regions"]["train"] == {"regions": 1, "scenes": 1, "pixels": 128 * 128}
    assert "123 m" in page
    assert "40 scenes were skipped" in page
    assert "And 11 scenes more" in page
    assert "broken3.tif" in page


def test_names_and_licenses_are_shown_as_they_are_written(full):
    assert "CC-BY &lt;4.0&gt; &amp; more" in full[1]
    assert LICENSE not in full[1]
    assert full[2]["split"]["b"]["license"] == LICENSE


def test_it_tells_what_made_the_model(full, model):
    _, page, metrics = full
    sha = open_bundle(model).card.weights_sha256
    assert metrics["model"]["weights_sha256"] == sha
    assert sha in page
    assert metrics["config"]["seed"] == metrics["seed"] == 0
    assert metrics["timings"]["base"] == 12.3
    assert metrics["timings"]["test"] > 0
    assert {"prngeo", "torch", "GDAL"} <= metrics["versions"].keys()
    assert metrics["training"]["refiner"]["loss"] == [[1, 0.9], [2, 0.8]]


@pytest.mark.slow
def test_it_replaces_an_earlier_report_and_leaves_nothing_else(model, areas, tested, full):
    folder = full[0]
    before = sorted(path.name for path in folder.iterdir())
    reported(folder, model, tested, areas)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_log_is_read_as_far_as_it_goes(tmp_path):
    assert read_log(tmp_path / "none.csv") == {}
    log = tmp_path / "log.csv"
    log.write_text("step,loss,validation_iou\n20,0.5,\n40,0.4,\n40,nan,0.3\n40,0.35,\n60,0.")
    assert read_log(log) == {"loss": [(20, 0.5), (40, 0.35), (60, 0.0)], "validation_iou": [(40, 0.3)]}
    log.write_bytes(b"\xff\xfe\x00broken")
    assert read_log(log) == {}


def test_every_source_has_a_panel_for_each_system_and_areas_lie_in_it_in_metres(areas):
    regions = [one.region for one in train_and_held(areas)]
    north, south = panels(regions)
    assert (north.title, south.title) == ("a\nEPSG:32631", "b\nEPSG:32733")
    assert [role for role, _ in north.shapes] == ["test", "train", None, "validation"]
    boxes = [box for _, box in north.shapes]
    assert boxes[1] == pytest.approx((200, 0, 264, 64))
    assert boxes[2] == pytest.approx((200, 0, 215, 64))
    assert boxes[3] == pytest.approx((400, 0, 464, 64))


def test_degrees_are_drawn_as_metres(areas):
    plain = areas[0].region
    wkt = CRS.from_epsg(4326).to_wkt()
    one = replace(plain, crs=wkt, gsd=(0.5, 0.5), bounds=(10.0, 60.0, 10.001, 60.0005))
    other = replace(one, role="train", bounds=(10.002, 60.0, 10.003, 60.0005))
    (panel,) = panels([one, other])
    assert [box for _, box in panel.shapes] == [pytest.approx((0, 0, 64, 64)), pytest.approx((128, 0, 192, 64))]


def test_scenes_without_a_system_lie_side_by_side_and_their_areas_within_them(areas):
    plain = replace(areas[0].region, crs="", bounds=(0, 128, 128, 0), gsd=(2.0, 2.0))
    held = replace(plain, window=Window(64, 32, 64, 64), shape=(64, 64), role="test")
    (panel,) = panels([replace(plain, role="train"), held, *(replace(plain, scene=f"{n}.tif") for n in range(5))])
    whole, part, *others = (box for _, box in panel.shapes)
    assert [part[0] - whole[0], whole[3] - part[3]] == [64, 128]
    assert part[2] - part[0] == 128
    places = [whole, *others]
    assert len(set(places)) == 6
    for number, one in enumerate(places):
        for two in places[:number]:
            assert one[0] >= two[2] or two[0] >= one[2] or one[1] >= two[3] or two[1] >= one[3]


@pytest.mark.slow
def test_a_training_ends_with_a_report_of_its_own_test_areas(tmp_path):
    from tests.training.test_run import config

    bundle = open_bundle(run.train(config(tmp_path, test=1)))
    metrics = json.loads((tmp_path / "t/metrics.json").read_text())
    assert_whole(Path(tmp_path / "t/report.html"))
    assert metrics["model"]["weights_sha256"] == bundle.card.weights_sha256
    told = {(one["target"], one["source"]): one for one in metrics["tests"]}
    assert len(bundle.card.tests) == 2
    for card in bundle.card.tests:
        found = told[card.target, card.source]
        used = found["predictions"][found["used"]]["metrics"]
        assert used["iou"]["value"] == pytest.approx(card.refined_iou, abs=6e-5)
        assert found["predictions"]["tuned"]["metrics"]["relaxed_f1"]["value"] == pytest.approx(
            card.base_relaxed_f1, abs=6e-5
        )
