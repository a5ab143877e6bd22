"""The licence of everything that hyperline, with any of its extras, brings along.

    python tools/licences.py        # the table; exit code 1 where something is not allowed

Read from the metadata of what is installed, from pyproject.toml down; what only some machines can install is in a table
here. PyTorch is its build for processors: those for NVIDIA's GPUs bring NVIDIA's own libraries too, which are closed.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent

# SPDX names. Those that ask for their source to be passed on ask it for themselves alone; none is changed here.
ALLOWED = {
    *("0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0"),
    *("ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Unlicense", "Zlib"),
    *("MPL-2.0", "EPL-2.0", "LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0-only", "LicenseRef-PublicDomain"),
}
# What classifiers and free text call them.
_SPOKEN = {
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "New BSD": "BSD-3-Clause",
    "BSD": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD 2-Clause License": "BSD-2-Clause",
    "Apache Software License": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "ISC License (ISCL)": "ISC",
    "The Unlicense (Unlicense)": "Unlicense",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.1-or-later",
    "Public Domain": "LicenseRef-PublicDomain",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
}
# Not to be installed on every machine: looked up where they are published.
ELSEWHERE = {
    "onnxruntime-gpu": "MIT",
    "pygobject": "LGPL-2.1-or-later",
    "tensorrt": "LicenseRef-NVIDIA-TensorRT",
    "tomli": "MIT",
}
# Of PyTorch's builds for NVIDIA's GPUs.
_CUDA_BUILD = re.compile(r"(nvidia|cuda)-")
# Closed, and only for those who choose to install it.
ALLOWED_BY_NAME = {"tensorrt": "LicenseRef-NVIDIA-TensorRT"}


@dataclass(frozen=True)
class Package:
    """One package.

    Attributes:
        name: canonical.
        version: that is installed; None where it is not.
        licence: an SPDX expression, or what the package says of itself where nobody knows what that means.
        extras: of hyperline that bring it; ``""`` is the base install.
    """

    name: str
    version: str | None
    licence: str
    extras: frozenset[str]

    @property
    def fault(self) -> str | None:
        """What is wrong with its licence, or None."""
        if ALLOWED_BY_NAME.get(self.name) == self.licence:
            return None
        if any(all(one.strip("() ") in ALLOWED for one in way.split(" AND ")) for way in self.licence.split(" OR ")):
            return None
        if re.search(r"\b(AGPL|GPL)\b", self.licence):
            return f"{self.name}: {self.licence}: hyperline could not be given on under its own licence"
        return f"{self.name}: {self.licence or 'not stated'}: not among those allowed in tools/licences.py"


def packages() -> list[Package]:
    """Return everything that hyperline brings, by name.

    Raises:
        ValueError: a package is neither installed nor in the table.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    found: dict[str, set[str]] = {}
    for extra, requirements in groups.items():
        own = [Requirement(text) for text in requirements]
        waiting = [one for one in own if canonicalize_name(one.name) != "hyperline"]
        seen: set[tuple[str, frozenset[str]]] = set()
        while waiting:
            requirement = waiting.pop()
            name, asked = canonicalize_name(requirement.name), frozenset(requirement.extras)
            if (name, asked) in seen:
                continue
            seen.add((name, asked))
            found.setdefault(name, set()).add(extra)
            for text in _requires(name):
                deeper = Requirement(text)
                if deeper.marker is None or any(deeper.marker.evaluate({"extra": one}) for one in asked or {""}):
                    waiting.append(deeper)
    return [Package(name, *_installed(name), frozenset(extras)) for name, extras in sorted(found.items())]


def _requires(name: str) -> list[str]:
    try:
        found = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [one for one in found if name != "torch" or not _CUDA_BUILD.match(one)]


def _installed(name: str) -> tuple[str | None, str]:
    """Return version and licence."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        if name not in ELSEWHERE:
            raise ValueError(f"{name} is not installed, and tools/licences.py does not know its licence") from None
        return None, ELSEWHERE[name]
    return distribution.version, licence_of(distribution.metadata)


def licence_of(metadata: importlib.metadata.PackageMetadata) -> str:
    """Return the SPDX expression that a package states, or what its words mean; empty where it says nothing."""
    stated = metadata.get("License-Expression")
    if stated:
        return str(stated)
    classifiers = [
        one.rpartition("::")[2].strip()
        for one in metadata.get_all("Classifier") or []
        if one.startswith("License ::") and not one.endswith("OSI Approved")
    ]
    words = classifiers or [(metadata.get("License") or "").strip().partition("\n")[0][:80]]
    return " AND ".join(_SPOKEN.get(one, one) for one in words)


def table(found: list[Package]) -> str:
    """Return packages as a table in Markdown."""
    rows = ["| package | version | licence | comes with |", "|---|---|---|---|"]
    for one in found:
        extras = "every install" if "" in one.extras else ", ".join(f"`[{extra}]`" for extra in sorted(one.extras))
        rows.append(f"| {one.name} | {one.version or 'not installed here'} | {one.licence} | {extras} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Print the table, and what is not allowed."""
    found = packages()
    print(table(found))
    faults = [one.fault for one in found if one.fault]
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
