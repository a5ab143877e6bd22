"""The wheels: what their tags promise is what their libraries need, and a wheel that needs more is refused."""

import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import wheels
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

ROOT = Path(__file__).resolve().parents[2]
MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}


@pytest.fixture(params=MACHINES)
def built(request) -> Path:
    """A wheel of `make wheels`."""
    found = sorted((ROOT / "dist").glob(f"hyperline-*-{wheels.tag(request.param)}.whl"))
    if not found:
        pytest.skip(f"no wheel for {request.param} in dist: make wheels")
    return found[-1]


def libraries(wheel: Path, folder: Path) -> list[Path]:
    with zipfile.ZipFile(wheel) as archive:
        return [Path(archive.extract(name, folder)) for name in archive.namelist() if name.endswith(".so")]


def needed_glibc(library: Path) -> set[tuple[int, ...]]:
    """The versions of glibc that a library asks for, from its own table: auditwheel is not asked here."""
    with library.open("rb") as file:
        sections = [part for part in ELFFile(file).iter_sections() if isinstance(part, GNUVerNeedSection)]
        names = [version.name for part in sections for _, versions in part.iter_versions() for version in versions]
    return {tuple(map(int, name[6:].split("."))) for name in names if re.fullmatch(r"GLIBC_[\d.]+", name)}


def test_no_library_needs_a_newer_glibc_than_the_tag_says(built: Path, tmp_path: Path) -> None:
    promised = tuple(map(int, re.search(r"manylinux_(\d+)_(\d+)_", built.name).groups()))
    held = libraries(built, tmp_path)
    assert {library.name for library in held} == {"libhyperline_ops.so", "libhyperline_ort.so"}
    for library in held:
        needed = needed_glibc(library)
        assert needed and max(needed) <= promised, library.name


def test_every_library_is_for_the_machine_of_the_tag_and_finds_the_others_beside_it(built: Path, tmp_path) -> None:
    machine = built.stem.split("manylinux_2_35_")[1]
    for library in libraries(built, tmp_path):
        with library.open("rb") as file:
            elf = ELFFile(file)
            assert elf["e_machine"] == MACHINES[machine]
            paths = [tag.runpath for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_RUNPATH")]
        assert paths == ["$ORIGIN"]


def test_a_wheel_holds_what_runs_and_no_path_of_where_it_was_built(built: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(built) as archive:
        names = archive.namelist()
        assert names[:-5] == sorted(names[:-5])  # behind them: what describes the wheel
        assert len({entry.date_time for entry in archive.infolist()}) == 1
        assert {entry.external_attr >> 16 & 0o777 for entry in archive.infolist()} <= {0o644, 0o755}
    folders = {name.split("/")[1] for name in names if name.startswith("hyperline/")}
    assert {"train", "export", "runtime", "plugins", "calibration", "cli"} <= folders
    assert not [
        name for name in names if name.endswith((".cpp", ".cu", ".h", ".txt", ".pyc")) and "dist-info" not in name
    ]
    for library in libraries(built, tmp_path):
        assert b"/tmp/" not in library.read_bytes() and str(ROOT).encode() not in library.read_bytes()


def make_wheel(folder: Path, machine: str, source: str, names: tuple[str, ...]) -> Path:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler here")
    library = folder / "made.so"
    command = [compiler, "-shared", "-fPIC", "-nostartfiles", "-x", "c", "-", "-o", str(library)]
    subprocess.run(command, input=source, text=True, check=True)
    wheel = folder / f"hyperline-1.0-{wheels.tag(machine)}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in names:
            archive.write(library, name)
        archive.writestr("hyperline-1.0.dist-info/RECORD", "".join(f"{name},,\n" for name in names))
        archive.writestr("hyperline-1.0.dist-info/WHEEL", f"Root-Is-Purelib: false\nTag: {wheels.tag(machine)}\n")
    return wheel


PLAIN = '#include <stdlib.h>\nint f(const char *text) { return atoi(text) + abs(getenv("A") != 0); }\n'


def test_a_wheel_without_one_of_its_libraries_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "x86_64", PLAIN, wheels.LIBRARIES[:1])
    with pytest.raises(SystemExit, match=r"lacks hyperline/plugins/lib/libhyperline_ort\.so"):
        wheels.audit(wheel, "x86_64")


def test_a_library_of_another_machine_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "aarch64", PLAIN, wheels.LIBRARIES)
    with pytest.raises(SystemExit, match="'aarch64' architecture found"):
        wheels.audit(wheel, "aarch64")


def test_what_a_wheel_needs_beyond_its_tag_is_named(tmp_path: Path, monkeypatch) -> None:
    wheel = make_wheel(tmp_path, "x86_64", PLAIN, wheels.LIBRARIES)
    assert wheels.audit(wheel, "x86_64") == "GLIBC 2.2.5"
    monkeypatch.setattr(wheels, "GLIBC", (2, 4))
    with pytest.raises(SystemExit, match=r"in truth: it needs GLIBC 2\.2\.5"):
        wheels.audit(wheel, "x86_64")


def test_wheels_that_differ_are_refused_with_the_member(tmp_path: Path, capsys) -> None:
    files = []
    for folder, text, mode in (("a", "x", 0o644), ("b", "y", 0o644), ("c", "x", 0o600), ("d", "x", 0o644)):
        (tmp_path / folder).mkdir()
        files.append(tmp_path / folder / "hyperline.whl")
        with zipfile.ZipFile(files[-1], "w") as archive:
            entry = zipfile.ZipInfo("hyperline/__init__.py", (2026, 1, 1, 0, 0, 0))
            entry.external_attr = mode << 16
            archive.writestr(entry, text)
    first, other_text, other_mode, same = files
    for different in (other_text, other_mode):
        with pytest.raises(SystemExit, match=r"differs when built again, in hyperline/__init__\.py"):
            wheels.compare(first, different)
    wheels.compare(first, same)
    assert "the same in another folder" in capsys.readouterr().out
