"""Frame ids of GigE Vision as numbers that only grow."""

from __future__ import annotations

# GigE Vision 1.x counts frames in 16 bits from 1 to 65535 and then from 1 again, for 0 means a test packet. Version 2
# counts in 64 bits, which never wrap.
_PERIOD = 65535


def frames_ahead(frame_id: int, last_id: int, wide: bool = False) -> int:
    """Return how many frames lie from one id to another; zero or less for a duplicate or a late one.

    Args:
        frame_id: of a frame.
        last_id: of the frame before it.
        wide: whether the ids are known to have 64 bits. An id above 65535 tells it too.

    Returns:
        For 16-bit ids the nearest of the possible answers: -32767 to 32767.
    """
    ahead = frame_id - last_id
    if wide or max(frame_id, last_id) > _PERIOD:
        return ahead
    return (ahead + _PERIOD // 2) % _PERIOD - _PERIOD // 2
