"""The study of PRN runs from pixels to tables, and continues where it stopped; here with toy data and networks."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prngeo.synth import write_town

sys.path.insert(0, str(Path(__file__).parent))

import refine_study
from study import bases, cells, data, planted, report, scoring, shift


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Eight tiles of towns as a data set, a base of few weights, and PRNs of two steps."""
    (tmp_path / "images").mkdir()
    for number in range(8):
        write_town(tmp_path / "images" / f"area{number // 2}_part{number % 2}.tif", size=128, gsd=1.0, seed=number)
    (tmp_path / "masks").mkdir()
    for path in (tmp_path / "images").glob("*_buildings_mask.tif"):
        path.rename(tmp_path / "masks" / path.name.replace("_buildings_mask", ""))
    for path in [*(tmp_path / "images").glob("*_mask.tif"), *(tmp_path / "images").glob("*.gpkg")]:
        path.unlink()
    source = {
        "images": "images/*.tif", "labels": {"buildings": "masks/*.tif"}, "license": "x", "gap": 0,
        "test": ["area3_*"], "validation": ["area2_*"],
    }  # fmt: skip
    monkeypatch.setattr(data, "DATA_SETS", {"toy": data.DataSet("toy", "buildings", source, ("area0",))})
    monkeypatch.setattr(refine_study, "DATA_SETS", data.DATA_SETS)
    small = bases.Base("small", "unet", "tu-lcnet_050", "none")
    monkeypatch.setattr(bases, "BASES", {"small": small})
    monkeypatch.setattr(refine_study, "BASES", bases.BASES)
    fast = replace(cells.FAST, window=128, steps=2, width=4, batch=1, patch=32)
    paper = replace(cells.PAPER, window=64, steps=1)
    monkeypatch.setattr(cells, "PRNS", {"fast": fast, "paper": paper, "fast no-image": replace(fast, image=False)})
    monkeypatch.setattr(refine_study, "ABLATIONS", {"no-image": None})
    monkeypatch.setattr(refine_study, "ABLATED", (("toy", "small"),))
    monkeypatch.setattr(refine_study, "SHIFTS", (("toy", "small", "toy"),))
    monkeypatch.setattr(refine_study, "COUNTS", (2,))
    monkeypatch.setattr(refine_study, "IN_BANEPA", {})
    monkeypatch.setattr(refine_study, "PLANTED", fast)
    tiny = {name: replace(one, window=128, width=4) for name, one in shift.PRNS.items()}
    monkeypatch.setattr(shift, "PRNS", tiny)
    monkeypatch.setattr(shift, "PROBE", 1)
    monkeypatch.setattr(planted, "SIZE", 128)
    monkeypatch.setattr(planted, "FIT", range(2))
    monkeypatch.setattr(planted, "TEST", range(2, 4))
    monkeypatch.chdir(tmp_path)
    common = [str(tmp_path), "--data", "toy", "--bases", "small", "embedded", "--steps", "2", "--seconds", "0.1"]

    def run(*more):
        monkeypatch.setattr(sys, "argv", ["refine_study", *common, *more])
        refine_study.main()
        return json.loads(Path("examples/refine_study/results.json").read_text())

    return run


@pytest.mark.slow
def test_every_part_gives_its_rows_and_what_is_there_is_not_computed_again(toy, monkeypatch):
    first = toy()
    rows = {"base", "tuned", "sauvola", "oracle image", "oracle per_patch", "oracle joint", "fast", "paper"}
    for base in ("small", "embedded"):
        assert rows <= set(first["own_region"][f"toy / {base}"])
    own = first["own_region"]["toy / small"]
    assert "fast no-image" in own
    assert own["tuned"]["gain"] == 0
    assert own["oracle joint"]["iou"] >= max(own["tuned"]["iou"], own["oracle per_patch"]["iou"])
    (shifted,) = first["shift"].values()
    assert {"base 0", "tuned 2", "prn 2", "prn half-resolution 2", "fine-tuned 2", "both 2"} <= set(shifted)
    assert shifted["base 0"]["notes"] == {"labelled": 4}
    assert {row["target"] for row in first["planted"]} == {"buildings", "roads"}
    assert {"gains.png", "shift.png", "tables.md"} <= {path.name for path in Path("examples/refine_study").iterdir()}
    monkeypatch.setattr(bases, "train_base", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(cells.prn, "fit", lambda *_: pytest.fail("fitted again"))
    assert toy() == first


@pytest.mark.slow
def test_out_of_fold_logits_come_from_networks_that_did_not_see_the_block(toy, tmp_path, monkeypatch):
    seen = []
    original = bases.train_base
    monkeypatch.setattr(bases, "train_base", lambda config, regions, *more: seen.append(
        {item.region.block for item in regions}
    ) or original(config, regions, *more))  # fmt: skip
    toy("--parts", "cells", "--rows", "fast")
    assert sorted(map(sorted, seen)) == [["area0"], ["area0", "area1"], ["area1"]]


@pytest.mark.slow
def test_a_cross_fitted_prn_is_judged_in_more_than_one_place(toy):
    sizes = {
        name: tuple(cell["base"]["notes"][f"{role}_tiles"] for role in ("fit", "validation"))
        for name, cell in toy("--parts", "cells", "--rows", "base", "tuned")["own_region"].items()
    }
    assert sizes == {"toy / small": (2, 4), "toy / embedded": (2, 2)}


@pytest.mark.slow
def test_figures_of_bases_that_the_working_folder_does_not_know_stay(toy, tmp_path):
    first = toy("--parts", "cells", "--bases", "embedded", "--rows", "base", "tuned")
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    assert toy("--report") == first
    assert "base embedded" in Path("examples/refine_study/tables.md").read_text()


def test_new_figures_take_the_place_of_all_earlier_ones_of_the_same_base():
    haze, logits = ({"kind": kind, "target": "roads", "share": 0.5} for kind in ("haze", "logits"))
    own = {"a / b": {"base": 1, "fast": 2}, "c / d": {"base": 3}}
    before = report.Results(own, {"e": {"tuned 2": 4}}, [haze, logits])
    new = report.Results({"a / b": {"base": 5}}, {}, [logits | {"share": 0.9}])
    merged = new.over(before)
    assert merged.own_region == {"a / b": {"base": 5}, "c / d": {"base": 3}}
    assert merged.shift == {"e": {"tuned 2": 4}}
    assert merged.planted == [haze, logits | {"share": 0.9}]


@pytest.mark.slow
def test_what_is_missing_is_shown_as_missing(toy):
    results = toy("--parts", "cells", "--rows", "base", "tuned")
    assert set(results["own_region"]["toy / small"]) == {"base", "tuned"}
    assert "| **PRN paper** | missing |" in Path("examples/refine_study/tables.md").read_text()


@pytest.mark.parametrize("other", [np.ones(3), np.full(2, 2.0)])
def test_results_of_different_tiles_are_not_compared(other):
    mine, reference = (dict.fromkeys(("tp", "fp", "fn", "tn"), sizes) for sizes in (np.ones(2), other))
    with pytest.raises(ValueError, match="different test tiles"):
        scoring.summary(mine, reference)
