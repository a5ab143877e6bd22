"""The documents whose schemas the site publishes; each is made of the class that writes and reads the document."""

from __future__ import annotations

from pydantic import BaseModel

from hyperline.bundle.card import Card
from hyperline.bundle.manifest import Manifest
from hyperline.report.documents import Evaluation, Spectra, Summary

DOCUMENTS: dict[str, type[BaseModel]] = {
    "card": Card,
    "manifest": Manifest,
    "summary": Summary,
    "spectra": Spectra,
    "evaluation": Evaluation,
}


def page(name: str) -> str:
    """Return where the schema of a document stands, below docs."""
    return f"reference/{name}.schema.json"
