"""The page: sections through their templates into one file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import Any

from hyperline.disk import replace_file
from hyperline.errors import HyperlineError, InputError, require
from hyperline.report.chart import SIDE
from hyperline.report.inputs import Inputs
from hyperline.report.sections import SECTIONS, glance, provenance
from hyperline.scenes.files import printable

_TEMPLATES = "templates"
# What a report may have at most, for any strip; what can be sent by mail, and what a tablet opens.
MOST_BYTES = 20_000_000


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        path: of the page.
        bytes: of it.
        sections: that it has.
        missing: sections whose input was not there.
    """

    path: Path
    bytes: int
    sections: tuple[str, ...]
    missing: tuple[str, ...]


def write_report(inputs: Inputs, out: Path, command: Sequence[str] = ()) -> Report:
    """Make the page and put it in place, whole or not at all.

    Args:
        inputs: of `read_inputs`.
        out: an .html file to make or replace.
        command: that the report is made with, for the page to say.

    Raises:
        InputError: ``out`` is no name of an HTML file, an input is damaged, or jinja2 or Pillow is not installed.
        HyperlineError: the file cannot be written.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{out}: a report is an .html file; give --out a name that ends so")
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"{out} cannot be written: it is a folder, or its folder does not exist")
    require("PIL.Image", "report")
    environment = _environment()
    made = datetime.now(timezone.utc).isoformat(timespec="seconds")
    contents = {section.name: section.make(inputs) for section in SECTIONS}
    style, script = _resource("report.css"), _resource("report.js")
    text = environment.get_template("report.html").render(
        title=_title(inputs),
        subtitle=_subtitle(inputs),
        policy=_policy(style, script),
        style=style,
        script=script,
        figures=glance.make(inputs),
        sections=[(section, contents[section.name]) for section in SECTIONS if contents[section.name] is not None],
        missing=[section for section in SECTIONS if contents[section.name] is None],
        provenance=provenance.make(inputs, printable(shlex.join(command)), made),
    )
    data = text.encode()
    if len(data) > MOST_BYTES:
        raise HyperlineError(
            f"{out}: the report would have {len(data)} bytes, more than {MOST_BYTES}: leave inputs out"
        )
    replace_file(out, data)
    return Report(
        out,
        len(data),
        tuple(name for name, content in contents.items() if content is not None),
        tuple(name for name, content in contents.items() if content is None),
    )


def _environment() -> Any:
    jinja2 = require("jinja2", "report")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hyperline.report", _TEMPLATES),
        autoescape=True,  # of everything: names of classes, models and files are strangers'
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["side"] = SIDE  # macros see no other names
    return environment


def _resource(name: str) -> str:
    return resources.files("hyperline.report").joinpath(_TEMPLATES, name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Say what the page may do: show the pictures within it, and its own style and script, known by their hashes."""

    def source(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; img-src data:; style-src {source(style)}; script-src {source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _title(inputs: Inputs) -> str:
    summary = inputs.strip.summary if inputs.strip else None
    if summary is not None:
        return f"{summary.source}, classified by {summary.model}"
    if inputs.strip is not None:
        return f"Strip {printable(inputs.strip.folder.name)}"
    if inputs.bundle is not None:
        return inputs.bundle.card.name
    names = [name for name, _ in (*inputs.benches, *inputs.evaluations)]
    return printable(names[0]) if names else "Training"


def _subtitle(inputs: Inputs) -> str:
    strip = inputs.strip
    if strip is None:
        return ""
    size = f"{strip.lines:,} lines × {strip.samples:,} samples, {len(inputs.class_names)} classes"
    if strip.summary is None:
        return size
    return f"{size}, in blocks of {strip.summary.block_lines} lines, {strip.summary.engine}, {strip.summary.precision}"
