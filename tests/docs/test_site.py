"""The site builds without a warning, loads nothing from elsewhere, and has a page for every page."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hyperline.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("material", reason="needs mkdocs-material, of hyperline[docs]")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, ROOT / "tools" / "link_tree.py"], check=True)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_every_page_is_there(site):
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    made = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}
    assert {page.with_name("index") if page.name == "README" else page for page in pages} <= made


def test_nothing_is_loaded_from_elsewhere(site):
    loads = re.compile(r'<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)="((?:https?:)?//[^"]+)"')
    for page in site.rglob("*.html"):
        assert loads.findall(page.read_text()) == [], page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text()), style


def test_every_command_and_its_options_are_on_the_page_of_commands(site):
    page = (site / "reference" / "cli.html").read_text()
    for name in COMMANDS:
        assert f'id="hyperline-{name}"' in page, name
    assert "--patience" in page and "UNSET" not in page


def test_every_public_name_is_on_the_page_of_python(site):
    import hyperline

    page = (site / "reference" / "api.html").read_text()
    for name in hyperline.__all__:
        assert re.search(rf'id="hyperline\.[\w.]*\b{name}"', page), name


def test_schemas_and_licences_are_made(site):
    assert (site / "reference" / "card.schema.json").read_text().count('"block_lines"') >= 2
    licences = (site / "reference" / "licences.html").read_text()
    assert "onnxruntime" in licences and "every install" in licences
