"""The reference against what is known on paper."""

import numpy as np

from hyperline.plugins import reference


def test_a_scan_of_one_channel_and_state_is_the_geometric_sum():
    # softplus(delta) = 1 and A = log(1/2): h halves at each step and takes in u B.
    length = 6
    u = np.ones((1, length, 1))
    y, h = reference.selective_scan(
        u=u,
        delta=np.full_like(u, np.log(np.e - 1)),
        A=np.log([[0.5]]),
        B=np.ones((1, length, 1)),
        C=np.ones((1, length, 1)),
        D=np.array([10.0]),
        delta_bias=np.zeros(1),
        h0=np.zeros((1, 1, 1)),
        mask=np.ones((1, 1)),
        reverse=False,
    )
    expected = 2 - 0.5 ** np.arange(length)
    np.testing.assert_allclose(y[0, :, 0], expected + 10)
    np.testing.assert_allclose(h[0, 0, 0], expected[-1])


def test_the_gate_keeps_softmax_weights_without_renormalising():
    weights, active = reference.expert_gate(np.log([[1.0, 2.0, 3.0, 4.0]]), k=2)
    np.testing.assert_allclose(weights, [[0, 0, 0.3, 0.4]])
    np.testing.assert_array_equal(active, [[0, 0, 1, 1]])
