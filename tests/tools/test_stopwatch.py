"""The stopwatch counts what a newcomer reads, types and looks at, and times commands in one shell."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytest.importorskip("rasterio", reason="needs rasterio, of hyperline[geo]")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stopwatch(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    before = set(sys.modules)
    import stopwatch as module

    yield module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(ROOT / "tools")):
            del sys.modules[name]


@dataclass
class Shell:
    """In place of a Debian: this machine's bash."""

    folder: Path
    environments: list[dict[str, str]] = field(default_factory=list)

    def run(self, arguments, **environment):
        self.environments.append(environment)
        return subprocess.run(
            arguments, env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder)}, stdout=subprocess.PIPE, text=True
        ).stdout


def test_attention_is_counted_by_the_stated_rule(stopwatch):
    assert stopwatch.Attention(words=1000, commands=15, pictures=4).minutes == pytest.approx(5 + 5 + 2)


def test_commands_run_in_one_shell_and_each_is_timed(stopwatch, tmp_path):
    shell = Shell(tmp_path)
    timed = stopwatch.run_session(shell, ["mkdir -p place", "cd place", "sleep 0.2", "pwd", "echo one; echo two >&2"])
    assert [one.text for one in timed][:2] == ["mkdir -p place", "cd place"]
    assert 0.2 <= timed[2].seconds < 5
    assert timed[3].printed == [str(tmp_path / "place")]
    assert timed[4].printed == ["one", "two"]
    assert shell.environments[0]["PIP_NO_INDEX"] == "1"


def test_a_command_over_several_lines_is_one(stopwatch):
    block = stopwatch.Block(
        stopwatch.PAGE, 1, "# a word\none --two \\\n    --three\n\nfour    # five\n", "reason", None
    )
    assert stopwatch.commands(block) == ["one --two --three", "four    # five"]


def test_the_page_leads_from_the_installation_to_a_map(stopwatch):
    marked = [one for one in stopwatch.blocks(stopwatch.PAGE) if one.reason and stopwatch.MARK in one.reason]
    typed = [command for block in marked for command in stopwatch.commands(block)]
    assert typed[0].startswith("sudo apt-get")
    assert any(stopwatch.EXTRAS in one for one in typed)
    assert typed[-1].startswith("hyperline run ") and typed[-1].endswith("--out STRIP")
    whole = len(stopwatch.README.read_text().split()) + len(stopwatch.PAGE.read_text().split())
    assert 500 < stopwatch.words_to_read(marked[-1]) < whole


def test_without_the_scene_it_says_so_and_exits_with_2(stopwatch, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["stopwatch.py", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        stopwatch.main()
    assert ended.value.code == 2
    assert "has no Full.hdr, Full.tif, hysu_full.npz" in capsys.readouterr().err
