"""Lay out build/dev/hyperline as links, so that type checkers see the package as it installs.

The stages are top-level folders of the repository and subpackages of ``hyperline`` once installed
(pyproject.toml, tool.scikit-build.wheel.packages). A type checker does not know that table.
"""

from pathlib import Path

STAGES = ("train", "export", "runtime", "plugins", "calibration")


def main() -> None:
    """Rebuild the links; nothing else lives in build/dev."""
    root = Path(__file__).resolve().parent.parent
    package = root / "build" / "dev" / "hyperline"
    package.mkdir(parents=True, exist_ok=True)
    for link in package.iterdir():
        link.unlink()
    targets = [path for path in (root / "hyperline").iterdir() if path.name != "__pycache__"]
    targets += [root / stage for stage in STAGES]
    for target in targets:
        (package / target.name).symlink_to(target)


if __name__ == "__main__":
    main()
