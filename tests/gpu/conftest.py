"""Cases and tolerances that the emulation on the host and the kernels on a GPU share."""

import numpy as np
import pytest

from hyperline.plugins import reference


class ScanCase:
    """Random inputs of SelectiveScan in the order of the operator, rounded to the number type under test.

    ``masked`` is the share of steps masked, ``mask_rows`` and ``mask_steps`` the mask's shape.
    """

    def __init__(
        self,
        seed,
        S=5,
        L=9,
        D=7,
        N=16,
        dtype=np.float32,
        reverse=False,
        initial_state=True,
        mask_rows=1,
        mask_steps=1,
        masked=0.0,
        delta_mean=-4.0,
    ):
        generator = np.random.default_rng(seed)
        self.dtype, self.reverse = np.dtype(dtype), reverse
        self.sizes = (S, L, D, N)

        def normal(*shape):
            return generator.standard_normal(shape, dtype=np.float32)

        self.inputs = {
            "u": normal(S, L, D).astype(dtype),
            "delta": (normal(S, L, D) + np.float32(delta_mean)).astype(dtype),
            "A": -np.exp(normal(D, N)),
            "B": normal(S, L, N).astype(dtype),
            "C": normal(S, L, N).astype(dtype),
            "D": normal(D),
            "delta_bias": normal(D),
            "h0": normal(S, D, N) if initial_state else np.zeros((1, D, N), np.float32),
            "mask": (generator.random((mask_rows, mask_steps)) >= masked).astype(np.float32),
        }

    def assert_close(self, y, h):
        """Compare with the reference: FP32 rtol 1e-5, atol 1e-6 of the state's scale; FP16 rtol 3e-3, atol 5e-3.

        The read-out sums N products of state and C and may cancel: its rounding is that of its largest terms.
        """
        expected_y, expected_h = reference.selective_scan(**self.inputs, reverse=self.reverse)
        scale = max(1.0, np.abs(expected_h).max(), np.abs(self.inputs["h0"]).max())
        if self.dtype == np.float16:
            np.testing.assert_allclose(h, expected_h, rtol=3e-3, atol=5e-3, err_msg="h")
            np.testing.assert_allclose(y.astype(np.float64), expected_y, rtol=3e-3, atol=5e-3, err_msg="y")
        else:
            read_scale = scale * max(1.0, np.abs(self.inputs["C"]).max()) * self.sizes[3] ** 0.5
            np.testing.assert_allclose(h, expected_h, rtol=1e-5, atol=1e-6 * scale, err_msg="h")
            np.testing.assert_allclose(y, expected_y, rtol=1e-5, atol=1e-6 * read_scale, err_msg="y")


@pytest.fixture(scope="session")
def scan_case():
    return ScanCase


# Each row differs from the first in one thing; the right column says why it is there.
SCAN_ROWS = {
    "odd sizes": {},
    "a first step that is the last": {"L": 1},
    "one sequence": {"S": 1},
    "one channel": {"D": 1},
    "one state": {"N": 1},
    "states that leave room in the registers": {"N": 5},
    "4 states": {"N": 4},
    "8 states": {"N": 8},
    "32 states": {"N": 32},
    "no history": {"initial_state": False},
    "a mask a step": {"mask_steps": 9, "masked": 0.4},
    "a mask a sequence": {"mask_rows": 5, "masked": 0.4},
    "a mask a sequence and step": {"mask_rows": 5, "mask_steps": 9, "masked": 0.4},
    "long steps": {"delta_mean": 3.0},
    "along track": {"S": 1024, "L": 8, "D": 16},
    "over the spectrum": {"S": 600, "L": 8, "D": 16, "initial_state": False},
    "across track": {"S": 8, "L": 1024, "D": 16, "initial_state": False},
    "across track, masked": {"S": 8, "L": 1024, "D": 16, "mask_rows": 8, "mask_steps": 1024, "masked": 0.1},
    "across track, the least expert": {"S": 4, "L": 512, "D": 4, "initial_state": False},
    "across track, more channels than a block": {"S": 3, "L": 200, "D": 19},
    "across track, 32 states": {"S": 2, "L": 257, "D": 5, "N": 32},
    "across track, slow decay": {"S": 4, "L": 1024, "D": 8, "delta_mean": -8.0},
    "more sequences than a warp, more steps than a chunk": {"S": 500, "L": 70, "D": 5},
}


@pytest.fixture(params=SCAN_ROWS.values(), ids=SCAN_ROWS.keys())
def scan_row(request):
    return request.param
