"""Feed the product's readers damaged files and packets, for as long as it takes, and hold them to what they promise.

    python tools/fuzz.py --inputs 1000000                   headers, packets, bundles, runs and tables
    python tools/fuzz.py bundles --inputs 10000 --seed 7
    python tools/fuzz.py --replay bundles 7 4711            what came of one of them, and its files

Whatever a file or a packet holds: the reader takes it or refuses it with one clear error. It does not crash, hang (2 s
of processor time) or need more than 64 MiB of extra memory. ``graphs`` damages the ONNX model of a bundle that is
intact otherwise, and hands it to onnxruntime: what comes of that is onnxruntime's, and it runs only where it is named.

Exit code 1 where there is a finding; its files are kept, and it says how to see it again.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path

from fuzzing.worker import TARGETS, Tally, fuzz, save

DEFAULT = ("headers", "packets", "bundles", "runs", "tables")


class Progress:
    """Prints a line every hundred thousand inputs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.next = 100_000

    def __call__(self, tally: Tally) -> None:
        """Look whether it is time for a line."""
        if tally.cases >= self.next:
            print(
                f"{self.name}: {tally.cases} inputs, {tally.seconds:.0f} s, {tally.extra_mib:.1f} MiB extra", flush=True
            )
            self.next += 100_000


def report(name: str, seed: int, tally: Tally) -> None:
    """Print what came of a target."""
    found = f"{len(tally.findings)} findings" if tally.findings else "no finding"
    print(
        f"{name}: {tally.cases} inputs from seed {seed}, {sum(tally.done.values())} damages, {found}; "
        f"{tally.seconds:.0f} s, slowest {tally.slowest * 1e3:.0f} ms, at most {tally.extra_mib:.1f} MiB extra memory"
    )
    for title, counted in (("outcomes", tally.outcomes), ("damages", tally.done)):
        text = f"{title}: " + ", ".join(f"{what} {number}" for what, number in sorted(counted.items()))
        print(textwrap.fill(text, 116, initial_indent="  ", subsequent_indent="    "))
    sys.stdout.flush()


def replay(name: str, seed: int, index: int, folder: Path) -> int:
    """Run one case again, and say what came of it and where its files are."""
    kept = folder / f"{name}-{seed}-{index}"
    save(name, seed, index, kept)
    tally = fuzz(name, 1, seed=seed, first=index)
    for finding in tally.findings:
        print(f"FINDING {finding.fault}\n{finding.trace}")
    print(f"{', '.join(tally.done) or 'damage unknown'}: {', '.join(tally.outcomes) or 'no outcome'}; files in {kept}")
    return bool(tally.findings)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="for each target (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--findings", type=int, default=10, help="stop a target after so many (default: %(default)s)")
    parser.add_argument("--save", type=Path, default=Path("fuzz-findings"), help="folder for what was found")
    parser.add_argument("--replay", nargs=3, metavar=("TARGET", "SEED", "INDEX"), help="run one input again")
    arguments = parser.parse_args()
    if unknown := {*arguments.targets, *(arguments.replay or ())[:1]} - TARGETS.keys():
        parser.error(f"no target is called {', '.join(unknown)}; there are: {', '.join(TARGETS)}")
    if arguments.replay:
        name, seed, index = arguments.replay
        sys.exit(replay(name, int(seed), int(index), arguments.save))
    failed = False
    for name in arguments.targets or DEFAULT:
        tally = fuzz(
            name,
            arguments.inputs,
            seed=arguments.seed,
            first=arguments.first,
            most_findings=arguments.findings,
            progress=Progress(name),
        )
        for finding in tally.findings:
            save(name, arguments.seed, finding.index, arguments.save / f"{name}-{arguments.seed}-{finding.index}")
            print(
                f"FINDING {name}: {finding.fault} (--replay {name} {arguments.seed} {finding.index})\n{finding.trace}"
            )
        report(name, arguments.seed, tally)
        failed |= bool(tally.findings)
    sys.exit(failed)


if __name__ == "__main__":
    main()
