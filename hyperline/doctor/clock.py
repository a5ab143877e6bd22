"""Whether this machine knows what time it is."""

from __future__ import annotations

import ctypes
import os

from hyperline.doctor.finding import Finding

_TIME_ERROR = 5  # of adjtimex(2): the clock is not synchronised
_WORST_MS = 100  # a third of the pixel's way at 30 m/s and 10 cm, and what NTP over a radio link still reaches


class _Timex(ctypes.Structure):
    """``struct timex`` of Linux, 64 bits."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
        ("status", ctypes.c_int),
        *((name, ctypes.c_long) for name in ("constant", "precision", "tolerance", "seconds", "microseconds", "tick")),
        ("others", ctypes.c_long * 16),
    )


def examine_clock() -> Finding:
    """Ask the kernel whether its clock is disciplined, and how far off it may be."""
    subject = "time"
    fix = (
        "sudo timedatectl set-ntp true, or chrony with the GNSS receiver (PPS); without, events carry a time of their "
        "own, and the lines the sensor's"
    )
    state = _Timex(modes=0)
    library = ctypes.CDLL(None, use_errno=True)
    try:
        answer = library.adjtimex(ctypes.byref(state))
    except AttributeError:
        return Finding(subject, False, "this system does not say whether its clock is synchronised", fix)
    if answer < 0:
        return Finding(subject, False, f"the kernel does not tell: {os.strerror(ctypes.get_errno())}", fix)
    error_ms = state.maxerror / 1e3
    if answer == _TIME_ERROR:
        return Finding(subject, False, "the clock is not synchronised", fix)
    detail = f"the clock is synchronised, at most {error_ms:.1f} ms off by the kernel's own estimate"
    return Finding(subject, error_ms <= _WORST_MS, detail, None if error_ms <= _WORST_MS else fix)
