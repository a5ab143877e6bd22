"""The style: words can be read in the light, in the dark and on paper."""

from __future__ import annotations

import re
from importlib import resources

import pytest

STYLE = resources.files("hyperline.report").joinpath("templates", "report.css").read_text()
_COLOURS = re.compile(r":root \{(.*?)\}", re.DOTALL)


def schemes() -> dict[str, dict[str, str]]:
    light, dark, paper = (
        dict(re.findall(r"--([a-z]+): ([^;]+);", block)) for block in _COLOURS.findall(STYLE)
    )  # fmt: skip
    return {"light": light, "dark": light | dark, "paper": light | paper}


def rgb(colour: str) -> list[float]:
    if colour.startswith("#"):
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        return [int(digits[at : at + 2], 16) for at in (0, 2, 4)]
    return [float(part) for part in colour.split()]


def luminance(colour: list[float]) -> float:
    """Relative luminance, WCAG 2.2."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (c / 255 for c in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: list[float], other: list[float]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "paper"])
def test_every_word_stands_out_from_its_ground(scheme: str) -> None:
    colours = schemes()[scheme]
    for ground in ("ground", "raised"):
        for words in ("ink", "soft", "accent", "bad"):
            assert contrast(rgb(colours[words]), rgb(colours[ground])) >= 4.5, (words, ground)


@pytest.mark.parametrize("scheme", ["light", "dark", "paper"])
def test_counts_can_be_read_on_the_darkest_shade(scheme: str) -> None:
    colours = schemes()[scheme]
    shares = [float(value) for value in re.findall(r"--a: ([.\d]+)", STYLE)]
    assert len(shares) == 10 and shares == sorted(shares)
    for shade in ("right", "wrong"):
        ground = [
            max(shares) * over + (1 - max(shares)) * under
            for over, under in zip(rgb(colours[shade]), rgb(colours["ground"]), strict=True)
        ]
        assert contrast(rgb(colours["ink"]), ground) >= 4.5
