"""The register report reads what ptxas prints, and misses nothing in silence."""

from pathlib import Path

import cuda_report
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools/cuda_report.py"
SCAN = "_ZN9hyperline50_GLOBAL__N__296a2d6f_17_selective_scan_cu_8c20bb1c13ChunkedKernelILi16E6__halfEEvNS_4ScanIT0_EE"
GATE = "_ZN9hyperline47_GLOBAL__N__6fca54ee_14_expert_gate_cu_2ff2a8e710GateKernelIfEEvNS_4GateIT_EE"


def message(symbol, gpu, registers, spilled=0, shared=""):
    return (
        f"ptxas info    : Compiling entry function '{symbol}' for 'sm_{gpu}'\n"
        f"ptxas info    : Function properties for {symbol}\n"
        f"    0 bytes stack frame, {spilled} bytes spill stores, {2 * spilled} bytes spill loads\n"
        f"ptxas info    : Used {registers} registers, used 1 barriers, {shared}600 bytes cmem[0]\n"
    )


def test_kernels_and_gpus_become_rows_and_columns():
    log = message(SCAN, 87, 116, shared="36864 bytes smem, ") + message(GATE, 87, 37) + message(GATE, 110, 33)
    table = cuda_report.format_table(cuda_report.read_usages(log)).splitlines()
    assert [cell.split() for cell in table[2:]] == [
        ["kernel", "shared", "sm_87", "sm_110"],
        ["chunked,", "16", "states,", "fp16", "36864", "116", "-"],
        ["gate,", "fp32", "0", "37", "33"],
    ]


def test_spilled_bytes_stand_beside_the_registers():
    [usage] = cuda_report.read_usages(message(SCAN, 90, 128, spilled=8))
    assert usage.spilled_bytes == 24
    assert "128+24" in cuda_report.format_table([usage])


@pytest.mark.parametrize("log", ["", "nothing of ptxas", message("_Z7unknownv", 87, 10)])
def test_a_log_that_cannot_be_read_is_an_error(log):
    with pytest.raises(ValueError, match="ptxas"):
        cuda_report.read_usages(log)
