"""Processes of this machine and of others that are at work in a folder, or were."""

import os
import platform
import threading
import time

import pytest

import prngeo.owner
from prngeo.errors import UsageError
from prngeo.files import staging
from prngeo.owner import Owner, at_work, beating

ELSEWHERE = Owner("another-machine", os.getpid(), Owner.own().started)


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(prngeo.owner, "BEAT", 0.05)
    monkeypatch.setattr(prngeo.owner, "WATCH", 2.0)


def test_what_is_written_is_read(tmp_path):
    for owner in (Owner.own(), ELSEWHERE, Owner("a name with spaces", 1, 2.5)):
        owner.write(tmp_path / "pid")
        assert Owner.read(tmp_path / "pid") == owner


def test_of_this_machine_only_a_process_that_runs_is_at_work(tmp_path):
    own = Owner.own()
    for owner, found in (
        (own, own),
        (Owner(platform.node(), own.pid, own.started - 100), None),
        (Owner(platform.node(), 99999999, own.started), None),
    ):
        owner.write(tmp_path / "pid")
        assert at_work(tmp_path / "pid") == found
    assert at_work(tmp_path / "nothing") is None


def test_a_run_of_another_machine_is_refused_while_it_beats_and_gives_way_when_it_is_dead(tmp_path):
    with staging(tmp_path, "scene", resume=True) as hidden:
        ELSEWHERE.write(hidden / "pid")
        refused = r"process \d+ on another-machine\) is writing the same outputs"
        with pytest.raises(UsageError, match=refused), staging(tmp_path, "scene", resume=True):
            pass
        assert Owner.read(hidden / "pid") == ELSEWHERE
    hidden.mkdir()
    ELSEWHERE.write(hidden / "pid")
    with staging(tmp_path, "scene", resume=True):
        assert Owner.read(hidden / "pid") == Owner.own()
    assert not hidden.exists()


def test_no_beat_comes_after_the_end_and_none_brings_a_file_back(tmp_path):
    path = tmp_path / "pid"
    path.touch()
    with beating(path):
        first = path.stat().st_mtime_ns
        while path.stat().st_mtime_ns == first:
            time.sleep(0.01)
    last = path.stat().st_mtime_ns
    time.sleep(0.2)
    assert path.stat().st_mtime_ns == last
    with beating(path):
        path.unlink()
        time.sleep(0.2)
    assert not path.exists()
    assert threading.active_count() < 10
