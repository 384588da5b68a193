"""`prngeo refine fit` and `prngeo refine apply`, as a user calls them."""

import json

import numpy as np
import pytest
import rasterio

from tests.scores.conftest import make_prn, planted, sigmoid, write  # noqa: F401


@pytest.fixture
def scores(write, tmp_path):  # noqa: F811
    """Two scenes with scores and masks; the pattern of the scores."""
    for seed, name in enumerate("ab"):
        logits, truth = planted(seed, 128)
        place = {"origin": (500_000 + 500 * seed, 5_000_000)}
        write(sigmoid(logits).astype("float32"), f"scores/{name}.tif", **place)
        write(truth, f"masks/{name}.tif", **place)
    return tmp_path / "scores" / "*.tif"


QUICK = ("--steps", 2, "--window", 64, "--reduction", 4)


def test_fit_show_and_apply(cli, scores, tmp_path):
    prn = tmp_path / "my.prn"
    ran = cli("refine", "fit", "--scores", scores, "--labels", tmp_path / "masks/*.tif", "-o", prn, *QUICK,
              "--classes", "roads", "--license", "CC0-1.0")  # fmt: skip
    assert ran.code == 0, ran.err
    for text in ("fitted on 2 scene(s)", "held out: 8 of 32 blocks", "roads: IoU of the held-out scores",
                 "at their best single threshold", "only if the segmenter was not trained on the scenes"):  # fmt: skip
        assert text in ran.err
    shown = cli("models", "show", prn)
    assert shown.code == 0
    for text in ("a refiner for the scores of a segmenter", "CC0-1.0", "roads", "validation IoU", "0.5 to 0.5 m",
                 "PRN fast, window 64 px", "8 of 32 blocks", "steps 2", "pseudo_weight 0.0"):  # fmt: skip
        assert text in shown.out
    assert json.loads(cli("models", "show", prn, "--json").out)["kind"] == "refiner"
    ran = cli("refine", "apply", "--scores", scores, "-m", prn, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert "2 of 2 scenes done." in ran.err
    refined = tmp_path / "out" / "b_roads_probability.tif"
    with rasterio.open(refined) as file:
        assert file.shape == (128, 128)
    (tmp_path / "out" / "b.json").touch()  # as `prngeo predict` leaves beside its probability
    ran = cli("refine", "apply", "--scores", refined, "-m", prn)
    assert ran.code == 0, ran.err
    assert (tmp_path / "out" / "b_roads_probability_roads_mask.tif").exists()


def test_the_fit_tells_when_the_gate_disables_it(cli, write, tmp_path):  # noqa: F811
    logits, truth = planted(0, 128, bias=0)
    one, other = write(sigmoid(logits).astype("float32"), "a.tif"), write(truth, "b.tif")
    ran = cli("refine", "fit", "--scores", one, "--labels", other, "-o", tmp_path / "my.prn", *QUICK,
              "--pseudo-weight", 0.3)  # fmt: skip
    assert ran.code == 0, ran.err
    assert "did not gain 0.001 over the single threshold, so the gate has disabled it" in ran.err
    ran = cli("refine", "apply", "--scores", one, "-m", tmp_path / "my.prn", "-o", tmp_path / "out")
    assert "warning: The gate has disabled the refiner for objects" in ran.err
    assert "scores as they are" in ran.err
    shown = cli("models", "show", tmp_path / "my.prn").out
    assert "off, by the gate" in shown
    assert "pseudo_weight 0.3" in shown


def test_results_as_json(cli, scores, tmp_path):
    prn = tmp_path / "my.prn"
    ran = cli("refine", "fit", "--scores", scores, "--labels", tmp_path / "masks/*.tif", "-o", prn, *QUICK,
              "--validation", "b", "--progress", "json")  # fmt: skip
    events = [json.loads(line) for line in ran.err.splitlines()]
    assert [event["stage"] for event in events[:-1]] == sorted(
        (event["stage"] for event in events[:-1]), key=["labels", "fit", "judge"].index
    )
    assert events[-1]["targets"]["objects"]["gate"]["pixels"] == 128 * 128
    ran = cli("refine", "apply", "--scores", tmp_path / "scores/a.tif", "-m", prn, "--progress", "json")
    result = json.loads(ran.err.splitlines()[-1])
    assert result["classes"]["objects"]["valid_pixels"] == 128 * 128
    assert set(result["rasters"]["objects"]) == {"probability", "mask", "correction"}


def test_images_are_matched_by_the_star(cli, write, tmp_path):  # noqa: F811
    prn = make_prn(tmp_path / "my.prn", image_bands=1)
    for name, value in (("a", 10), ("b", 250)):
        write(np.full((64, 64), 0.4, "float32"), f"p/{name}_prob.png.tif", crs=None)
        write(np.full((64, 64), value, "uint8"), f"i/{name}_image.png", crs=None)
    ran = cli("refine", "apply", "--scores", tmp_path / "p/*_prob.png.tif", "--image", tmp_path / "i/*_image.png",
              "-m", prn, "-o", tmp_path / "out")  # fmt: skip
    assert ran.code == 0, ran.err
    ran = cli("refine", "apply", "--scores", tmp_path / "p/*_prob.png.tif", "--image", tmp_path / "i/a*_image.png",
              "-m", prn, "-o", tmp_path / "other")  # fmt: skip
    assert ran.code == 2
    assert "b_prob.png.tif has no image among those of --image" in ran.err


def test_wrong_bundles_are_named(cli, scores, tmp_path, tiny_model):
    prn = make_prn(tmp_path / "my.prn")
    ran = cli("predict", tmp_path / "scores/a.tif", "-m", prn)
    assert ran.code == 2
    assert "is a refiner for the scores of another segmenter" in ran.err
    ran = cli("refine", "apply", "--scores", tmp_path / "scores/a.tif", "-m", tiny_model)
    assert ran.code == 2
    assert "is a model with a base network" in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--validation", "0.9"], "--validation is the share"),
        (["--validation", "nosuch"], "--validation nosuch names no scene"),
        (["--line-width", "0"], "--line-width is a length"),
        (["--class-field", "kind"], "--class-field needs to know which class"),
    ],
)
def test_wrong_options_are_refused(cli, scores, tmp_path, arguments, message):
    ran = cli("refine", "fit", "--scores", scores, "--labels", tmp_path / "masks/*.tif", "-o", tmp_path / "my.prn",
              *arguments)  # fmt: skip
    assert ran.code == 2
    assert message in ran.err
    assert not (tmp_path / "my.prn").exists()
