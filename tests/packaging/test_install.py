"""The installer for Jetsons, on made-up system trees: it looks before it changes, and leaves all or nothing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "packaging" / "install.sh"
LIBRARIES = ("libhyperline_ops.so", "libhyperline_ort.so", "libhyperline_cuda.so", "libhyperline_trt.so")
ORIN = "nvidia,p3768-0000+p3767-0000\0nvidia,p3767-0000\0nvidia,tegra234\0"
THOR = "nvidia,p3971-0000+p3834-0008\0nvidia,tegra264\0"
# What NvInferVersion.h says in TensorRT 10.3 and, by way of another macro, in 10.13.
VERSIONS = {
    "10.3": "#define NV_TENSORRT_MAJOR 10 //!< TensorRT major version.\n#define NV_TENSORRT_MINOR 3 //!< minor\n",
    "10.13": "#define TRT_MAJOR_ENTERPRISE 10\n#define TRT_MINOR_ENTERPRISE 13\n"
    "#define NV_TENSORRT_MAJOR TRT_MAJOR_ENTERPRISE //!< TensorRT major version.\n",
    "8.6": "#define NV_TENSORRT_MAJOR 8\n#define NV_TENSORRT_MINOR 6\n",
}
# Every command of the system logs its call, and fails where FAIL names it.
COMMAND = """#!/bin/sh
here=$(dirname "$0")
name=$(basename "$0")
echo "$name $*" >> "$here/log"
[ "$FAIL" = "$name $1" ] && exit 1
[ "$KILL" = "$name $1" ] && kill -9 $PPID && sleep 5
[ "$STOP" = "$name $1" ] && kill -TERM $PPID
true
"""
PIP = """
libraries=$(dirname "$(dirname "$0")")/lib/python3.10/site-packages/hyperline/plugins/lib
mkdir -p "$libraries"
for name in ${BUILT:-LIBRARIES}; do : > "$libraries/$name"; done
"""


class System:
    """A made-up system tree, and the installer on it."""

    def __init__(self, root: Path, source: Path) -> None:
        self.root, self.script = root, source / "packaging" / "install.sh"

    def write(self, place: str, text: str = "", mode: int = 0o644) -> Path:
        file = self.root / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return file

    def command(self, name: str, body: str) -> None:
        self.write(f"commands/{name}", COMMAND + body, 0o755)

    def install(self, *options: str, answer: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", self.script, "--root", self.root, *options],
            input=answer,
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"], **environment},
            timeout=60,
        )

    def tree(self) -> dict[str, str]:
        """Every file, folder and link, but for what only the made-up commands write."""
        held = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if name == "commands/log":
                continue
            if path.is_symlink():
                held[name] = f"-> {path.readlink()}"
            else:
                held[name] = "folder" if path.is_dir() else path.read_bytes().decode(errors="replace")
        return held

    def calls(self) -> list[str]:
        log = self.root / "commands" / "log"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The files of the repository that the installer looks at, with fetched headers."""
    folder = tmp_path / "source"
    for name in ("packaging/install.sh", "packaging/hyperline@.service", "pyproject.toml", "CMakeLists.txt",
                 "constraints.txt", "tests/bundle/tiny.hlb"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for name in ("plugins/cuda", "plugins/tensorrt", "build/onnxruntime/usr/include/onnxruntime"):
        (folder / name).mkdir(parents=True)
    (folder / "build/onnxruntime/usr/include/onnxruntime/onnxruntime_cxx_api.h").touch()
    return folder


@pytest.fixture
def jetson(tmp_path: Path, source: Path) -> System:
    """An Orin with JetPack 6.2."""
    system = System(tmp_path / "jetson", source)
    system.write("etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 38968081\n")
    system.write("proc/device-tree/compatible", ORIN)
    system.write("proc/meminfo", "MemTotal: 7802880 kB\nMemFree: 1 kB\nMemAvailable: 5802880 kB\n")
    system.write("proc/sys/net/core/rmem_max", "212992\n")
    system.write("sys/class/net/eth1/mtu", "1500\n")
    system.write("etc/group", "root:x:0:\nvideo:x:44:\nrender:x:104:\n")
    system.write(
        "usr/local/cuda/version.json", '{\n "cuda" : {\n  "name" : "CUDA SDK",\n  "version" : "12.6.11"\n }\n}\n'
    )
    system.write("usr/local/cuda/bin/nvcc", mode=0o755)
    system.write("usr/include/aarch64-linux-gnu/NvInferVersion.h", VERSIONS["10.3"])
    system.write("usr/include/aarch64-linux-gnu/NvInferRuntimePlugin.h")
    for folder in ("etc/systemd/system", "etc/sysctl.d", "etc/udev/rules.d", "var/lib", "usr/local/bin", "opt"):
        (system.root / folder).mkdir(parents=True, exist_ok=True)
    system.command("id", '[ "$1" = -u ] && { echo ${USER_ID:-0}; exit; }\n[ -e "$here/user" ]\n')
    system.command("uname", "echo ${MACHINE:-aarch64}\n")
    system.command("nproc", "echo 6\n")
    system.command(
        "df", 'echo "Filesystem 1024-blocks Used Available Capacity Mounted"; echo "/dev/x 9 9 ${FREE:-8000000} 1% /"\n'
    )
    system.command("g++", "echo ${COMPILER:-11}\n")
    system.command("useradd", ': > "$here/user"\n')
    system.command("userdel", 'rm "$here/user"\n')
    for name in ("systemctl", "sysctl", "ip", "udevadm", "chown", "sync"):
        system.command(name, "")
    system.command("nvpmodel", '[ "$1" = -q ] && printf "NV Power Mode: 15W\\n0\\n"; exit 0\n')
    system.command("jetson_clocks", '[ "$1" = --store ] && echo stored > "$2"; exit 0\n')
    # python3: the system's own, which makes an environment whose python is the pip below.
    system.command("pip", PIP.replace("LIBRARIES", " ".join(LIBRARIES)))
    system.command("verify", "")
    system.command(
        "python3",
        """
case "$1 $2" in
"-c import sys"*) echo ${PYTHON:-3.10} ;;
"-c import tensorrt") [ -z "$NO_TENSORRT" ] ;;
"-m venv") mkdir -p "$4/bin"; cp "$here/pip" "$4/bin/python"; cp "$here/verify" "$4/bin/hyperline" ;;
esac
""",
    )
    return system


def thor(system: System) -> None:
    system.write("etc/nv_tegra_release", "# R38 (release), REVISION: 4.0, GCID: 43443517\n")
    system.write("proc/device-tree/compatible", THOR)
    system.write("usr/local/cuda/version.json", '{ "cuda" : {\n "version" : "13.0.48"\n } }\n')
    system.write("usr/include/aarch64-linux-gnu/NvInferVersion.h", VERSIONS["10.13"])


def test_a_jetson_with_all_that_is_needed_is_looked_at_and_left_as_it_was(jetson: System) -> None:
    before = jetson.tree()
    looked = jetson.install("--check", "--camera", "eth1")
    assert looked.returncode == 0, looked.stdout + looked.stderr
    for fact in ("L4T 36.4.3", "compute capability 8.7", "12.6.11", "headers of 10.3", "3.10", "Nothing was changed."):
        assert fact in looked.stdout
    assert "FAULT" not in looked.stdout
    assert jetson.tree() == before
    assert not [call for call in jetson.calls() if call.split()[0] in ("useradd", "systemctl", "sysctl", "ip")]


def test_jetpack_7_on_a_thor_is_compiled_for_its_gpu(jetson: System) -> None:
    thor(jetson)
    done = jetson.install("--yes", PYTHON="3.12")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "headers of 10.13" in done.stdout
    pip = (jetson.root / "opt/hyperline/bin/log").read_text()
    assert "-Ccmake.define.CMAKE_CUDA_ARCHITECTURES=110-real" in pip
    assert "cuda-bindings==13.*" in pip


@pytest.mark.parametrize(
    ("change", "environment", "word"),
    [
        (None, {"MACHINE": "x86_64"}, "take the wheel"),
        (None, {"USER_ID": "1000"}, "sudo"),
        (None, {"PYTHON": "3.8"}, "3.10 or newer"),
        (None, {"COMPILER": "9"}, "11 or newer"),
        (None, {"FREE": "1000"}, "0 MiB free at /opt/hyperline; 3072 are needed"),
        (None, {"NO_TENSORRT": "1"}, "apt install python3-libnvinfer"),
        (("etc/nv_tegra_release", "# R35 (release), REVISION: 6.0, GCID: 1\n"), {}, "JetPack 6.2"),
        (("etc/nv_tegra_release", None), {}, "no Jetson"),
        (("usr/local/cuda/bin/nvcc", None), {}, "apt install nvidia-jetpack"),
        (("usr/local/cuda/version.json", '{"cuda": {\n"version" : "12.2.1"\n}}'), {}, "older than 12.6"),
        (("usr/local/cuda/version.json", "{}"), {}, "does not say its version"),
        (("usr/include/aarch64-linux-gnu/NvInferVersion.h", VERSIONS["8.6"]), {}, "headers of 8.6; 10.3 or newer"),
        (("usr/include/aarch64-linux-gnu/NvInferRuntimePlugin.h", None), {}, "apt install libnvinfer-dev"),
        (("proc/device-tree/compatible", "nvidia,tegra999\0"), {}, "--gpu 87"),
        (("proc/meminfo", "MemAvailable: 900000 kB\n"), {}, "add swap"),
        (("etc/systemd/system/hyperline@.service", "mine"), {}, "hyperline@.service is there, and not from here"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_with_its_cure_and_nothing_changes(jetson: System, change, environment, word) -> None:
    if change is not None:
        place, text = change
        (jetson.root / place).unlink(missing_ok=True)
        if text is not None:
            jetson.write(place, text, 0o755)
    before = jetson.tree()
    refused = jetson.install("--yes", **environment)
    assert refused.returncode == 2
    (line,) = [line for line in refused.stdout.splitlines() if "FAULT" in line]
    assert word in line
    assert jetson.tree() == before


def test_all_faults_are_said_at_once(jetson: System) -> None:
    refused = jetson.install("--yes", MACHINE="x86_64", PYTHON="3.8", FREE="1", COMPILER="4")
    assert refused.stdout.count("FAULT") == 4
    assert "4 fault(s); nothing was changed." in refused.stderr


def test_missing_headers_of_onnx_runtime_are_a_fault_and_not_a_slower_install(jetson: System, source: Path) -> None:
    shutil.rmtree(source / "build")
    refused = jetson.install("--yes")
    assert refused.returncode == 2
    assert "fetch_onnxruntime_headers" in refused.stdout


def test_without_a_yes_nothing_changes(jetson: System) -> None:
    before = jetson.tree()
    for answer in ("", "n\n"):
        assert jetson.install(answer=answer).returncode == 0
        assert jetson.tree() == before


FULL = ("--yes", "--camera", "eth1", "--power-mode", "2", "--clocks")


def test_it_installs_what_it_said_and_undo_leaves_what_was_there(jetson: System) -> None:
    before = jetson.tree()
    done = jetson.install(*FULL)
    assert done.returncode == 0, done.stdout + done.stderr
    held = jetson.tree()
    assert held["usr/local/bin/hyperline"] == "-> /opt/hyperline/bin/hyperline"
    assert held["etc/systemd/system/hyperline@.service"] == (ROOT / "packaging/hyperline@.service").read_text()
    assert held["etc/sysctl.d/60-hyperline.conf"] == "net.core.rmem_max = 16777216\n"
    assert 'KERNEL=="eth1", ATTR{mtu}="9000"' in held["etc/udev/rules.d/60-hyperline.rules"]
    calls = jetson.calls()
    assert "sysctl -q -w net.core.rmem_max=16777216" in calls
    assert "nvpmodel -m 2" in calls and "jetson_clocks " in calls
    assert any(call.startswith("useradd --system") and "--groups video,render hyperline" in call for call in calls)
    assert not any(word in call for call in calls for word in ("enable", "start"))

    undone = jetson.install("--undo")
    assert undone.returncode == 0, undone.stdout + undone.stderr
    assert jetson.tree() == before
    after = jetson.calls()[len(calls) :]
    for call in ("sysctl -q -w net.core.rmem_max=212992", "ip link set dev eth1 mtu 1500", "nvpmodel -m 0",
                 "userdel hyperline", "systemctl daemon-reload"):  # fmt: skip
        assert call in after
    assert any(call.startswith("jetson_clocks --restore") for call in after)
    assert "Nothing to take back" in jetson.install("--undo").stdout


def test_the_power_is_left_alone_where_nobody_asked(jetson: System) -> None:
    done = jetson.install("--yes")
    assert "advice  power" in done.stdout and "advice  clocks" in done.stdout
    assert not [call for call in jetson.calls() if call.startswith(("nvpmodel -m", "jetson_clocks", "sysctl", "ip "))]


def test_a_receive_buffer_that_is_larger_already_is_left_alone(jetson: System) -> None:
    jetson.write("proc/sys/net/core/rmem_max", "33554432\n")
    assert jetson.install("--yes", "--camera", "eth1").returncode == 0
    assert not (jetson.root / "etc/sysctl.d/60-hyperline.conf").exists()
    assert not [call for call in jetson.calls() if call.startswith("sysctl")]


STEPS = (
    "python3 -m",
    "python -m",
    "hyperline verify",
    "useradd --system",
    "chown -R",
    "systemctl daemon-reload",
    "sysctl -q",
    "udevadm control",
    "ip link",
    "nvpmodel -m",
    "jetson_clocks --store",
    "jetson_clocks ",
)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_fails_leaves_nothing_behind(jetson: System, step: str) -> None:
    before = jetson.tree()
    failed = jetson.install(*FULL, FAIL=step)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "taking back" in failed.stderr
    assert jetson.tree() == before


def test_one_who_stops_it_leaves_nothing_behind(jetson: System) -> None:
    before = jetson.tree()
    stopped = jetson.install(*FULL, STOP="ip link")
    assert stopped.returncode == 143, stopped.stdout + stopped.stderr
    assert jetson.tree() == before


@pytest.mark.parametrize("step", STEPS[::3])
def test_undo_takes_back_what_a_power_cut_left(jetson: System, step: str) -> None:
    before = jetson.tree()
    assert jetson.install(*FULL, KILL=step).returncode == -9
    assert jetson.install("--undo").returncode == 0
    assert jetson.tree() == before


def test_an_install_takes_back_what_a_power_cut_left_and_goes_on(jetson: System) -> None:
    before = jetson.tree()
    jetson.install(*FULL, KILL="ip link")
    again = jetson.install("--yes")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "broke off" in again.stdout
    assert jetson.install("--undo").returncode == 0
    assert jetson.tree() == before


def test_a_library_that_was_not_built_is_a_failure(jetson: System) -> None:
    before = jetson.tree()
    failed = jetson.install("--yes", BUILT=" ".join(LIBRARIES[:3]))
    assert failed.returncode == 1
    assert "libhyperline_trt.so was not built" in failed.stderr
    assert jetson.tree() == before


def test_undo_keeps_strips_and_what_was_edited(jetson: System) -> None:
    assert jetson.install("--yes").returncode == 0
    unit = jetson.write("etc/systemd/system/hyperline@.service", "mine")
    strip = jetson.write("var/lib/hyperline/strip/classes.img", "a flight")
    settings = jetson.write("etc/hyperline/field.conf", "BUNDLE=field.hlb")
    undone = jetson.install("--undo")
    assert undone.returncode == 0
    assert unit.read_text() == "mine" and strip.exists() and settings.exists()
    assert undone.stdout.count("  kept ") == 3
    assert not (jetson.root / "opt/hyperline").exists()


def test_a_second_install_is_refused_and_the_first_stays(jetson: System) -> None:
    assert jetson.install("--yes").returncode == 0
    held = jetson.tree()
    refused = jetson.install("--yes")
    assert refused.returncode == 2
    assert "--undo first" in refused.stdout
    assert jetson.tree() == held


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--prefix",), "--prefix needs a value"),
        (("--prefix", "opt"), "absolute path"),
        (("--prefix", "/"), "absolute path"),
        (("--prefix", "/opt/a b"), "letters, digits"),
        (("--camera", 'eth1"'), "letters, digits"),
        (("--fly",), "no option is called --fly"),
    ],
)
def test_options_that_make_no_sense_are_refused(jetson: System, options: tuple[str, ...], word: str) -> None:
    refused = jetson.install(*options)
    assert refused.returncode == 2
    assert word in refused.stderr
