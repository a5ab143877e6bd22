"""Links within the documentation lead somewhere; so do the pages that code sends people to."""

import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import json_schemas
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
# Made when the site is built: tools/docs_hooks.py.
GENERATED = {DOCS / json_schemas.page(name) for name in json_schemas.DOCUMENTS}


def walk(tokens: list[Token]):
    for token in tokens:
        yield token
        yield from walk(token.children or [])


@cache
def parsed(page):
    return MarkdownIt().enable("table").parse(page.read_text())


def links(page):
    """Every link and picture of a page."""
    for token in walk(parsed(page)):
        target = token.attrGet("href") if token.type == "link_open" else token.attrGet("src")
        if token.type in ("link_open", "image"):
            yield str(target)


@cache
def anchors(page):
    """The anchors of a page's headings, as GitHub and the site make them."""
    found = set()
    tokens = parsed(page)
    for token, inline in pairwise(tokens):
        if token.type == "heading_open":
            text = "".join(one.content for one in inline.children or [])
            slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            found.add(slug if slug not in found else f"{slug}-1")
    return found


def broken(page, target):
    """Return what is wrong with a link, or None."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return None if parts.scheme in ("http", "https") else f"{target}: neither a page nor an address"
    to = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not to.exists() and to not in GENERATED:
        return f"{target}: no such file"
    if DOCS in page.parents and DOCS not in to.parents:
        return f"{target}: leads out of docs, where the site ends"
    if parts.fragment and to.suffix == ".md" and unquote(parts.fragment) not in anchors(to):
        return f"{target}: {to.name} has no heading of that name"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    assert [fault for target in links(page) if (fault := broken(page, target))] == []


def test_what_is_broken_is_found():
    page = DOCS / "index.md"
    assert broken(page, "tutorial.md#2-train") is None
    assert broken(page, "tutorial.md#2-drain") == "tutorial.md#2-drain: tutorial.md has no heading of that name"
    assert broken(page, "nothing.md") == "nothing.md: no such file"
    assert broken(page, "../README.md") == "../README.md: leads out of docs, where the site ends"
    assert broken(page, "file:///etc/passwd") == "file:///etc/passwd: neither a page nor an address"


@pytest.mark.parametrize(
    "folder", ["hyperline", "train", "export", "runtime", "plugins", "calibration", "bench", "tools"]
)
def test_pages_that_code_names_are_there(folder):
    """Help and errors send people to docs/NAME.md."""
    for path in (ROOT / folder).rglob("*.py"):
        for name in re.findall(r"docs/[\w/.-]+\.md", path.read_text()):
            made = name in ("docs/page.md",) or name.startswith("docs/results/")  # what a benchmark is to write
            assert made or (ROOT / name).is_file(), f"{path.relative_to(ROOT)} names {name}"
