"""Time a newcomer: from a clean minimal Debian to a class map, with nothing but what docs/new-sensor.md says.

    make stopwatch
    python tools/stopwatch.py ../shared/data/hysu

A Debian 12 in a folder (tools/chroot.py) with `ca-certificates` and `sudo` and no Python gets the sources in
~/hyperline, and in ~/hysu a scene that is not in the repository: HySU as its ENVI header and TIFF, and its targets as
GeoJSON polygons. The targets are published as pixels, so the polygons are those pixels' outlines; drawing them is the
user's own work and is not timed. Debian's packages come from its mirror, those of Python from a folder that this
machine's pip filled, in place of the package index.

The command blocks of the page that are marked `make stopwatch` run as they stand, one after the other, in one shell.
Machine time is measured. Attention is counted by rule: reading at 200 words a minute (README up to the line that names
the page; the page up to the last command), 20 seconds a command, 30 seconds a picture to look at.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from chroot import CHROOTS, ROOT, Chroot, check, make_chroot
from dependencies import fetch_wheels
from doc_blocks import Block, blocks
from polygons import polygons
from wheels import copy_sources

from hyperline.scenes import read_georeference

PAGE = ROOT / "docs" / "new-sensor.md"
README = ROOT / "README.md"
MARK = "make stopwatch"
EXTRAS = "train,geo"  # that the page installs
SCENE_FILES = ("Full.hdr", "Full.tif")
TARGETS = "hysu_full.npz"
WORDS_A_MINUTE, SECONDS_A_COMMAND, SECONDS_A_PICTURE = 200, 20, 30
MAX_MINUTES = 15.0
# HySU by halves, the harder split, with three times as many labels: 84.8 % on the mean of ten seeds (docs/accuracy.md).
MIN_ACCURACY = 0.83
_SHOWN, _WIDTH = 3, 160  # last lines of what a command prints, and their length
_BEFORE = "::stopwatch::"  # stands before what no command prints


@dataclass(frozen=True)
class Attention:
    """What a person has to do.

    Attributes:
        words: to read.
        commands: to type or paste.
        pictures: to look at.
    """

    words: int
    commands: int
    pictures: int

    @property
    def minutes(self) -> float:
        """Time it takes, by the rule."""
        seconds = self.commands * SECONDS_A_COMMAND + self.pictures * SECONDS_A_PICTURE
        return self.words / WORDS_A_MINUTE + seconds / 60


@dataclass(frozen=True)
class Timed:
    """A command that was run.

    Attributes:
        text: as the page has it.
        seconds: that it took.
        printed: its lines.
    """

    text: str
    seconds: float
    printed: list[str]


def main() -> None:
    """Run the page and print the account; a wrong outcome, or too much attention, ends with exit code 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help=f"folder with {', '.join((*SCENE_FILES, TARGETS))} of HySU")
    data: Path = parser.parse_args().data
    if missing := [name for name in (*SCENE_FILES, TARGETS) if not (data / name).is_file()]:
        print(
            f"not timed: {data} has no {', '.join(missing)}; HySU is published with Cerra et al. 2021", file=sys.stderr
        )
        sys.exit(2)
    marked = [block for block in blocks(PAGE) if block.reason is not None and MARK in block.reason]
    chroot = fresh_debian()
    home = chroot.folder / "root"
    copy_sources(home / "hyperline")
    give_scene(data, home / "hysu")
    print("Debian 12: ca-certificates, sudo; ~/hyperline: the sources; ~/hysu: Full.hdr, Full.tif, targets.geojson")
    print("(targets.geojson: outlines of the published target pixels, for the targets are not published as polygons)\n")
    timed = run_session(chroot, [command for block in marked for command in commands(block)])
    for one in timed:
        print(f"$ {one.text}    # {one.seconds:.0f} s")
        print("".join(f"    {line[:_WIDTH]}\n" for line in one.printed[-_SHOWN:]), end="")
    pictures = sorted(str(path.relative_to(home)) for path in (home / "hysu").rglob("*.png"))
    attention = Attention(words_to_read(marked[-1]), len(timed), len(pictures))
    accuracy = check_outcome(home / "hysu", data)
    print(
        f"\nmap: STRIP/classes.hdr, 86 lines of 123 samples, all labelled; OA {accuracy:.2%} on pixels not trained on"
    )
    print(f"pictures: {', '.join(pictures)}")
    print(f"machine: {sum(one.seconds for one in timed) / 60:.1f} min")
    print(
        f"attention: {attention.words} words at {WORDS_A_MINUTE} a minute, {attention.commands} commands at "
        f"{SECONDS_A_COMMAND} s, {attention.pictures} pictures at {SECONDS_A_PICTURE} s: {attention.minutes:.1f} min"
    )
    if attention.minutes > MAX_MINUTES:
        sys.exit(f"more than {MAX_MINUTES:g} minutes of attention")


