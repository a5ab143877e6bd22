"""How fast the disk is that a strip is written to, and how long it lasts."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from hyperline.doctor.finding import Finding

# The maps of a strip of 1024 samples at 330 lines/s: nine bytes a pixel.
_KEPT_MB_A_SECOND = 3
# And its checkpoints: 2 MB after every block, into the same three files, of which a disk sees three a second at most.
_NEEDED_MB_A_SECOND = 10
# The writer syncs every second and keeps 64 blocks, one and a half seconds, in memory.
_SLOWEST_SYNC_MS = 500
_MEBIBYTES = 32
_SYNCS = 8


def examine_disk(folder: Path) -> Finding:
    """Write and sync a file without a name, 32 MiB and then a few small pieces; nothing of it stays.

    Args:
        folder: where a strip is to be written, or a folder above it.
    """
    subject = f"disk of {folder}"
    place = next((one for one in (folder, *folder.absolute().parents) if one.is_dir()), Path("/"))
    piece = os.urandom(1 << 20)  # a disk that compresses is not to look fast
    try:
        with tempfile.TemporaryFile(dir=place, buffering=0) as file:
            start = time.perf_counter()
            for _ in range(_MEBIBYTES):
                file.write(piece)
            os.fsync(file.fileno())
            rate = _MEBIBYTES * 1.048576 / (time.perf_counter() - start)
            syncs = []
            for _ in range(_SYNCS):
                file.write(piece[:4096])
                start = time.perf_counter()
                os.fsync(file.fileno())
                syncs.append(1e3 * (time.perf_counter() - start))
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Finding(
            subject,
            False,
            f"cannot be written: {error.strerror or error}",
            "make room there, or choose another folder with --out",
        )
    hours = free / _KEPT_MB_A_SECOND / 1e6 / 3600
    detail = (
        f"{rate:.0f} MB/s written and synced, a sync {statistics.median(syncs):.1f} ms, {max(syncs):.1f} at worst; "
        f"{free / 1e9:.1f} GB free, {hours:.1f} hours of maps at 1024 samples × 330 lines/s"
    )
    fast = rate >= _NEEDED_MB_A_SECOND and max(syncs) <= _SLOWEST_SYNC_MS
    if fast and hours >= 1:
        return Finding(subject, True, detail)
    fix = "make room there" if fast else "write to an SSD or NVMe disk instead of a card, with --out"
    return Finding(subject, False, detail, fix)
