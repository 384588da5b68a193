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


def test_minimal_configuration(write, tmp_path):
    config = load_train_config(write())
    assert config.name == "m"
    assert config.targets == ["roads", "buildings"]
    assert config.sources == []
    assert config == TrainConfig(**MINIMAL | {"root": tmp_path})


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
        ({"refiner": {"variant": "paper", "patch": 512, "window": 512}}, "overlap that is a multiple of the patch"),
        ({"base": {"steps": 0}}, r"base\.steps"),
        ({"base": {"steps": 1.5}}, r"base\.steps"),
        ({"base": {"crop": 100}}, r"base\.crop"),
        ({"base": {"average": 1}}, r"base\.average"),
        ({"device": "gpu"}, "device"),
        ({"base": None}, "base"),
        ({"sources": [SOURCE | {"labels": {"rivers": "*"}}]}, r"source a labels \['rivers'\]"),
        ({"sources": [{"name": "a"}]}, r"sources\.0\.images: is missing"),
        ({"sources": [SOURCE | {"gap": -1}]}, r"sources\.0\.gap"),
        ({"sources": [SOURCE | {"areas": [{"role": "train", "rows": [0, 1], "cols": [0, 1]}]}]}, r"areas\.0\.role"),
        ({"sources": [SOURCE, SOURCE]}, r"names of their own.*\['a'\]"),
        ({"sources": [SOURCE | {"name": "synthetic"}]}, r"names of their own.*synthetic"),
        ({"name": "../elsewhere"}, "name: must be a name that can be a part of a file's name"),
        ({"name": " "}, "name: must be a name"),
        ({"name": ".."}, "name: must be a name"),
        ({"targets": ["roads/paved"]}, r"targets\.0: must be a name"),
        ({"sources": [SOURCE | {"name": "a/b"}]}, r"sources\.0\.name: must be a name"),
        ({"targets": ["roads", "roads"]}, "targets must be names that differ"),
        ({"bands": ["red", "red"]}, "bands must be names that differ"),
        ({"seed": -1}, "seed"),
        ({"towns": {"train": -1}}, r"towns\.train"),
        ({"base": {"weight_decay": -0.1}}, r"base\.weight_decay"),
        ({"base": {"learning_rate": float("inf")}}, r"base\.learning_rate: must be a number"),
        ({"split": {"block": float("nan")}}, r"split\.block"),
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
        ("name.x=3", "name is 'm', not a section"),
        ("base.steps=many", r"base\.steps: "),
        ("base.steps=[1", r"base\.steps: '\[1' is not a YAML value"),
        ("base=3", "base: "),
        ("sources.1.gsd=3", r"sources\.1\.gsd: '1' is no number of an entry of that list; it holds 1"),
        ("sources.first.gsd=3", "'first' is no number of an entry"),
    ],
)
def test_bad_overrides_are_errors(write, override, message):
    with pytest.raises(UsageError, match=message):
        load_train_config(write(sources=[SOURCE]), [override])


def test_overrides_reach_into_lists(write):
    config = load_train_config(write(sources=[SOURCE]), ["sources.0.gsd=0.3", "sources.0.labels.roads=other/*.tif"])
    assert (config.sources[0].gsd, config.sources[0].labels["roads"].path) == (0.3, "other/*.tif")


def test_data_is_looked_for_beside_the_file_or_where_the_override_says(write, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_train_config(write()).root == tmp_path
    assert load_train_config(write(root="data")).root == tmp_path / "data"
    assert load_train_config(write(root=str(tmp_path / "x"))).root == tmp_path / "x"
    assert load_train_config(write(root="data"), ["root=data"]).root == Path("data"), "as the shell completes it"
    write()
    assert load_train_config(Path("..", "run.yaml")).root.resolve() == tmp_path.resolve()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 3}, r"steps: unknown key; did you mean base\.steps or refiner\.steps\?"),
        ({"gap": 3}, r"gap: unknown key; did you mean sources\.gap or split\.gap\?"),
        ({"base": {"learning_rat": 1}}, r"base\.learning_rat: unknown key; did you mean learning_rate\?"),
        ({"bas": {}}, r"bas: unknown key; did you mean base or bands\?"),
        ({"sources": [SOURCE | {"splitt": 1}]}, r"sources\.0\.splitt: unknown key; did you mean split\?"),
        ({"sources": [SOURCE | {"labels": {"roads": {"path": "a", "widht": 1}}}]}, r"roads\.widht: .*mean width\?"),
        ({"zzz": 3}, "zzz: unknown key; known are name, version, .*towns"),
    ],
)
def test_an_unknown_key_tells_the_nearest_known_ones(write, values, message):
    with pytest.raises(UsageError, match=message):
        load_train_config(write(**values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"base": {"steps": "many"}}, "base.steps: must be a whole number, got 'many'."),
        ({"base": {"steps": 1.5}}, "base.steps: must be a whole number, got 1.5."),
        ({"base": {"learning_rate": "fast"}}, "base.learning_rate: must be a number, got 'fast'."),
        ({"base": {"learning_rate": 0}}, "base.learning_rate: must be more than 0, got 0."),
        ({"tile": 70}, "tile: must be a multiple of 32, got 70."),
        ({"gsd": 0.5}, "gsd: must be a list, such as [a, b], got 0.5."),
        ({"gsd": [0.5]}, "gsd.1: is missing: too few values in the list."),
        ({"gsd": [1, 2, 3]}, "gsd: must be a list of at most 2 values, got [1, 2, 3]."),
        ({"targets": []}, "targets: must hold 1 or more, got none."),
        ({"version": 1}, "version: must be text, got 1 (put it in quotes)."),
        ({"refiner": {"use_image": 3}}, "refiner.use_image: must be true or false, got 3."),
        ({"device": "gpu"}, "device: must be 'auto', 'cpu', 'cuda' or 'mps', got 'gpu'."),
        ({"device": "cud"}, "device: must be 'auto', 'cpu', 'cuda' or 'mps', got 'cud'; did you mean cuda?"),
        ({"base": [1]}, "base: must be a section of `key: value` lines, got [1]."),
        ({"base": None}, "base: must be a section of `key: value` lines, got nothing."),
        ({"sources": SOURCE}, "sources: must be a list, such as [a, b], got a section."),
        (
            {"sources": [SOURCE | {"labels": {"roads": {"path": "a", "width": "narrow"}}}]},
            "sources.0.labels.roads.width: must be metres (a number above 0) or osm, got 'narrow'.",
        ),
    ],
)
def test_a_wrong_value_is_told_once_and_in_plain_words(write, values, message):
    path = write(**values)
    with pytest.raises(UsageError) as caught:
        load_train_config(path)
    assert str(caught.value) == f"{path} does not describe a training run. {message}"


