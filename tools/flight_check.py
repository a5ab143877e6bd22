"""Install hyperline without extras into a virtual environment of its own, and use it there.

    python tools/flight_check.py

What flies must not need what trains: the check fails if torch, onnx or matplotlib come along, or if the commands
that fly cannot start.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ON_THE_GROUND_ONLY = {"torch", "onnx", "onnxscript", "matplotlib", "scipy", "scikit-learn", "h5py", "safetensors"}


def main() -> None:
    """Build, install, look, start; any failure ends with a non-zero exit code."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        install = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-c",
            ROOT / "constraints.txt",
            ROOT,
        ]
        subprocess.run([python, *install], check=True)
        listed = subprocess.run(
            [python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"],
            check=True,
            capture_output=True,
        )
        names = {package["name"].lower() for package in json.loads(listed.stdout)}
        if unwanted := names & ON_THE_GROUND_ONLY:
            sys.exit(f"the install without extras brings {', '.join(sorted(unwanted))}")
        command = python.parent / "hyperline"
        for arguments in (
            ["--version"],
            ["run", "--help"],
            ["replay", "--help"],
            ["bench", "--help"],
            ["verify", ROOT / "tests" / "bundle" / "tiny.hlb"],
        ):
            subprocess.run([command, *arguments], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    print(f"flight install: {len(names)} packages, none of {', '.join(sorted(ON_THE_GROUND_ONLY))}")


if __name__ == "__main__":
    main()
