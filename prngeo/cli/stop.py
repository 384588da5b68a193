"""Stopping a run from the program that started it, on every system: by closing the run's standard input."""

from __future__ import annotations

import _thread
import os
import signal
import threading

VARIABLE = "PRNGEO_STOP_AT_EOF"


def stop_at_end_of_input() -> None:
    """Treat the end of standard input as SIGTERM, if the environment variable PRNGEO_STOP_AT_EOF is set.

    A program that starts prngeo through a pipe can thus end it cleanly where there are no signals (Windows), and a
    run never outlives a program that crashed.
    """
    if os.environ.get(VARIABLE):
        threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    try:
        while os.read(0, 1024):
            pass
    except OSError:
        return  # there is no standard input
    _thread.interrupt_main(signal.SIGTERM)
