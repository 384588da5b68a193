"""Stopping a run from the program that started it, on every system: by closing the run's standard input."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

from prngeo.errors import Cancelled

VARIABLE = "PRNGEO_STOP_AT_EOF"

PATIENCE = 45.0
"""Seconds that a cancelled run has to end in order: longer than it waits for its networks, shorter than the QGIS plugin
waits for it."""

_cancelled = threading.Event()


def end_run(number: int, frame: FrameType | None) -> NoReturn:
    """Handle SIGTERM: like Ctrl-C, but where the program that started the run has cancelled it nothing is kept.

    Raises:
        Cancelled: it has.
        KeyboardInterrupt: the run is to end.
    """
    raise Cancelled("cancelled.") if _cancelled.is_set() else KeyboardInterrupt


def stop_at_end_of_input() -> None:
    """Cancel the run at the end of standard input, if the environment variable PRNGEO_STOP_AT_EOF is set.

    A program that starts prngeo through a pipe can thus end it cleanly where there are no signals (Windows), and a
    run never outlives a program that crashed. `end_run` has to handle SIGTERM. Where that takes long, as a library
    writes a large file meanwhile, the run's hidden folder is removed and the process ended all the same.
    """
    if os.environ.get(VARIABLE):
        threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    try:
        _wait_for_end()
    except OSError:
        return  # there is no standard input
    _cancelled.set()
    _thread.interrupt_main(signal.SIGTERM)
    time.sleep(PATIENCE)
    from prngeo.files import remove_unfinished

    remove_unfinished()
    os._exit(130)


if sys.platform == "win32":

    def _wait_for_end() -> None:
        # A read that waits would also hold up each process that is started meanwhile, and imports of NumPy.
        import _winapi
        import msvcrt

        handle = msvcrt.get_osfhandle(0)
        try:
            while True:
                os.read(0, _winapi.PeekNamedPipe(handle, 0)[0])
                time.sleep(0.2)
        except BrokenPipeError:
            return

else:

    def _wait_for_end() -> None:
        while os.read(0, 1024):
            pass
