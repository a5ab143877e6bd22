"""Every command of the documentation exists, and is run or says why not."""

from pathlib import Path

import doc_blocks
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = doc_blocks.pages()


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setattr(doc_blocks, "ROOT", tmp_path)

    def write(text):
        path = tmp_path / "page.md"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("one", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_options_that_a_page_shows_exist(one):
    wrong = [
        f"{block.place}: {fault}" for block in doc_blocks.blocks(one) for fault in doc_blocks.unknown_options(block)
    ]
    assert wrong == []


def test_a_reason_says_something():
    reasons = {block.reason for one in PAGES for block in doc_blocks.blocks(one)} - {None}
    assert reasons and all(len(reason) >= len("installs") for reason in reasons)


def test_tutorial_and_how_tos_have_blocks_that_run():
    """`make doc-commands` runs them, which takes minutes: a training is among them."""
    runs = {one for one in PAGES for block in doc_blocks.blocks(one) if block.reason is None}
    assert doc_blocks.TUTORIAL in runs
    assert {one for one in PAGES if one.parent.name == "how-to"} <= runs


def test_pages_run_in_the_folder_that_the_tutorial_left(page, tmp_path, monkeypatch):
    tutorial = page("```sh\necho 1 > made\n```\n").rename(tmp_path / "tutorial.md")
    monkeypatch.setattr(doc_blocks, "TUTORIAL", tutorial)
    how_to = page("<!-- not run: no -->\n```sh\nexit 1\n```\n\n```sh\ngrep 1 made\nrm made\n```\n").rename(
        tmp_path / "a.md"
    )
    other = page("```sh\ngrep 1 made\n```\n").rename(tmp_path / "b.md")
    unread = page("<!-- not run: no -->\n```sh\nexit 1\n```\n").rename(tmp_path / "c.md")
    folder = tmp_path / "work"
    folder.mkdir()
    assert list(doc_blocks.run_pages([how_to, other, unread], folder, quick=True)) == [tutorial, how_to, other]


def test_a_command_in_an_indented_block_is_refused(page):
    with pytest.raises(ValueError, match=r"page.md:3: a command in an indented block"):
        list(doc_blocks.blocks(page("Text\n\n    hyperline run FILE.hlb\n")))


def test_a_mark_before_nothing_is_refused(page):
    with pytest.raises(ValueError, match="stands before no command block"):
        list(doc_blocks.blocks(page("<!-- not run: gone -->\n\nText\n")))


def test_a_mark_without_a_reason_is_refused(page):
    with pytest.raises(ValueError, match="is no mark"):
        list(doc_blocks.blocks(page("<!-- not run -->\n```sh\nls\n```\n")))


def test_an_option_that_is_gone_is_found(page):
    (block,) = doc_blocks.blocks(page("```sh\nhyperline run a.hlb --sauce b --out c  # --not-looked-at\n```\n"))
    assert block.reason is None
    assert doc_blocks.unknown_options(block) == ["hyperline run --sauce: no such option"]


def test_a_command_that_is_gone_is_found(page):
    (block,) = doc_blocks.blocks(page("```sh\nhyperline radiometry cook x.npz\n```\n"))
    assert doc_blocks.unknown_options(block) == ["hyperline radiometry cook: no such command"]


def test_a_block_that_fails_names_its_place(page, tmp_path):
    with pytest.raises(RuntimeError, match=r"page.md:2: exit code 3\n(.|\n)*spoilt"):
        doc_blocks.run_page(page("```sh\necho spoilt; exit 3\n```\n"), tmp_path, quick=False)


def test_quick_options_go_to_their_command_alone(page):
    text = "<!-- run with: train --epochs 1 -->\n```sh\nhyperline train a --out b  # an hour\nhyperline export b\n```\n"
    (block,) = doc_blocks.blocks(page(text))
    assert block.quick == "hyperline train a --out b --epochs 1  # an hour\nhyperline export b\n"
