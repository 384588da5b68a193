"""The folder of a run: nothing of an earlier run is lost or mixed in unasked."""

import logging

import pytest

from prngeo.config import TrainConfig
from prngeo.errors import UsageError
from prngeo.training.state import begin, finish, finished


def config(work, **values):
    return TrainConfig.model_validate({"name": "t", "work": work, "targets": ["roads"]} | values)


@pytest.fixture
def begun(tmp_path):
    """A run with a checkpoint, beside something of the user's."""
    folder = begin(config(tmp_path), False, False)
    for name in ("base.pt", "logs/metrics.csv", "fold-1-of-2/base.pt", "cache/index.json", "notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_without_a_word_an_earlier_run_is_left_alone(tmp_path, begun):
    with pytest.raises(UsageError, match="not finished.*--resume.*--overwrite"):
        begin(config(tmp_path), False, False)
    (begun / "bundle").mkdir()
    with pytest.raises(UsageError, match="is finished.*--resume.*--overwrite"):
        begin(config(tmp_path), False, False)


def test_overwrite_removes_what_the_run_left_and_nothing_else(tmp_path, begun):
    assert begin(config(tmp_path, seed=3), False, True) == begun
    assert sorted(path.name for path in begun.iterdir()) == ["notes.txt", "run.json"]


def test_resume_goes_on_with_the_same_configuration(tmp_path, begun):
    assert begin(config(tmp_path), True, False) == begun
    assert (begun / "base.pt").exists()


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ({"seed": 4}, ["seed (was 0, is 4)"]),
        ({"base": {"steps": 9, "crop": 64}, "targets": ["roads", "b"]}, ["base.crop", "base.steps", "targets"]),
        ({"split": {"test": 0.3}}, ["split.test"]),
        ({"base": {"augmentation": {"scale": [1, 2]}}}, ["base.augmentation.scale"]),
    ],
)
def test_resume_with_another_configuration_is_refused_with_the_changed_keys(tmp_path, begun, values, keys):
    with pytest.raises(UsageError) as caught:
        begin(config(tmp_path, **values), True, False)
    for key in keys:
        assert key in str(caught.value)
    assert "learning_rate" not in str(caught.value)


def test_keys_that_do_not_change_what_is_learned_may_change(tmp_path, begun):
    moved = tmp_path / "moved"
    moved.mkdir()
    begun.rename(moved / "t")
    other = config(moved, device="cpu", base={"devices": 2}, root="/data", out="o", version="2", license="x")
    assert begin(other, True, False) == moved / "t"


def test_resume_where_nothing_was_begun_starts_and_says_so(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    begin(config(tmp_path), True, False)
    assert "nothing to resume" in caplog.text


def test_a_run_that_failed_before_its_first_checkpoint_may_be_corrected(tmp_path):
    begin(config(tmp_path), False, False)
    folder = begin(config(tmp_path, seed=2), False, False)
    (folder / "base.pt").touch()
    begin(config(tmp_path, seed=2), True, False)


def test_a_folder_without_a_readable_record_is_not_continued(tmp_path, begun):
    for text in ("{", None):
        if text is None:
            (begun / "run.json").unlink()
        else:
            (begun / "run.json").write_text(text)
        with pytest.raises(UsageError, match=r"run\.json cannot be read.*--overwrite"):
            begin(config(tmp_path), True, False)


def test_a_folder_that_cannot_be_written_names_the_key(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot be written .* work=FOLDER"):
        begin(config(tmp_path / "file"), resume=False, overwrite=False)


def test_a_file_in_the_place_of_the_model_is_told_before_anything_is_trained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file, and a model is a folder"):
        begin(config(tmp_path, out=tmp_path / "file"), resume=False, overwrite=False)


def test_both_wishes_at_once_are_refused(tmp_path):
    with pytest.raises(UsageError, match="one of them"):
        begin(config(tmp_path), True, True)


def test_the_model_of_another_run_is_not_replaced_unasked(tmp_path):
    out = tmp_path / "model"
    out.mkdir()
    (out / "card.json").touch()
    for resume in (False, True):
        with pytest.raises(UsageError, match="holds a model already.*--overwrite"):
            begin(config(tmp_path, out=out), resume, False)
    begin(config(tmp_path, out=out), False, True)


def test_a_finished_run_is_known_by_its_bundle_and_configuration(tmp_path, begun):
    bundle = tmp_path / "model"
    bundle.mkdir()
    (bundle / "card.json").touch()
    assert finished(config(tmp_path), begun) is None
    finish(config(tmp_path), begun, bundle)
    assert finished(config(tmp_path), begun) == bundle
    assert finished(config(tmp_path, version="2"), begun) is None, "its card has to be written again"
    (bundle / "card.json").unlink()
    assert finished(config(tmp_path), begun) is None
