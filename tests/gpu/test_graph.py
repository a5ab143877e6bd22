"""A CUDA graph captures the kernels and replays them on new inputs, as the runtime does once a block."""

import numpy as np


def test_a_captured_scan_streams_a_strip_as_one_call_scans_it(gpu, scan_case):
    blocks, block_lines = 5, 8
    # More channels of sequences than the chunked arrangement takes: a strip of any length is scanned as its blocks are.
    strip = scan_case(1, S=256, L=blocks * block_lines, D=16)
    torch = gpu.torch
    expected_y, expected_h = gpu.scan(strip)  # this also loads the kernel, which a capture could refuse to do

    stepwise = ("u", "delta", "B", "C")
    constants = {name: gpu.put(strip.inputs[name]) for name in ("A", "D", "delta_bias", "mask")}
    state = gpu.put(strip.inputs["h0"])
    block = {name: gpu.put(strip.inputs[name][:, :block_lines]) for name in stepwise}
    y = gpu.empty((256, block_lines, 16), np.float32)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        gpu.library.selective_scan(**block, **constants, h0=state, reverse=False, y=y, h=state, stream=gpu.stream())
    streamed = []
    for start in range(0, blocks * block_lines, block_lines):
        for name in stepwise:
            block[name].copy_(gpu.put(strip.inputs[name][:, start : start + block_lines]))
        graph.replay()
        streamed.append(y.cpu().numpy().copy())
    np.testing.assert_array_equal(np.concatenate(streamed, axis=1), expected_y)
    np.testing.assert_array_equal(state.cpu().numpy(), expected_h)


def test_a_captured_chunked_scan_and_gate_replay_on_new_inputs(gpu, scan_case):
    torch = gpu.torch
    first, second = (scan_case(seed, S=8, L=512, D=16) for seed in (1, 2))
    arrays = {name: gpu.put(array) for name, array in first.inputs.items()}
    y, h = gpu.empty((8, 512, 16), np.float32), gpu.empty((8, 16, 16), np.float32)
    logits = gpu.put(np.array([[1, 2, 3, 4]], np.float32))
    gpu.scan(first)  # load the kernels
    gpu.gate(np.zeros((1, 4), np.float32), 2)
    weights, active = gpu.empty((1, 4), np.float32), gpu.empty((1, 4), np.float32)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        gpu.library.selective_scan(**arrays, reverse=False, y=y, h=h, stream=gpu.stream())
        gpu.library.expert_gate(logits, 2, weights=weights, active=active, stream=gpu.stream())
    for case, row in ((first, [4, 3, 2, 1]), (second, [1, 4, 4, 4])):
        for name, array in arrays.items():
            array.copy_(gpu.put(case.inputs[name]))
        logits.copy_(gpu.put(np.array([row], np.float32)))
        graph.replay()
        case.assert_close(y.cpu().numpy(), h.cpu().numpy())
        best = np.argsort(-np.array(row), kind="stable")[:2]
        assert set(active.cpu().numpy()[0].nonzero()[0]) == set(best)
