"""Provenance: which model said all this, and which files the report was made from."""

from __future__ import annotations

from dataclasses import dataclass

from hyperline import __version__
from hyperline.bundle import Bundle
from hyperline.report.inputs import Inputs, Source
from hyperline.report.words import count, plain, split


@dataclass(frozen=True)
class Provenance:
    """What the template shows."""

    bundle: tuple[tuple[str, str], ...]
    sources: tuple[Source, ...]
    notes: tuple[str, ...]
    command: str
    made: str
    version: str


def make(inputs: Inputs, command: str, made: str) -> Provenance:
    """Lay out what the report was made from.

    Args:
        inputs: of the report.
        command: that made it.
        made: UTC time, ISO 8601.
    """
    facts: tuple[tuple[str, str], ...] = ()
    if inputs.bundle is not None:
        facts = _facts(inputs.bundle)
    elif inputs.strip is not None and inputs.strip.summary is not None:
        facts = (("SHA-256", inputs.strip.summary.bundle_sha256),)
    return Provenance(facts, inputs.sources, inputs.notes, command, made, __version__)


def _facts(bundle: Bundle) -> tuple[tuple[str, str], ...]:
    card, signature = bundle.card, bundle.manifest.signature
    signed = f"matches key {signature.public_key}; whose it is was not checked" if signature else "not signed"
    training = card.training
    scene = training.get("scene")
    drawn = training.get("split")
    known = [
        ("model", card.name),
        ("file", f"{bundle.path.name}, {count(bundle.size)} bytes"),
        ("SHA-256", bundle.sha256),
        ("signature", signed),
        ("exported", f"{card.created} by hyperline {card.hyperline}"),
        ("precisions", ", ".join(bundle.precisions)),
        ("block", f"{card.block_lines} lines"),
        ("bands", _bands(bundle)),
    ]
    if isinstance(scene, dict):
        known.append(("trained on", f"{plain(scene.get('name'))}, SHA-256 of its values {plain(scene.get('sha256'))}"))
    if isinstance(drawn, dict):
        known.append(("split", split(drawn)))
    return tuple(known)


def _bands(bundle: Bundle) -> str:
    wavelengths = bundle.card.wavelengths_nm
    span = f", {min(wavelengths):g} to {max(wavelengths):g} nm" if wavelengths else ""
    return f"{bundle.card.bands}{span}"
