"""GPUs through NVIDIA's library: a stand-in of it, and the real one where it is."""

import os
import sys
import types

import pytest

from hyperline.conditions import read_conditions
from hyperline.errors import HyperlineError, InputError
from hyperline.nvml import Nvml
from hyperline.power import find_sensors


class FakeError(Exception):
    pass


@pytest.fixture
def pynvml(monkeypatch):
    """Two GPUs: one counts its energy, as since Volta; the other says its power alone."""
    fake = types.ModuleType("pynvml")
    fake.NVMLError = FakeError
    fake.energy, fake.power = {"a": 5_000}, {"a": 70_000, "b": 30_000}  # mJ, mW

    def per_gpu(values):
        def ask(handle, *_):
            if handle not in values:
                raise FakeError("Not Supported")
            return values[handle]

        return ask

    fake.nvmlInit = lambda: None
    fake.nvmlSystemGetDriverVersion = lambda: b"550.54.15"
    fake.nvmlSystemGetCudaDriverVersion = lambda: 12040
    fake.nvmlDeviceGetCount = lambda: 2
    fake.nvmlDeviceGetHandleByIndex = lambda index: "ab"[index]
    fake.nvmlDeviceGetName = lambda handle: {"a": "H100", "b": "GTX 1080"}[handle]
    fake.nvmlDeviceGetTotalEnergyConsumption = per_gpu(fake.energy)
    fake.nvmlDeviceGetPowerUsage = per_gpu(fake.power)
    fake.nvmlDeviceGetCurrentClocksThrottleReasons = per_gpu({"a": 0x04 | 0x01, "b": 0})
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_a_gpu_is_read_by_its_counter_and_an_old_one_by_its_power(pynvml, tmp_path):
    first, second = find_sensors(tmp_path).sensors
    assert (first.rails, first.counts, first.read()) == (("H100 0",), "joules", (5.0,))
    assert (second.rails, second.counts, second.read()) == (("GTX 1080 1",), "watts", (30.0,))
    assert first.on_gpu and second.on_gpu


def test_a_gpu_without_either_is_no_sensor(pynvml, tmp_path):
    pynvml.energy.clear()
    pynvml.power.clear()
    assert find_sensors(tmp_path).sensors == ()


def test_reasons_to_be_slow_are_named_and_having_nothing_to_do_is_none(pynvml):
    nvml = Nvml()
    assert (nvml.driver, nvml.cuda) == ("550.54.15", "12.4")
    assert nvml.throttling(nvml.gpus[0]) == ["power cap"] and nvml.throttling(nvml.gpus[1]) == []


def test_clock_temperature_and_throttling_of_a_gpu_are_among_the_conditions(pynvml, tmp_path):
    pynvml.nvmlDeviceGetClockInfo = lambda handle, kind: {("a", 1): 1980, ("b", 1): 1700}[handle, kind]
    pynvml.nvmlDeviceGetTemperature = lambda handle, kind: {("a", 0): 41, ("b", 0): 60}[handle, kind]
    held = read_conditions(tmp_path, Nvml())
    assert held.gpu_mhz == {"H100 0": 1980.0, "GTX 1080 1": 1700.0}
    assert held.celsius == {"H100 0": 41.0, "GTX 1080 1": 60.0} and held.throttled == ("H100 0: power cap",)


def test_memory_is_that_of_this_process_alone(pynvml):
    def process(pid, used):
        return types.SimpleNamespace(pid=pid, usedGpuMemory=used)

    pynvml.nvmlDeviceGetComputeRunningProcesses = lambda handle: {
        "a": [process(os.getpid(), 100), process(1, 999)],
        "b": [process(os.getpid(), None)],
    }[handle]
    assert Nvml().process_bytes() == 100


def test_a_gpu_without_the_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    (tmp_path / "proc/driver/nvidia/gpus").mkdir(parents=True)
    (problem,) = find_sensors(tmp_path).problems
    assert "pip install 'hyperline[power]'" in problem


def test_without_a_gpu_nobody_asks_for_the_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find_sensors(tmp_path).problems == ()
    with pytest.raises(InputError, match="hyperline\\[power\\]"):
        Nvml()


def test_the_real_library_says_its_gpus_or_that_there_are_none():
    pytest.importorskip("pynvml")
    try:
        nvml = Nvml()
    except HyperlineError as error:
        assert "nvidia-smi" in str(error)
    else:
        assert all(gpu.name for gpu in nvml.gpus)