def fresh_debian() -> Chroot:
    """Copy a Debian that nothing was installed in, with the wheels that stand for the package index."""
    base = make_chroot("bookworm", platform.machine(), ("sudo",), python=False)
    fetch_wheels(base, EXTRAS)
    folder = CHROOTS / "stopwatch"
    if folder.exists():
        shutil.rmtree(folder)
    check(["cp", "--archive", "--reflink=auto", str(base.folder), str(folder)])
    return Chroot(folder, base.suite, base.machine)


def give_scene(data: Path, folder: Path) -> None:
    """Copy the scene, and outline its targets."""
    folder.mkdir(parents=True)
    for name in SCENE_FILES:
        shutil.copyfile(data / name, folder / name)
    place = read_georeference(data / "Full.hdr")
    if place is None:
        sys.exit(f"{data / 'Full.hdr'} does not say where it lies")
    with np.load(data / TARGETS) as arrays:
        drawn = polygons(arrays["labels_targets"], arrays["class_names"][1:].tolist(), place)
    (folder / "targets.geojson").write_text(json.dumps(drawn))


def commands(block: Block) -> list[str]:
    """Return the commands of a block, those over several lines in one piece, comments of a whole line left out."""
    lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def words_to_read(last: Block) -> int:
    """Count the words up to the line of README that names the page, and of the page up to its last command."""
    readme, _, _ = README.read_text().partition(f"](docs/{PAGE.name})")
    page = PAGE.read_text().splitlines()[: last.line - 1 + len(last.text.splitlines())]
    return len(readme.split()) + len("\n".join(page).split())


def run_session(chroot: Chroot, typed: list[str]) -> list[Timed]:
    """Run commands in one shell, as somebody would who types them; the first that fails ends this program."""
    script = ["set -eo pipefail", "exec 2>&1 </dev/null", "cd"]
    for command in typed:
        script += [f'echo "{_BEFORE} $EPOCHREALTIME"', command]
    script.append(f'echo "{_BEFORE} $EPOCHREALTIME"')
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "COLUMNS": "120", "DEBIAN_FRONTEND": "noninteractive"}
    printed = chroot.run(["bash", "-c", "\n".join(script)], **offline)
    parts = re.split(rf"^{_BEFORE} ([\d.]+)\n", printed, flags=re.MULTILINE)
    times = [float(one) for one in parts[1::2]]
    outputs = [re.split(r"[\r\n]+", one.strip()) for one in parts[2::2]]
    return [
        Timed(command, after - before, [line for line in output if line.strip()])
        for command, before, after, output in zip(typed, times[:-1], times[1:], outputs[:-1], strict=True)
    ]


def check_outcome(folder: Path, data: Path) -> float:
    """Look at the map; return its accuracy on labelled pixels that were not trained on."""
    with np.load(data / TARGETS) as arrays:
        shape = arrays["labels_targets"].shape
        classes = len(arrays["class_names"]) - 1
    header = (folder / "STRIP" / "classes.hdr").read_text()
    for key, expected in (("lines", shape[0]), ("samples", shape[1])):
        if not re.search(rf"^{key}\s*=\s*{expected}$", header, re.MULTILINE):
            sys.exit(f"STRIP/classes.hdr does not have {expected} {key}:\n{header}")
    labels = np.fromfile(folder / "STRIP" / "classes.img", np.uint8)
    if labels.size != shape[0] * shape[1] or not np.isin(labels, range(1, classes + 1)).all():
        sys.exit(f"STRIP/classes.img has {labels.size} pixels of classes {np.unique(labels).tolist()}")
    summary = json.loads((folder / "STRIP" / "summary.json").read_text())
    if not summary["native_ops"]:
        sys.exit("the map was made without native operators, which the page's installation is to bring")
    accuracy = float(summary["oa"])
    if accuracy < MIN_ACCURACY:
        sys.exit(f"OA {accuracy:.2%} is below {MIN_ACCURACY:.0%}")
    return accuracy


if __name__ == "__main__":
    main()
