"""Classify lines inside a program of your own.

    python examples/embed.py FILE.hlb SCENE

The scene stands for the sensor here: whatever gives (sample, band) arrays will do.
"""

from __future__ import annotations

import sys

import numpy as np

import hyperline


def main(bundle_file: str, scene_spec: str) -> None:
    """Print what each block of lines shows most of."""
    sensor = hyperline.read_scene(scene_spec)
    classifier = hyperline.open_bundle(bundle_file)
    with classifier.stream(
        sensor.samples,
        bands=sensor.bands,
        wavelengths_nm=sensor.wavelengths_nm,
        scale=sensor.scale,
        nodata=sensor.nodata,
    ) as stream:

        def show(block: hyperline.ClassifiedBlock | None) -> None:
            if block is None:
                return
            pixels = np.bincount(block.labels.ravel(), minlength=1 + len(stream.class_names))
            name = ("no class", *stream.class_names)[int(pixels.argmax())]
            print(f"lines {block.first_line} to {block.first_line + len(block.labels) - 1}: mostly {name}")

        for line in sensor.cube:
            show(stream.feed(line))
        show(stream.finish())


if __name__ == "__main__":
    main(*sys.argv[1:])
