"""A GPU made of NumPy and a TensorRT made of onnxruntime, behind the interfaces of cuda.core and tensorrt.

Work is queued and done when the stream is waited for, as a GPU does it: a copy or a launch that nobody waits for has
not happened. Addresses are checked: a tensor that is not exactly one buffer of the device is a fault.
"""

from __future__ import annotations

import ctypes
import enum
import math
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime


class Buffer:
    def __init__(self, size: int, stream: Stream | None) -> None:
        # 0xff bytes are NaN: what nobody wrote shows.
        self.bytes, self.size, self.stream = np.full(size, 0xFF, np.uint8), size, stream
        self.handle = self.bytes.ctypes.data

    def copy_from(self, source: Buffer, *, stream: Stream | GraphBuilder) -> None:
        assert self.size == source.size
        _stream(stream).submit(lambda: np.copyto(self.bytes, source.bytes))

    def copy_to(self, target: Buffer, *, stream: Stream | GraphBuilder) -> None:
        target.copy_from(self, stream=stream)

    def fill(self, value: int, *, stream: Stream | GraphBuilder) -> None:
        _stream(stream).submit(lambda: self.bytes.fill(value))


class Stream:
    def __init__(self, gpu: Gpu, handle: int) -> None:
        self.gpu, self.handle = gpu, handle
        self.queue: list = []
        self.captured: list | None = None

    def submit(self, work) -> None:
        (self.queue if self.captured is None else self.captured).append(work)

    def sync(self) -> None:
        assert self.captured is None, "a capturing stream cannot be waited for"
        if self.gpu.broken:
            raise RuntimeError("CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure")
        queue, self.queue = self.queue, []
        for work in queue:
            work()

    def create_graph_builder(self) -> GraphBuilder:
        return GraphBuilder(self)


class GraphBuilder:
    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def begin_building(self, mode: str = "relaxed") -> None:
        self.stream.captured = []

    def end_building(self) -> None:
        self.nodes, self.stream.captured = self.stream.captured, None

    def complete(self) -> Graph:
        return Graph(self.stream.gpu, self.nodes)


class Graph:
    def __init__(self, gpu: Gpu, nodes: list) -> None:
        self.gpu, self.nodes = gpu, nodes

    def upload(self, stream: Stream) -> None:
        pass

    def launch(self, stream: Stream) -> None:
        self.gpu.launches += 1
        for node in self.nodes:
            stream.submit(node)


def _stream(stream: Stream | GraphBuilder) -> Stream:
    return stream.stream if isinstance(stream, GraphBuilder) else stream


class Gpu:
    """The device, and as ``cuda`` and ``trt`` the two modules that reach it."""

    name, arch = "Fake", "87"

    def __init__(self) -> None:
        self.buffers: dict[int, Buffer] = {}
        self.streams: dict[int, Stream] = {}
        self.launches = self.enqueued = 0
        self.broken = False
        self.memory = 1 << 30
        self.cuda = SimpleNamespace(
            Device=lambda: self,
            LegacyPinnedMemoryResource=lambda: SimpleNamespace(allocate=lambda size: Buffer(size, None)),
        )
        self.trt = tensorrt(self)

    def set_current(self) -> None:
        if self.memory == 0:
            raise RuntimeError("CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected")

    def create_stream(self) -> Stream:
        stream = Stream(self, len(self.streams) + 1)
        return self.streams.setdefault(stream.handle, stream)

    def allocate(self, size: int, *, stream: Stream) -> Buffer:
        self.memory -= size
        if self.memory < 0:
            raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory")
        buffer = Buffer(size, stream)
        return self.buffers.setdefault(buffer.handle, buffer)

    def tensor(self, address: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The memory behind an address; a fault where it is not one buffer of that size."""
        size = math.prod(shape) * dtype.itemsize
        assert address in self.buffers and self.buffers[address].size == size, "a tensor beyond its buffer"
        return np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(shape)


class Severity(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class DataType(enum.Enum):
    FLOAT, BOOL, UINT8 = np.dtype(np.float32), np.dtype(np.bool_), np.dtype(np.uint8)


class ILogger:
    Severity = Severity

    def __init__(self) -> None:
        pass


class Engine:
    def __init__(self, gpu: Gpu, graph: bytes) -> None:
        self.gpu = gpu
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        graph_proto = onnx.load_from_string(graph).graph
        self.outputs = [value.name for value in graph_proto.output]
        self.types = {
            value.name: DataType(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)))
            for value in (*graph_proto.input, *graph_proto.output)
        }
        self.shapes = {
            value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
            for value in (*graph_proto.input, *graph_proto.output)
        }
        self.inputs = [value.name for value in graph_proto.input]
        self.num_io_tensors = len(self.types)

    def get_tensor_name(self, index: int) -> str:
        return list(self.types)[index]

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.types[name]

    def create_execution_context(self) -> Context:
        return Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.given: dict[str, tuple[int, ...]] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        held = self.engine.shapes[name]
        if any(isinstance(size, int) and size != given for size, given in zip(held, shape, strict=True)):
            return False
        self.given[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        known = {
            size: found
            for input_name, shape in self.given.items()
            for size, found in zip(self.engine.shapes[input_name], shape, strict=True)
        }
        return tuple(known.get(size, size) for size in self.engine.shapes[name])

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine, addresses = self.engine, dict(self.addresses)
        gpu = engine.gpu
        gpu.enqueued += 1
        shapes = {name: self.get_tensor_shape(name) for name in engine.types}

        def memory(name: str) -> np.ndarray:
            return gpu.tensor(addresses[name], shapes[name], engine.types[name].value)

        def work() -> None:
            answers = engine.session.run(engine.outputs, {name: memory(name) for name in engine.inputs})
            for name, answer in zip(engine.outputs, answers, strict=True):
                np.copyto(memory(name), answer)

        gpu.streams[stream_handle].submit(work)
        return True


def tensorrt(gpu: Gpu) -> SimpleNamespace:
    """The module: its builder gives the graph as the engine."""

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
            try:
                return Engine(gpu, data)
            except Exception as error:
                self.logger.log(Severity.ERROR, f"Serialization assertion failed: {type(error).__name__}")
                return None

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            pass

        def create_network(self, flags: int) -> SimpleNamespace:
            assert flags == 2, "the network must be strongly typed"
            return SimpleNamespace(graph=None)

        def create_builder_config(self) -> SimpleNamespace:
            cache = SimpleNamespace(serialize=lambda: b"timings")
            return SimpleNamespace(
                clear_flag=lambda flag: None,
                add_optimization_profile=lambda profile: 0,
                create_timing_cache=lambda data: cache,
                set_timing_cache=lambda held, ignore_mismatch: True,
                get_timing_cache=lambda: cache,
            )

        def create_optimization_profile(self) -> SimpleNamespace:
            return SimpleNamespace(set_shape=lambda name, *shapes: None)

        def build_serialized_network(self, network: SimpleNamespace, config: SimpleNamespace) -> bytes:
            return network.graph

    class OnnxParser:
        num_errors = 0

        def __init__(self, network: SimpleNamespace, logger: ILogger) -> None:
            self.network = network

        def parse(self, graph: bytes) -> bool:
            self.network.graph = graph
            return True

    return SimpleNamespace(
        __version__="10.3.0",
        ILogger=ILogger,
        DataType=DataType,
        Dims=tuple,
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
        BuilderFlag=SimpleNamespace(TF32=7),
        Runtime=Runtime,
        Builder=Builder,
        OnnxParser=OnnxParser,
        get_plugin_registry=lambda: SimpleNamespace(load_library=lambda path: object()),
    )
