"""Where the time of a step goes."""

import onnx
import pytest

from hyperline.errors import InputError
from hyperline.runtime.bench.profile import profile_step, summarise


def event(name, operator, microseconds):
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": microseconds, "args": {"op_name": operator}}


def test_medians_of_nodes_are_added_up_by_operator_and_by_layer():
    events = [{"cat": "Session", "name": "model_run", "dur": 99999}]
    for block in range(15):
        events += [event("head/first", "MatMul", 3000 if block else 90000), event("head/second", "MatMul", 1000)]
        events += [event("third", "Add", 1000), {"cat": "Node", "name": "third_fence_before", "dur": 5, "args": {}}]
    profile = summarise(events)
    assert (profile.blocks, profile.nodes, profile.ms) == (10, 3, pytest.approx(5.0))
    assert [(row.name, row.nodes, row.ms, row.share) for row in profile.operators] == [
        ("MatMul", 2, pytest.approx(4.0), pytest.approx(0.8)),
        ("Add", 1, pytest.approx(1.0), pytest.approx(0.2)),
    ]
    assert [(row.name, row.nodes) for row in profile.layers] == [("head", 2), ("third", 1)]
    assert profile.layers[0].share == pytest.approx(0.8)


def test_the_nodes_of_the_profile_are_those_of_the_model_that_flies(bundle):
    profile = profile_step("ort-cpu", bundle, 16, "fp32", 1)
    held = {node.op_type for node in onnx.load_from_string(bundle.model()).graph.node}
    assert {"MatMul", "CumSum", "Softmax"} <= {row.name for row in profile.operators} <= held | {"FusedMatMul"}
    assert sum(row.share for row in profile.operators) == pytest.approx(1.0)
    assert profile.nodes == sum(row.nodes for row in profile.operators) and profile.blocks == 60


def test_an_engine_without_a_profiler_of_ours_is_refused(bundle):
    with pytest.raises(InputError, match="trtexec"):
        profile_step("tensorrt", bundle, 16, "fp32", 1)
