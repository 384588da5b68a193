"""Processes of this machine and of others that are at work in a folder, or were."""

import os
import platform
import threading
import time

import pytest

import prngeo.owner
from prngeo.errors import UsageError
from prngeo.files import staging
from prngeo.owner import Owner, at_work, beating, claim

ELSEWHERE = Owner("another-machine", os.getpid(), Owner.own().started)


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(prngeo.owner, "BEAT", 0.05)
    monkeypatch.setattr(prngeo.owner, "WATCH", 2.0)
    monkeypatch.setattr(prngeo.owner, "LOOK", 0.02)


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


def touched(path):
    """Waits until a file is touched again."""
    before, end = path.stat().st_mtime_ns, time.monotonic() + 30
    while path.stat().st_mtime_ns == before:
        assert time.monotonic() < end, "there is no beat"
        time.sleep(0.01)


def test_no_beat_comes_after_the_end_and_none_brings_a_file_back(tmp_path):
    threads, path = set(threading.enumerate()), tmp_path / "pid"
    path.touch()
    with beating(path):
        touched(path)
    last = path.stat().st_mtime_ns
    time.sleep(0.2)
    assert path.stat().st_mtime_ns == last
    with beating(path):
        path.unlink()
        time.sleep(0.2)
    assert not path.exists()
    assert not set(threading.enumerate()) - threads


def test_a_beat_that_a_file_server_misses_is_not_the_last(tmp_path, monkeypatch):
    path, utime, missed = tmp_path / "pid", os.utime, []

    def sometimes(name):
        missed.append(1)
        if len(missed) < 3:
            raise OSError(116, "Stale file handle")
        utime(name)

    path.touch()
    monkeypatch.setattr(os, "utime", sometimes)
    with beating(path):
        touched(path)
    assert len(missed) >= 3


def test_of_two_that_take_over_at_the_same_moment_one_goes_on(tmp_path, monkeypatch):
    Owner(platform.node(), 99999999, 1.0).write(tmp_path / "pid")
    write = Owner.write

    def overtaken(self, path, mode="w"):
        write(self, path, mode)
        write(ELSEWHERE, path)

    assert claim(tmp_path / "pid") is None
    Owner(platform.node(), 99999999, 1.0).write(tmp_path / "pid")
    monkeypatch.setattr(Owner, "write", overtaken)
    assert claim(tmp_path / "pid") == ELSEWHERE
