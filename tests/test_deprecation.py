"""Nothing goes away without a word, and nothing that was to go stays."""

import ast
from pathlib import Path

import pytest
from packaging.version import InvalidVersion, Version

import hyperline
from hyperline.deprecation import warn_deprecated

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("hyperline", "train", "export", "runtime", "plugins", "calibration")
NO_VERSION = ["line 1: removed_in must be a version, written out"]
STAYED = ["line 1: was to go in 0.2.0, and this is 0.2.0: remove it"]
HELPER = ROOT / "hyperline" / "deprecation.py"


def faults(source, now):
    """Return what is wrong with the deprecations of a file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name == "warn" and any(getattr(one, "id", "") == "DeprecationWarning" for one in ast.walk(node)):
            found.append(f"line {node.lineno}: use hyperline.deprecation, which asks for the version")
        if name != "warn_deprecated":
            continue
        version = next((one.value for one in node.keywords if one.arg == "removed_in"), None)
        try:
            goes = Version(ast.literal_eval(version))
        except (InvalidVersion, ValueError, TypeError):
            found.append(f"line {node.lineno}: removed_in must be a version, written out")
            continue
        if goes <= Version(now):
            found.append(f"line {node.lineno}: was to go in {goes}, and this is {now}: remove it")
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_deprecation_names_a_version_to_come(folder):
    files = [path for path in (ROOT / folder).rglob("*.py") if path != HELPER]
    assert files
    wrong = {str(path): fault for path in files if (fault := faults(path.read_text(), hyperline.__version__))}
    assert wrong == {}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ('warn_deprecated("a", removed_in="0.3.0", instead="b")', []),
        (
            'warn_deprecated("a", removed_in="0.2.0", instead="b")',
            STAYED,
        ),
        (
            'deprecation.warn_deprecated("a", removed_in="soon", instead="b")',
            NO_VERSION,
        ),
        ('warn_deprecated("a", removed_in=NEXT, instead="b")', NO_VERSION),
        ('warn_deprecated("a", instead="b")', NO_VERSION),
        ('warnings.warn("a", DeprecationWarning)', ["line 1: use hyperline.deprecation, which asks for the version"]),
        ('warnings.warn("a", UserWarning)', []),
    ],
)
def test_what_is_wrong_with_one_is_found(call, said):
    assert faults(call, "0.2.0") == said


def test_the_warning_names_what_goes_when_and_what_instead_and_points_at_the_caller():
    def old():
        warn_deprecated("hyperline.old()", removed_in="9.0.0", instead="call hyperline.new()")

    with pytest.warns(DeprecationWarning, match=r"hyperline.old\(\) goes away in hyperline 9.0.0; call") as caught:
        old()
    assert caught[0].filename == __file__
