"""Which images a run leaves, and how each is described to a reader of ENVI files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hyperline.bundle.card import Card
from hyperline.pictures import map_colours
from hyperline.runtime.engines import Outputs
from hyperline.runtime.records import IMAGES

FILES = tuple(f"{name}.{ending}" for name in IMAGES for ending in ("hdr", "img"))
# Bytes of a pixel of those that have a line for each of the strip's.
PIXEL_BYTES = {"classes": 1, "confidence": 4, "uncertainty": 1, "quicklook": 3}
# ENVI lists are split at commas and end at a brace: a class name must hold neither.
_PLAIN = {ord(character): plain for character, plain in zip(",{}=", ";()-", strict=True)}
_ENVI_TYPES = {"|u1": 1, "<f4": 4}


@dataclass(frozen=True)
class ImageForm:
    """One image.

    Attributes:
        name: of its files, one of `IMAGES`.
        dtype: little-endian, as NumPy spells it: ``|u1`` or ``<f4``.
        samples: pixels of a line.
        bands: numbers of a pixel, side by side.
        about: what its header says besides.
        per_block: it has a line for each block, not for each of the strip's.
    """

    name: str
    dtype: str
    samples: int
    bands: int
    about: str
    per_block: bool = False

    def header(self) -> str:
        """Return its ENVI header but for the count of lines."""
        return (
            f"samples = {self.samples}\nbands = {self.bands}\nheader offset = 0\n"
            f"interleave = {'bsq' if self.bands == 1 else 'bip'}\nbyte order = 0\n"
            f"file type = ENVI {'Classification' if self.name == 'classes' else 'Standard'}\n"
            f"data type = {_ENVI_TYPES[self.dtype]}\n{self.about}"
        )


def map_forms(samples: int, class_names: Sequence[str]) -> tuple[ImageForm, ...]:
    """Return the class map and the map of confidence, which every run has.

    Args:
        samples: of a line.
        class_names: name of class 1, 2, ….
    """
    names = ["no class", *(" ".join(name.translate(_PLAIN).split()) for name in class_names)]
    colours = [0, 0, 0, *map_colours(class_names).ravel().tolist()]
    classes = (
        f"band names = {{class}}\nclasses = {len(names)}\nclass names = {{{', '.join(names)}}}\n"
        f"class lookup = {{{', '.join(map(str, colours))}}}\n"
    )
    return (
        ImageForm("classes", "|u1", samples, 1, classes),
        ImageForm("confidence", "<f4", samples, 1, "band names = {confidence}\n"),
    )


def run_forms(card: Card, samples: int, answer: Outputs, quicklook: bool = True) -> tuple[ImageForm, ...]:
    """Return the images of a run.

    Args:
        card: of the model.
        samples: of a line.
        answer: of an engine; the images of what its graph does not give are left out.
        quicklook: whether it leaves one.
    """
    forms = list(map_forms(samples, card.class_names))
    if answer.uncertainty is not None:
        about = (
            "description = {entropy of the class probabilities, 255 where all are equal}\nband names = {uncertainty}\n"
        )
        forms.append(ImageForm("uncertainty", "|u1", samples, 1, about))
    if quicklook:
        forms.append(ImageForm("quicklook", "|u1", samples, 3, _colours(card)))
    if answer.experts is not None:
        scales, experts = answer.experts.shape
        about = (
            "description = {weight of each expert (sample) at each scale (band), the finest first; one line a block}\n"
            f"band names = {{{', '.join(f'scale {number}' for number in range(1, scales + 1))}}}\n"
        )
        forms.append(ImageForm("experts", "<f4", experts, scales, about, per_block=True))
    return tuple(forms)


def _colours(card: Card) -> str:
    about = "band names = {red, green, blue}\ndefault bands = {1, 2, 3}\n"
    if card.wavelengths_nm is None:
        return about
    wavelengths = np.array(card.wavelengths_nm)[list(card.composite_bands)].tolist()
    return f"{about}wavelength units = Nanometers\nwavelength = {{{', '.join(map(str, wavelengths))}}}\n"
