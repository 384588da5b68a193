from pathlib import Path

import pytest
import yaml

from prngeo.config import TrainConfig, load_train_config
from prngeo.errors import UsageError

MINIMAL = {"name": "m", "targets": ["roads", "buildings"]}
SOURCE = {"name": "a", "images": "*.tif", "labels": {"roads": "m/*.tif"}, "license": "CC0"}


@pytest.fixture
def write(tmp_path):
    def make(**values):
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(MINIMAL | values))
        return path

    return make


def test_minimal_configuration(write):
    config = load_train_config(write())
    assert config.name == "m"
    assert config.targets == ["roads", "buildings"]
    assert config.sources == []
    assert config == TrainConfig(**MINIMAL)


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.parent.joinpath("configs").glob("*.yaml")), ids=str)
def test_configurations_in_the_repository_are_valid(path):
    assert load_train_config(path).targets


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"stepps": 3}, "stepps"),
        ({"base": {"stepps": 3}}, r"base\.stepps"),
        ({"network": {"arch": "unet"}}, r"network\.arch"),
        ({"refiner": {"patches": 3}}, r"refiner\.patches"),
        ({"towns": {"counts": 3}}, r"towns\.counts"),
        ({"sources": [SOURCE | {"tests": []}]}, r"sources\.0\.tests"),
        ({"sources": [SOURCE | {"areas": [{"role": "test", "rows": [0, 1], "cols": [0, 1], "x": 1}]}]}, r"areas\.0\.x"),
    ],
)
def test_unknown_keys_are_errors_that_name_the_key(write, values, place):
    with pytest.raises(UsageError, match=f"{place}: unknown key"):
        load_train_config(write(**values))


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"name": ["a"]}, "name"),
        ({"targets": "roads"}, "targets"),
        ({"gsd": 0.5}, "gsd"),
        ({"gsd": [0.5, "fine"]}, r"gsd\.1"),
        ({"gsd": [0, 1]}, r"gsd\.0"),
        ({"gsd": [float("nan"), 1]}, r"gsd\.0"),
        ({"gsd": [1.0, 0.5]}, "smallest, largest"),
        ({"tile": 500}, "tile"),
        ({"tile": "big"}, "tile"),
        ({"overlap": 6}, "overlap must be a multiple of 4"),
        ({"overlap": 300}, "at most half"),
        ({"refiner": {"window": 1024, "overlap": 514}}, "at most half"),
        ({"refiner": {"overlap": 6}}, "overlap"),
        ({"refiner": {"reduction": 3}}, r"refiner\.reduction"),
        ({"refiner": {"pseudo_weight": 1.5}}, r"refiner\.pseudo_weight"),
        ({"refiner": {"variant": "large"}}, r"refiner\.variant"),
        ({"refiner": {"pseudo": "both"}}, r"refiner\.pseudo"),
        ({"refiner": {"variant": "paper", "patch": 60}}, "multiple of 8 and divides the window"),
        ({"refiner": {"variant": "paper", "patch": 96, "window": 512}}, "multiple of 8 and divides the window"),
        ({"base": {"steps": 0}}, r"base\.steps"),
        ({"base": {"steps": 1.5}}, r"base\.steps"),
        ({"base": {"crop": 100}}, r"base\.crop"),
        ({"base": {"average": 1}}, r"base\.average"),
        ({"device": "gpu"}, "device"),
        ({"base": None}, "base"),
        ({"sources": [SOURCE | {"labels": {"rivers": "*"}}]}, r"source a labels \['rivers'\]"),
        ({"sources": [{"name": "a"}]}, r"sources\.0\.images: Field required"),
        ({"sources": [SOURCE | {"gap": -1}]}, r"sources\.0\.gap"),
        ({"sources": [SOURCE | {"areas": [{"role": "train", "rows": [0, 1], "cols": [0, 1]}]}]}, r"areas\.0\.role"),
        ({"sources": [SOURCE, SOURCE]}, r"names of their own.*\['a'\]"),
        ({"sources": [SOURCE | {"name": "synthetic"}]}, r"names of their own.*synthetic"),
    ],
)
def test_bad_values_are_errors_that_name_the_place(write, values, place):
    with pytest.raises(UsageError, match=f"run.yaml does not describe a training run. .*{place}"):
        load_train_config(write(**values))


def test_all_errors_are_told_at_once(write):
    with pytest.raises(UsageError, match=r"tile: .*; base\.stepps: "):
        load_train_config(write(tile=1, base={"stepps": 1}))


def test_overrides_lie_over_the_file(write):
    path = write(base={"steps": 10, "batch": 3})
    config = load_train_config(
        path, ["base.steps=200", "root=/data", "gsd=[0.5, 1]", "refiner.use_image=false", "towns.train=2", "name=a=b"]
    )
    assert (config.base.steps, config.base.batch) == (200, 3)
    assert config.root == Path("/data")
    assert config.gsd == (0.5, 1.0)
    assert config.refiner.use_image is False
    assert config.towns.train == 2
    assert config.name == "a=b"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("base.steps", "key=value"),
        ("=3", "key=value"),
        ("base.stepps=3", r"base\.stepps: unknown key; did you mean steps"),
        ("bass.steps=3", r"bass: unknown key; did you mean base"),
        ("name.x=3", "name is not a section"),
        ("base.steps=many", r"base\.steps: "),
        ("base.steps=[1", r"base\.steps: '\[1' is not a YAML value"),
        ("base=3", "base: "),
    ],
)
def test_bad_overrides_are_errors(write, override, message):
    with pytest.raises(UsageError, match=message):
        load_train_config(write(), [override])


@pytest.mark.parametrize("text", ["a: [", "- a\n- b\n", "just text", "\xff\xfe"])
@pytest.mark.parametrize("overrides", [[], ["base.steps=3"]])
def test_a_file_that_is_no_configuration_is_an_error(tmp_path, text, overrides):
    path = tmp_path / "run.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"run\.yaml"):
        load_train_config(path, overrides)


def test_an_empty_file_lacks_name_and_targets(tmp_path):
    (tmp_path / "run.yaml").write_text("")
    with pytest.raises(UsageError, match=r"name: Field required; targets: Field required"):
        load_train_config(tmp_path / "run.yaml")


def test_a_missing_file_is_an_error(tmp_path):
    for path in (tmp_path / "no.yaml", tmp_path):
        with pytest.raises(UsageError, match="No such configuration file"):
            load_train_config(path)
