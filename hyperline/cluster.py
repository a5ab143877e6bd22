"""Many pieces of work over processes and machines: each is done once, and what is done stays done.

Dask's scheduler (`distributed`) gives the pieces to workers, and gives those of a lost worker to others. A piece's
result is one JSON file, put in place whole, so that an interrupted job goes on with the pieces that have none.
"""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hyperline import __version__
from hyperline.disk import disk_errors, replace_file
from hyperline.errors import HyperlineError, InputError, require
from hyperline.machine import cpus

Work = Callable[..., dict[str, Any]]
OnDone = Callable[[str, dict[str, Any]], None]

# Dask lets its workers give memory back at once. A training asks for the same tensors again a thousand times: page
# faults took two fifths of its time until freed memory stayed, in one arena, also that of the thread that computes.
# Nothing is mapped, for a map goes back when it is freed, and no threshold above 32 MiB is sure to be taken: LiuNet has
# tensors of 100 MB. Huge pages are faulted in, and looked up, less often.
_MEMORY = {
    "MALLOC_MMAP_MAX_": 0,
    "MALLOC_TRIM_THRESHOLD_": 2**40,
    "MALLOC_TOP_PAD_": 2**26,
    "MALLOC_ARENA_MAX": 1,
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
_RESULTS_LOCK = ".lock"
_CONNECT_SECONDS = 10


def work_through(
    pieces: Mapping[str, tuple[Any, ...]],
    work: Work,
    results: Path,
    *,
    known: Mapping[str, dict[str, Any]] | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    on_done: OnDone | None = None,
) -> dict[str, dict[str, Any]]:
    """Do what is not done yet.

    Args:
        pieces: arguments of ``work`` by the name of the piece, which is the name of its result too.
        work: returns what `json.dumps` takes. It, and its arguments, must be such that another process can have them.
        results: folder for the results; made if missing.
        known: results that came with the project, say; their pieces are not done again.
        scheduler: address of a Dask scheduler, such as ``tcp://host:8786``, whose workers have this release of
            hyperline; None starts workers here.
        workers: processes to start here, of one thread each; None for one a CPU.
        on_done: called with the name and the result of each piece that was not done before.

    Returns:
        All results by name.

    Raises:
        InputError: the scheduler cannot be reached, its workers have another release, or another process works on the
            same results.
        HyperlineError: some pieces failed; the results of all others are kept.
    """
    with disk_errors(results):
        results.mkdir(parents=True, exist_ok=True)
    with _alone(results):
        done = {name: held for name, held in (known or {}).items() if name in pieces}
        done |= {name: held for name in pieces if (held := _read(results / f"{name}.json")) is not None}
        missing = [name for name in pieces if name not in done]
        if missing:
            failures = []
            with _client(scheduler, min(workers or cpus(), len(missing))) as client:
                for name, result in _finished(client, work, {name: pieces[name] for name in missing}):
                    if isinstance(result, BaseException):
                        failures.append(f"{name}: {result}")
                        continue
                    replace_file(results / f"{name}.json", (json.dumps(result, indent=1) + "\n").encode())
                    done[name] = result
                    if on_done is not None:
                        on_done(name, result)
            if failures:
                shown = "; ".join(failures[:3]) + ("; …" if len(failures) > 3 else "")
                raise HyperlineError(
                    f"{len(failures)} of {len(missing)} pieces of work failed: {shown}. The others are kept; the same "
                    "command tries those that failed again"
                )
    return {name: done[name] for name in pieces}


def _finished(client: Any, work: Work, pieces: Mapping[str, tuple[Any, ...]]) -> Iterator[tuple[str, Any]]:
    """Give each piece's result, or what it raised, as they come."""
    distributed = require("distributed", "cluster")
    futures = {client.submit(work, *arguments, key=name, pure=False): name for name, arguments in pieces.items()}
    for future in distributed.as_completed(futures):
        error = future.exception()
        yield futures[future], error if error is not None else future.result()
        future.release()


@contextmanager
def _client(scheduler: str | None, workers: int) -> Iterator[Any]:
    """Give a client of a scheduler, there or here."""
    dask, distributed = require("dask", "cluster"), require("distributed", "cluster")
    logging.getLogger("distributed").setLevel(logging.ERROR)  # it tells much about its own work
    if scheduler is None:
        key = "distributed.nanny.pre-spawn-environ"
        with dask.config.set({key: {**dask.config.get(key), **_MEMORY}}):
            cluster = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address="127.0.0.1:0",  # a port of its own, for others may have a cluster here
                memory_limit=0,
            )
        with cluster, distributed.Client(cluster) as client:
            yield client
        return
    try:
        client = distributed.Client(scheduler, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {scheduler} ({error}); start one: dask scheduler") from error
    with client:
        releases = client.run(_release)
        if not releases:
            raise InputError(f"the scheduler at {scheduler} has no worker; start some: dask worker {scheduler}")
        others = {address: release for address, release in releases.items() if release != __version__}
        if others:
            address, release = next(iter(others.items()))
            raise InputError(
                f"worker {address} has hyperline {release}, this is {__version__}; install the same release"
            )
        yield client


def _release() -> str:
    return __version__


@contextmanager
def _alone(results: Path) -> Iterator[None]:
    """Keep a second process from doing the same pieces."""
    with disk_errors(results / _RESULTS_LOCK), (results / _RESULTS_LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another process works on {results}; wait for it, or choose another folder") from None
        yield


def _read(file: Path) -> dict[str, Any] | None:
    try:
        held = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return held if isinstance(held, dict) else None
