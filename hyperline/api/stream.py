"""A strip that its owner hands over line by line, and gets back block by block."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.bundle import Bundle
from hyperline.errors import HyperlineError, InputError
from hyperline.radiometry import Radiometry
from hyperline.runtime.blocks import Block, BlockAssembler
from hyperline.runtime.counters import Counters
from hyperline.runtime.engines import Engine, engines_from, load_engine
from hyperline.runtime.engines.chain import EngineChain
from hyperline.runtime.guarded_step import GuardedStep
from hyperline.runtime.guards import StateGuard
from hyperline.runtime.state_copies import StateCopies
from hyperline.sensor import BandResampling, SensorCorrection


@dataclass(frozen=True)
class ClassifiedBlock:
    """What came of the lines of one block. The arrays are the caller's.

    Attributes:
        first_line: number of its first line in the strip, from 0; lost lines count.
        labels: (line, sample) uint8 class ids, 0 where there was no measurement.
        confidence: (line, sample) float32, the probability of the label; 0 where there is none.
        uncertainty: (line, sample) float32, the entropy of the class probabilities: 0 certain, 1 all alike; None of a
            model that does not say.
    """

    first_line: int
    labels: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    uncertainty: NDArray[np.float32] | None


class Stream:
    """Classifies a strip as its lines come; made by `hyperline.Classifier.stream`.

    It guards state, weights and answers against flipped bits, and lets the next engine take over from one that fails,
    as ``hyperline run`` does; it has no threads of its own and writes nothing. Not for several threads at once.

    Attributes:
        block_lines: lines of a block.
        class_names: name of class 1, 2, …
        samples: of a line of labels; fewer than of a line that comes where the correction bins samples.
    """

    def __init__(
        self,
        bundle: Bundle,
        samples: int,
        *,
        bands: int,
        resampling: BandResampling | None = None,
        scale: float | None = None,
        nodata: float | None = None,
        correction: SensorCorrection | None = None,
        engine: str = "ort-cpu",
        precision: str = "fp32",
        threads: int | None = None,
    ) -> None:
        """Load the engine, test it on the bundle's golden block, and begin a strip.

        Args:
            bundle: the model.
            samples: of a line that comes.
            bands: of a line that comes.
            resampling: what makes the model's bands of those, once corrected; None where they are the model's.
            scale: the lines' values times this are physical units; None for that of the training scene, or of raw
                counts.
            nodata: a pixel whose bands all hold this carries no measurement.
            correction: of the sensor, for raw lines.
            engine: preferred engine; those that can take over from it stand ready.
            precision: which of the bundle's models.
            threads: of the engine; None for every CPU that this process may run on.

        Raises:
            InputError: no such engine or precision, or sizes that the correction is not for.
            HyperlineError: the engine cannot be loaded, or failed its self-test.
        """
        card = bundle.card
        if samples < 1:
            raise InputError(f"a line has at least 1 sample, not {samples}")
        bundle.model(precision)  # refused here, where it is not there
        if scale is None:
            scale = 1.0 if correction else card.scale
        self._radiometry = Radiometry(
            samples,
            bands,
            scale=scale,
            model_scale=card.scale,
            nodata=nodata,
            correction=correction,
            resampling=resampling,
        )
        if self._radiometry.bands != card.bands:
            raise InputError(
                f"the lines come with {self._radiometry.bands} bands, the model {card.name} takes {card.bands}; give "
                "it the bands that it was trained on"
            )
        self._assembler = BlockAssembler(card.block_lines, self._radiometry, card.sample_multiple)

        def load(name: str) -> Engine:
            intact = bundle.intact()
            return load_engine(name, intact.model(precision), intact.card, threads, precision)

        self._chain: EngineChain | None = EngineChain(
            [(name, partial(load, name)) for name in engines_from(engine)], lambda: bundle.intact().golden()
        )
        self.block_lines = card.block_lines
        self.class_names = card.class_names
        self.samples = self._radiometry.samples
        self._copies = StateCopies(card.state_bytes(self._assembler.padded_samples) // 4)
        self._copies.reserve(StateGuard.COPIES)
        self._guard = StateGuard(self._copies)
        self._counters = Counters()
        self._next_line = 0
        self._begin()

    def __enter__(self) -> Stream:
        """Return the stream."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the engine; call `finish` before, or the labels of the last lines are lost."""
        self._chain = None

    @property
    def pending(self) -> int:
        """Lines taken in that no block has given labels yet."""
        return self._assembler.pending

    def feed(self, line: NDArray[Any]) -> ClassifiedBlock | None:
        """Take the next line.

        Args:
            line: (sample, band), any real dtype; a pixel that holds NaN or infinities has no measurement.

        Returns:
            The block that this line completes, or None.

        Raises:
            InputError: the line has another size, which changes nothing: `skip` its place, or feed a right one.
            HyperlineError: no engine could classify the block, or the stream is closed.
        """
        self._require_open()
        radiometry = self._radiometry
        if line.shape != (radiometry.raw_samples, radiometry.raw_bands) or line.dtype.kind not in "iuf":
            raise InputError(
                f"a line of {line.dtype} {' × '.join(map(str, line.shape))}; this strip has real numbers, "
                f"{radiometry.raw_samples} samples × {radiometry.raw_bands} bands"
            )
        block, _ = self._assembler.push(line)
        return self._classify(block)

    def skip(self) -> ClassifiedBlock | None:
        """Keep the place of a line that was lost: it gets no labels, and the state is held over it.

        Returns:
            The block that this line completes, or None.

        Raises:
            HyperlineError: as `feed`.
        """
        self._require_open()
        return self._classify(self._assembler.skip())

    def finish(self) -> ClassifiedBlock | None:
        """End the strip: classify the lines that are pending. The next begins at line 0, with nothing remembered.

        After a long gap within a strip this is right too: what lies so far back is another place.

        Returns:
            The last block, with fewer lines than the others, or None where nothing was pending.

        Raises:
            HyperlineError: as `feed`.
        """
        self._require_open()
        last = self._classify(self._assembler.flush())
        self._next_line = 0
        self._begin()
        return last

    def _require_open(self) -> EngineChain:
        if self._chain is None:
            raise HyperlineError("the stream is closed; make another")
        return self._chain

    def _begin(self) -> None:
        chain = self._require_open()
        chain.engine.reset(self._assembler.padded_samples)
        self._guard.start(chain.engine.state)
        self._step = GuardedStep(chain, self._guard, self._assembler.padded_samples)

    def _classify(self, block: Block | None) -> ClassifiedBlock | None:
        if block is None:
            return None
        first, count = self._next_line, block.count
        self._next_line += count
        outputs = self._step.classify(block, self._counters)
        if outputs is None:
            nothing = np.zeros((count, self.samples))
            return ClassifiedBlock(first, nothing.astype(np.uint8), nothing.astype(np.float32), None)
        rows = np.s_[:count, : self.samples]
        uncertainty = outputs.uncertainty
        return ClassifiedBlock(
            first,
            outputs.labels[rows].copy(),
            outputs.confidence[rows].copy(),
            None if uncertainty is None else uncertainty[rows].copy(),
        )
