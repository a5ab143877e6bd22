"""The command blocks of the documentation: which run, which do not and why, and whether their options exist.

    python tools/doc_blocks.py                         # every block, and what becomes of it
    python tools/doc_blocks.py --run docs/tutorial.md  # those of pages, as written, each in a folder of its own

A command block is a fence marked ``sh``. It runs, unless the line before it is ``<!-- not run: REASON -->``.
``<!-- run with: COMMAND OPTIONS -->`` appends options to that command of hyperline when the block is run by --quick or
by a test: an epoch for sixty. All pages but the tutorial start in the folder that the tutorial left.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from markdown_it import MarkdownIt

from hyperline.cli.main import hyperline

ROOT = Path(__file__).resolve().parent.parent
TUTORIAL = ROOT / "docs" / "tutorial.md"
# Written by programs, with the commands that made them: tools/results.py and hyperline benchmark run those.
_MEASURED = ("docs/results/", "docs/accuracy.md")
_NOT_RUN = re.compile(r"<!-- not run: (?P<reason>.+) -->")
_RUN_WITH = re.compile(r"<!-- run with: (?P<command>\w+) (?P<options>.+) -->")
_COMMAND = re.compile(
    r"(hyperline|pip|pip3|python|python3|make|sudo|apt|apt-get|dask|openssl|git|\.venv/bin/\w+) +[\w'.\[/-]|\$ "
)
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


@dataclass(frozen=True)
class Block:
    """One command block.

    Attributes:
        page: file that it stands in.
        line: of its first command, from 1.
        text: the commands.
        reason: why it is not run; None where it is.
        extra: command of hyperline and the options that make it quick; None where there are none.
    """

    page: Path
    line: int
    text: str
    reason: str | None
    extra: tuple[str, str] | None

    @property
    def place(self) -> str:
        """Page and line, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def quick(self) -> str:
        """The commands with the options that make them quick."""
        if self.extra is None:
            return self.text
        command, options = self.extra
        return re.sub(rf"^(hyperline {command}\b[^#\n]*?)(\s*(?:#.*)?)$", rf"\1 {options}\2", self.text, flags=re.M)


def pages() -> list[Path]:
    """Return the pages whose commands count: of the repository's root and of docs."""
    found = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
    return [page for page in found if not str(page.relative_to(ROOT)).startswith(_MEASURED)]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the command blocks of a page.

    Raises:
        ValueError: a command stands in an indented block, a mark before no block, or a block of sh holds another mark.
    """
    before = ""
    for token in MarkdownIt().parse(page.read_text()):
        if token.map is None or token.level:
            continue
        line = token.map[0] + 1
        fence = token.type == "fence" and token.info.split()[:1] in (["sh"], ["console"], ["bash"])
        if token.type == "code_block" and _COMMAND.match(token.content):
            raise ValueError(f"{page.relative_to(ROOT)}:{line}: a command in an indented block; fence it with ```sh")
        if before and not fence:
            raise ValueError(f"{page.relative_to(ROOT)}:{line}: {before} stands before no command block")
        if fence:
            if token.info != "sh":
                raise ValueError(f"{page.relative_to(ROOT)}:{line}: fence commands with ```sh, not ```{token.info}")
            reason, extra = _NOT_RUN.fullmatch(before), _RUN_WITH.fullmatch(before)
            yield Block(
                page,
                line + 1,
                token.content,
                reason["reason"] if reason else None,
                (extra["command"], extra["options"]) if extra else None,
            )
        content = token.content.strip()
        marked = token.type == "html_block" and re.match(r"<!-- (not run|run with)", content)
        before = content if marked else ""
        if marked and not (_NOT_RUN.fullmatch(content) or _RUN_WITH.fullmatch(content)):
            raise ValueError(f"{page.relative_to(ROOT)}:{line}: {content} is no mark: <!-- not run: REASON -->")


def unknown_options(block: Block) -> list[str]:
    """Return what a block asks of hyperline that the command line does not know."""
    wrong = []
    text = re.sub(r"(^|\s)#.*", "", re.sub(r"\\\n", " ", block.text))
    for found in re.finditer(r"(?<![\w./-])hyperline (?P<rest>[^\n|&;]*)", text):
        words = found["rest"].split()
        command: click.Command = hyperline
        named = []
        for word in (one for one in words if not one.startswith("-")):
            if not isinstance(command, click.Group):
                break
            child = command.get_command(click.Context(command), word)
            if child is None:
                wrong.append(f"hyperline {' '.join([*named, word])}: no such command")
                break
            named.append(word)
            command = child
        parameters = command.get_params(click.Context(command))
        known = {option for one in parameters for option in (*one.opts, *one.secondary_opts)}
        known |= {"--help"} | ({"--version"} if command is hyperline else set())
        asked = (option for option in _OPTION.findall(found["rest"]) if option not in known)
        wrong += [f"hyperline {' '.join(named)} {option}: no such option" for option in asked]
    return wrong


def run_page(page: Path, folder: Path, quick: bool) -> None:
    """Run the blocks of a page one after the other in a folder.

    Raises:
        RuntimeError: a block failed; the message has its place and the end of what it printed.
    """
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"XDG_CACHE_HOME": str(folder / ".cache"), "COLUMNS": "120"}
    for block in blocks(page):
        if block.reason is not None:
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.quick if quick else block.text],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{block.place}: exit code {done.returncode}\n{block.text}\n{done.stdout[-3000:]}")


def run_pages(asked: list[Path], folder: Path, quick: bool) -> Iterator[Path]:
    """Run the tutorial, then each page in a copy of the folder that it left; yield each page that ran."""
    start = folder / "tutorial"
    start.mkdir()
    run_page(TUTORIAL, start, quick)
    yield TUTORIAL
    for page in asked:
        if page != TUTORIAL and any(block.reason is None for block in blocks(page)):
            own = folder / page.stem
            shutil.copytree(start, own)
            run_page(page, own, quick)
            yield page


def main() -> None:
    """List the blocks, or run those of some pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs="*", type=Path, metavar="PAGE", help="pages to run; none named: all")
    parser.add_argument("--quick", action="store_true", help="with the options that pages give for tests")
    arguments = parser.parse_args()
    if arguments.run is None:
        for page in pages():
            for block in blocks(page):
                print(f"{block.place}: {'runs' if block.reason is None else f'not run: {block.reason}'}")
        return
    asked = [page.resolve() for page in arguments.run] or pages()
    with tempfile.TemporaryDirectory() as folder:
        for page in run_pages(asked, Path(folder), arguments.quick):
            print(f"{page.relative_to(ROOT)} ran")


if __name__ == "__main__":
    main()
