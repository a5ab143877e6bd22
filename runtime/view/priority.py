"""The viewer takes what the loop leaves."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

_AUTOGROUP = Path("/proc/self/autogroup")
_PR_SET_PDEATHSIG = 1
_SWITCH = Path("/proc/sys/kernel/sched_autogroup_enabled")


def lead_a_session() -> None:
    """Go on in a child that leads a session of its own, where the kernel shares the processor out by sessions.

    Where it groups processes so (autogroup, on by default on desktops and on Jetson's Ubuntu), a viewer of another
    terminal has as large a share as the flight, whatever its own priority is. The group can be given a lower one, but
    this terminal's shell is in it too. The parent passes signals on and ends as its child does.
    """
    if not _shared_out() or os.getsid(0) == os.getpid():
        return
    child = os.fork()
    if child == 0:
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # nothing is left behind by a parent that is killed
        return

    def pass_on(number: int, frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)


def lowest_priority() -> None:
    """Run only when nothing else wants a processor."""
    with suppress(OSError):
        os.nice(19)
    with suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    if _shared_out() and os.getsid(0) == os.getpid():
        with suppress(OSError):
            _AUTOGROUP.write_text("19")


def _shared_out() -> bool:
    try:
        return _SWITCH.read_text().strip() == "1" and _AUTOGROUP.is_file()
    except OSError:
        return False
