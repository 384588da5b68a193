"""Files of a run: hidden until all are complete, never over an input."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from prngeo import files
from prngeo.errors import UsageError
from prngeo.files import publish, refuse_existing, scratch_folder, staging, tidy


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_staging_is_hidden_and_gone_afterwards(tmp_path):
    with staging(tmp_path, "scene") as hidden:
        assert hidden.parent == tmp_path
        assert hidden.name.startswith(".")
        (hidden / "a").mkdir()
        (hidden / "a" / "half.tif").write_text("x")
    assert tree(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failed_run_leaves_nothing_not_even_the_folders_it_made(tmp_path, error):
    def fail():
        with staging(tmp_path / "new" / "deep", "scene") as hidden:
            (hidden / "half.tif").write_text("x")
            raise error

    with pytest.raises(error):
        fail()
    assert tree(tmp_path) == []


def test_folders_that_were_there_stay(tmp_path):
    (tmp_path / "old").mkdir()
    with pytest.raises(ValueError, match="stop"), staging(tmp_path / "old" / "new", "scene"):
        raise ValueError("stop")
    assert tree(tmp_path) == ["old"]


def test_published_files_stay(tmp_path):
    folder = tmp_path / "new"
    with staging(folder, "scene") as hidden:
        for name in ("b.tif", "a.json"):
            (hidden / name).write_text(name)
        publish(hidden, folder, ["b.tif", "a.json"])
    assert tree(folder) == ["a.json", "b.tif"]


def test_what_a_killed_run_left_is_removed(tmp_path):
    program = f"""
import os, signal
from pathlib import Path
from prngeo.files import staging
with staging(Path({str(tmp_path)!r}), "scene") as hidden:
    (hidden / "half.tif").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    if sys.platform == "win32":
        pytest.skip("there is no SIGKILL")
    subprocess.run([sys.executable, "-c", program], check=False)
    assert tree(tmp_path) == [".scene.prngeo", ".scene.prngeo/half.tif", ".scene.prngeo/pid"]
    with staging(tmp_path, "scene") as hidden:
        assert not (hidden / "half.tif").exists()
    assert tree(tmp_path) == []


def test_a_run_that_is_killed_while_it_removes_its_folder_leaves_it_whole_or_to_be_removed(tmp_path, monkeypatch):
    def kill(path, ignore_errors):
        if path.exists():
            raise SystemError

    with pytest.raises(SystemError), staging(tmp_path, "scene", resume=True) as hidden:
        (hidden / "finished").mkdir()
        monkeypatch.setattr(files.shutil, "rmtree", kill)
    assert not hidden.exists()
    assert tree(tmp_path)[0] == ".scene.prngeo-removed"
    monkeypatch.undo()
    tidy(hidden)
    assert tree(tmp_path) == []


def leave_behind(folder, content):
    hidden = folder / ".scene.prngeo"
    hidden.mkdir()
    (hidden / "pid").write_text(content)


def test_a_run_at_work_is_not_disturbed(tmp_path):
    parent = psutil.Process(os.getppid())
    leave_behind(tmp_path, f"{platform.node()} {parent.pid} {parent.create_time()}")
    with pytest.raises(UsageError, match=f"process {parent.pid}"), staging(tmp_path, "scene"):
        pass
    assert tree(tmp_path) == [".scene.prngeo", ".scene.prngeo/pid"]
    with staging(tmp_path, "another") as hidden:
        assert hidden.exists()


def test_another_program_that_got_the_number_of_a_killed_run_does_not_block(tmp_path):
    parent = psutil.Process(os.getppid())
    leave_behind(tmp_path, f"{platform.node()} {parent.pid} {parent.create_time() - 3600}")
    with staging(tmp_path, "scene"):
        pass
    assert tree(tmp_path) == []


@pytest.mark.parametrize("content", ["", "garbage", "12", "99999999 1.0", f"{platform.node()} 99999999 1.0"])
def test_remains_that_tell_nothing_do_not_block(tmp_path, content):
    leave_behind(tmp_path, content)
    with staging(tmp_path, "scene"):
        pass
    assert tree(tmp_path) == []


def test_a_run_of_another_thread_is_not_disturbed(tmp_path):
    refused = pytest.raises(UsageError, match=f"process {os.getpid()}")
    with staging(tmp_path, "scene"), refused, staging(tmp_path, "scene"):
        pass
    assert tree(tmp_path) == []


def test_two_scenes_in_one_folder(tmp_path):
    with staging(tmp_path, "a") as a, staging(tmp_path, "b") as b:
        assert a != b


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match=r"cannot be written.*-o"), staging(folder, "scene"):
            pass
    assert tree(tmp_path) == ["file"]


def test_existing_outputs_are_refused_unless_told(tmp_path):
    paths = [tmp_path / name for name in ("a", "b", "c")]
    refuse_existing(paths, overwrite=False)
    paths[1].touch()
    with pytest.raises(UsageError, match=r"b already exists. Pass --overwrite"):
        refuse_existing(paths, overwrite=False)
    paths[2].touch()
    with pytest.raises(UsageError, match="b and 1 more already exist"):
        refuse_existing(paths, overwrite=False)
    refuse_existing(paths, overwrite=True)


def test_publish_replaces_what_is_there(tmp_path):
    hidden, folder = tmp_path / "hidden", tmp_path / "out"
    hidden.mkdir()
    folder.mkdir()
    for name in ("a", "b"):
        (hidden / name).write_text("new")
    (folder / "a").write_text("old")
    publish(hidden, folder, ["a", "b"])
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a": "new", "b": "new"}


def test_scratch_of_a_killed_process_goes_with_the_next_run_and_that_of_a_running_one_stays(tmp_path):
    script = (
        "import pathlib, sys, time\n"
        "from prngeo.files import scratch_folder\n"
        "with scratch_folder(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'tile.npz').write_text('x')\n"
        "    print(folder, flush=True)\n"
        "    time.sleep(600)\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        killed, kept = (Path(process.stdout.readline().strip()) for process in running)
        running[0].kill()
        running[0].wait()
        (tmp_path / "prngeo-of-the-user").mkdir()
        with scratch_folder(tmp_path) as own:
            assert not killed.exists()
            assert {own, kept, tmp_path / "prngeo-of-the-user"} == set(tmp_path.iterdir())
    finally:
        for process in running:
            process.kill()
            process.wait()
            process.stdout.close()
    assert not own.exists()
