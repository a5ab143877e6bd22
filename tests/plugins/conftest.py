import numpy as np
import pytest

from hyperline.plugins import reference


@pytest.fixture(scope="session")
def assert_scan_equals_reference():
    """Compares y and h with what the reference makes of the same inputs."""

    def check(y, h, inputs, reverse):
        expected_y, expected_h = reference.selective_scan(**inputs, reverse=reverse)
        # The read-out sums N products of state and C and may cancel: its rounding is that of its largest terms.
        scale = max(1.0, np.abs(expected_h).max(), np.abs(inputs["h0"]).max())
        read_scale = scale * max(1.0, np.abs(inputs["C"]).max()) * inputs["A"].shape[1] ** 0.5
        np.testing.assert_allclose(h, expected_h, rtol=1e-5, atol=1e-6 * scale)
        np.testing.assert_allclose(y, expected_y, rtol=1e-5, atol=1e-6 * read_scale)

    return check
