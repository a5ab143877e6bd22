"""Prose is wrapped, so that a change shows the sentence it changes; tables, code and what commands write are not."""

from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 120
WRITTEN_BY_COMMANDS = {ROOT / "docs/accuracy.md", *ROOT.glob("docs/results/*.md")}
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")} - WRITTEN_BY_COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_is_wrapped(page):
    text = page.read_text()
    lines = text.splitlines()
    prose = (one.map for one in MarkdownIt().enable("table").parse(text) if one.type == "paragraph_open")
    long = [number for start, end in prose for number in range(start, end) if len(lines[number]) > WIDTH]
    # A link may be longer than a line.
    assert not [f"line {number + 1}" for number in long if " " in lines[number].strip()[:WIDTH]]