@pytest.mark.parametrize("width", [8, 7.5, "osm", None])
def test_widths_of_lines(write, width):
    source = SOURCE | {"labels": {"roads": {"path": "a.gpkg", "width": width}}}
    assert load_train_config(write(sources=[source])).sources[0].labels["roads"].width == width


@pytest.mark.parametrize("width", [0, -1, True, float("nan"), float("inf"), [8]])
def test_a_width_that_is_no_length_is_refused(write, width):
    source = SOURCE | {"labels": {"roads": {"path": "a.gpkg", "width": width}}}
    with pytest.raises(UsageError, match=r"metres \(a number above 0\) or osm"):
        load_train_config(write(sources=[source]))


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.e-3", ".1e-2", "1.0e-3", "0.001", "+1e-03"])
def test_numbers_with_an_exponent_are_numbers(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(f"name: m\ntargets: [roads]\nbase: {{learning_rate: {text}}}\n")
    assert load_train_config(path).base.learning_rate == 1e-3
    assert load_train_config(path, [f"base.weight_decay={text}"]).base.weight_decay == 1e-3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b\n", "line 2: the key name stands in line 1 already."),
        ("name: a\nbase:\n  steps: 1\n  batch: 2\n  steps: 2\n", "line 5: the key steps stands in line 3 already."),
        ("name: a\nbase:\n\tsteps: 3\n", "line 3 is indented with a tab. Indent with spaces."),
        ("name: a: b\n", "line 1: mapping values are not allowed here .*put text that holds ': ' in quotes"),
        ("name: [a\n", "line 2: .*, in what begins in line 1"),
    ],
)
def test_mistakes_in_yaml_are_told_by_line(tmp_path, text, message):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_train_config(path)


def test_a_key_that_is_no_text_is_told(tmp_path):
    (tmp_path / "run.yaml").write_text("name: a\ntargets: [roads]\n5: 1\n")
    with pytest.raises(UsageError, match="5: a key must be text; put it in quotes"):
        load_train_config(tmp_path / "run.yaml")


def test_text_that_is_not_utf_8_is_told(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes("name: Zürich\ntargets: [roads]\n".encode("latin-1"))
    with pytest.raises(UsageError, match="not UTF-8 text. Save it as UTF-8"):
        load_train_config(path)


def test_a_file_saved_with_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes("name: Zürich\ntargets: [roads]\n".encode("utf-8-sig"))
    assert load_train_config(path).name == "Zürich"


@pytest.mark.parametrize("text", ["a: [", "- a\n- b\n", "just text", "\xff\xfe"])
@pytest.mark.parametrize("overrides", [[], ["base.steps=3"]])
def test_a_file_that_is_no_configuration_is_an_error(tmp_path, text, overrides):
    path = tmp_path / "run.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"run\.yaml"):
        load_train_config(path, overrides)


def test_an_empty_file_lacks_name_and_targets(tmp_path):
    (tmp_path / "run.yaml").write_text("")
    with pytest.raises(UsageError, match=r"name: is missing; targets: is missing"):
        load_train_config(tmp_path / "run.yaml")


def test_a_missing_file_is_an_error(tmp_path):
    for path in (tmp_path / "no.yaml", tmp_path):
        with pytest.raises(UsageError, match="No such configuration file"):
            load_train_config(path)
