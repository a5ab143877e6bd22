"""A bundle, ready to classify lines as they come or a scene that is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hyperline.api.stream import Stream
from hyperline.bundle import Bundle, Card, read_bundle, read_public_key
from hyperline.errors import InputError
from hyperline.match import DescribedSpectra, require_match, require_units
from hyperline.runtime.sources.files import SceneSource
from hyperline.scenes import Scene
from hyperline.sensor import BandResampling, SensorCorrection, read_correction


@dataclass(frozen=True)
class ClassMap:
    """What a model says of a scene.

    Attributes:
        labels: (line, sample) uint8 class ids, 0 where there was no measurement.
        confidence: (line, sample) float32, the probability of the label; 0 where there is none.
        uncertainty: (line, sample) float32, 0 certain, 1 all classes alike; None of a model that does not say.
        class_names: name of class 1, 2, …
        resampling: what made the model's bands of the scene's; None where the scene shows them as they stand.
    """

    labels: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    uncertainty: NDArray[np.float32] | None
    class_names: tuple[str, ...]
    resampling: BandResampling | None = None


@dataclass(frozen=True)
class Classifier:
    """A verified bundle and how to run it; made by `hyperline.open_bundle`.

    Attributes:
        bundle: with its card.
        engine: preferred engine.
        precision: which of the bundle's models.
        threads: of the engine; None for every CPU that this process may run on.
        correction: of the sensor, where lines come raw.
    """

    bundle: Bundle
    engine: str = "ort-cpu"
    precision: str = "fp32"
    threads: int | None = None
    correction: SensorCorrection | None = None

    @property
    def card(self) -> Card:
        """What is known of the model: bands, wavelengths, class names, accuracy, provenance."""
        return self.bundle.card

    def stream(
        self,
        samples: int,
        *,
        bands: int | None = None,
        wavelengths_nm: Sequence[float] | NDArray[np.floating] | None = None,
        scale: float | None = None,
        nodata: float | None = None,
    ) -> Stream:
        """Begin a strip whose lines the caller feeds.

        Args:
            samples: of a line.
            bands: of a line; None for as many as there are wavelengths, or else those of the correction or the model.
            wavelengths_nm: (band,) centres of these bands in nanometres; where they are not the model's, lines are
                resampled to it. None where unknown.
            scale: the lines' values times this are physical units; None for that of the training scene.
            nodata: a pixel whose bands all hold this carries no measurement.

        Raises:
            InputError: no such engine or precision, another size than the correction is for, or bands that cannot be
                brought to the model's.
            HyperlineError: the engine cannot be loaded, or failed its self-test.
        """
        centres = None if wavelengths_nm is None else np.asarray(wavelengths_nm, np.float64)
        if bands is None:
            measured = self.correction.bands if self.correction else self.card.bands
            bands = measured if centres is None else len(centres)
        if centres is not None and centres.shape != (bands,):
            raise InputError(f"{len(centres)} wavelengths for lines of {bands} bands; give one for each band")
        if self.correction is not None:
            self.correction.require_fit("the stream", samples, bands, scale or 1.0, centres)
        lines = DescribedSpectra("the stream", bands, centres, 0)
        return Stream(
            self.bundle,
            samples,
            bands=bands,
            resampling=require_match(lines, self.card, self.correction),
            scale=scale,
            nodata=nodata,
            correction=self.correction,
            engine=self.engine,
            precision=self.precision,
            threads=self.threads,
        )

    def classify(self, scene: Scene, on_progress: Callable[[int], None] | None = None) -> ClassMap:
        """Classify a scene or a strip that is there, block by block, as in flight.

        Args:
            scene: cube (line, sample, band); a memory-mapped one is read line by line. Its labels are not looked at.
            on_progress: called with the number of lines taken so far, after every block.

        Returns:
            The maps; fewer samples than the scene where the correction bins them.

        Raises:
            InputError: the scene does not show the bands or the units that the model was trained on.
            HyperlineError: the engine failed.
        """
        source = SceneSource(scene)
        correction, card = self.correction, self.card
        if correction is not None:
            correction.require_fit(scene.name, scene.samples, scene.bands, scene.scale, scene.wavelengths_nm)
        require_units(scene, correction.units if correction else scene.units, card.provenance)
        resampling = require_match(source, card, correction)
        labels: list[NDArray[np.uint8]] = []
        confidence: list[NDArray[np.float32]] = []
        uncertainty: list[NDArray[np.float32]] = []
        with Stream(
            self.bundle,
            scene.samples,
            bands=scene.bands,
            resampling=resampling,
            scale=scene.scale,
            nodata=scene.nodata,
            correction=correction,
            engine=self.engine,
            precision=self.precision,
            threads=self.threads,
        ) as stream:
            for number, line in enumerate((*scene.cube, None), 1):
                block = stream.finish() if line is None else stream.feed(line)
                if block is None:
                    continue
                labels.append(block.labels)
                confidence.append(block.confidence)
                if block.uncertainty is not None:
                    uncertainty.append(block.uncertainty)
                if on_progress is not None:
                    on_progress(min(number, scene.lines))
        return ClassMap(
            np.concatenate(labels),
            np.concatenate(confidence),
            np.concatenate(uncertainty) if len(uncertainty) == len(labels) else None,
            card.class_names,
            resampling,
        )


def open_bundle(
    path: Path | str,
    *,
    public_key: Path | str | None = None,
    engine: str = "ort-cpu",
    precision: str = "fp32",
    threads: int | None = None,
    radiometry: Path | str | None = None,
) -> Classifier:
    """Read and verify a bundle, to classify with it.

    Args:
        path: an ``.hlb`` file.
        public_key: PEM file of an ed25519 key; where given, the bundle must be signed by it. Give it wherever the
            bundle came over a network: its graph is a program.
        engine: ``ort-cpu``, ``ort-cuda`` or ``tensorrt``; those that can take over from it stand ready.
        precision: ``fp32``, ``fp16`` or ``int8``, which the bundle must have.
        threads: of the engine; None for every CPU that this process may run on.
        radiometry: file of ``hyperline radiometry make``, where lines come raw.

    Raises:
        InputError: the file is anything but an intact bundle, not signed by the key, or has no such precision; or the
            correction cannot be read.
    """
    bundle = read_bundle(path, read_public_key(Path(public_key)) if public_key else None)
    bundle.model(precision)  # refused here, where it is not there
    return Classifier(
        bundle, engine, precision, threads, None if radiometry is None else read_correction(Path(radiometry))
    )
