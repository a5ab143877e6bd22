"""The block that is classified again and again, and the arithmetic that it is held against."""

import numpy as np
import onnx
import onnxruntime

from hyperline.runtime.bench import floor, stepper, take_turns


def test_the_padding_of_an_odd_width_is_not_valid(bundle):
    blocks = []

    class Engine:
        def reset(self, samples):
            assert samples == 24

        def step(self, block):
            blocks.append(block)

    stepper(Engine(), bundle, 19)()
    assert blocks[0].valid.shape == (4, 24)
    assert not blocks[0].valid[:, 19:].any() and blocks[0].valid[:, :19].any()
    assert not blocks[0].lines[~blocks[0].valid].any()


def test_who_goes_first_changes_from_round_to_round():
    went = []
    take_turns([lambda: went.append("a"), lambda: went.append("b")], 1e-4)
    assert "".join(went[:2]) == "ab"  # the warm-up
    assert "".join(went[2:]).startswith("abba")


def test_the_product_that_is_timed_is_a_matrix_product():
    model = onnx.load_from_string(floor._product_model())
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(floor._product_model(), providers=["CPUExecutionProvider"])
    a, b = np.random.default_rng(0).standard_normal((2, 3, 3), dtype=np.float32)
    np.testing.assert_allclose(session.run(None, {"a": a, "b": b})[0], a @ b, rtol=1e-5)
