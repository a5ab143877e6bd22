"""The front page's table of accuracies is the accuracy page's, whose figures a command has written."""

from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IN_PYTHON = "‡"  # of lines/s: not a step that flies


def rows(page, heading):
    """Rows of the first table under a heading: first cell -> all by the name of their column."""
    lines = page[page.index(f"# {heading}\n") :].splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("|"))
    head, _, *body = ([cell.strip(" *") for cell in line.strip("|").split("|")] for line in table(lines[start:]))
    return {cells[0]: dict(zip(head, cells, strict=True)) for cells in body}


def table(lines):
    return takewhile(lambda line: line.startswith("|"), lines)


def test_the_front_page_has_the_figures_of_the_accuracy_page():
    front, page = (ROOT / "README.md").read_text(), (ROOT / "docs/accuracy.md").read_text()
    random, blocks = (rows(page, heading) for heading in ("Random pixels", "Blocks of 16 pixels"))
    shown = rows(front, "How accurate")
    assert len(shown) >= 5
    for name, row in shown.items():
        model = name.split(", ")[0]
        speed = random[model]["lines/s"]
        assert row == {
            "": name,
            "random pixels": random[model]["OA streamed"],
            "spatial blocks, guard band": blocks[model]["OA streamed"],
            "lines/s": "in Python" if IN_PYTHON in speed else speed,
        }
