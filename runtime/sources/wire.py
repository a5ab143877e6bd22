"""Lines that come over a wire, in the framing of ``docs/framing.md``."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import HyperlineError, InputError
from hyperline.runtime.sources.framing import LineReader, StreamHeader, read_header
from hyperline.runtime.sources.source import Line
from hyperline.runtime.sources.transport import Transport

PATIENCE_S = 10.0
_HEADER_S = 5.0  # a caller who says nothing must not keep the port from the sender
_REFUSED_S = 0.2

logger = logging.getLogger(__name__)


class WireSource:
    """The strip that a sender delivers over a transport.

    A sender that goes away before the end of the strip may come back and go on: what it sends is the same
    strip if its header is the same. A caller with another header is refused and waited past. Iterate once.

    A line arrives when its last byte is read. How long it lay in the system's buffers before, only its
    ``timestamp_ns`` tells, to those who know how the two clocks differ.

    Attributes:
        header: what the sender said of the strip.
        complete: whether the end of the strip was read. An iteration that ends without it was closed or lost its
            sender for longer than the patience; the lines so far are good.
        reconnections: times that the sender came back.
        refused: peers whose header was none, or of another strip.
    """

    def __init__(self, transport: Transport, patience: float = PATIENCE_S) -> None:
        """Wait for the sender and read its header.

        A caller is waited for without limit; one whom we call, for ``patience``; a pipe, as long as it is open.

        Args:
            transport: where the sender is; the source releases it.
            patience: seconds to wait for a sender that is not there, and for one that went away.

        Raises:
            InputError: what we chose to read from sends no strip, or one outside the limits.
            HyperlineError: nobody answered.
        """
        if not 0 <= patience < float("inf"):
            raise InputError(f"patience must be a number of seconds, not {patience}")
        self._transport = transport
        self._patience = patience
        self.reconnections = self.refused = 0
        try:
            header = self._meet(None, time.monotonic() + patience if transport.chosen else float("inf"))
        except BaseException:
            transport.release()
            raise
        if header is None:
            transport.release()
            raise HyperlineError(
                f"nobody answers at {transport.name} for {patience:g} s; start the sender, or give it more --patience"
            )
        self.header = header
        self._reader = LineReader(header, transport.fill)

    @property
    def name(self) -> str:
        """What the sender calls the strip."""
        return self.header.name

    @property
    def samples(self) -> int:
        """Cross-track samples of a line."""
        return self.header.samples

    @property
    def bands(self) -> int:
        """Spectral bands of a line."""
        return self.header.bands

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the lines."""
        return self.header.dtype

    @property
    def wavelengths_nm(self) -> NDArray[np.float64] | None:
        """(band,) band centres in nanometres, or None."""
        return None if self.header.wavelengths_nm is None else np.array(self.header.wavelengths_nm)

    @property
    def scale(self) -> float:
        """Stored values times this are physical units."""
        return self.header.scale

    @property
    def nodata(self) -> float | None:
        """The declared no-data value."""
        return self.header.nodata

    @property
    def lines(self) -> int | None:
        """How many lines the strip has: what its end says, before that what its header says, if it does."""
        return self.header.lines if self._reader.total is None else self._reader.total

    @property
    def end(self) -> int | None:
        """Index behind the last line, from the strip's end record; None before, or if that never came."""
        return self._reader.total

    @property
    def rate(self) -> float | None:
        """Lines per second, if the sender says."""
        return self.header.rate

    @property
    def truth_classes(self) -> int:
        """The highest class id of the lines' truth; 0 without truth."""
        return self.header.truth_classes

    @property
    def complete(self) -> bool:
        """Whether the end of the strip was read."""
        return self._reader.ended

    @property
    def counters(self) -> dict[str, int]:
        """What happened on the way: ``ReaderCounters``, reconnections, refused."""
        return asdict(self._reader.counters) | {"reconnections": self.reconnections, "refused": self.refused}

    def __iter__(self) -> Iterator[Line]:
        """Yield the intact lines as they come, as ``LineReader.read`` gives them."""
        try:
            while True:
                while (line := self._reader.read()) is not None:
                    yield line
                if self.complete or not self._resume():
                    return
        finally:
            self._transport.close()
            self._transport.release()

    def close(self) -> None:
        """End the iteration within half a second, from whatever thread."""
        self._transport.close()

    def _resume(self) -> bool:
        """Wait for the sender to come back; False if it does not."""
        self._transport.hang_up()
        self._reader.restart()
        if self._transport.closed or not self._transport.lasting:
            return False
        logger.warning("%s: the sender went away; waiting %g s for it", self._transport.name, self._patience)
        if self._meet(self.header, time.monotonic() + self._patience) is None:
            return False
        self.reconnections += 1
        return True

    def _meet(self, expected: StreamHeader | None, deadline: float) -> StreamHeader | None:
        """Find a sender and return its header; None when there is none in time.

        Raises:
            InputError: the first peer, and of our choice, sends no strip.
        """
        transport = self._transport
        while transport.establish(deadline):
            limit = time.monotonic() + _HEADER_S if transport.lasting else float("inf")
            try:
                header = read_header(partial(transport.fill, deadline=limit))
            except InputError as error:
                if expected is None and transport.chosen:
                    raise InputError(f"{transport.name}: {error}") from None
                fault = str(error)
            else:
                if expected is None or header == expected:
                    return header
                fault = f"it sends another strip, {header.name!r}"
            transport.hang_up()
            if transport.closed:
                break
            self.refused += 1
            logger.warning("%s: refused a sender: %s", transport.name, fault)
            transport.pause(_REFUSED_S)
        return None
