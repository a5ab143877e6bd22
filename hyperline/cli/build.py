"""``hyperline build``: a TensorRT engine of a bundle, made on the device that will fly it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click


@click.command()
@click.argument("bundle_file", metavar="FILE.hlb", type=click.Path(path_type=Path))
@click.option(
    "--samples",
    metavar="MIN:OPT:MAX",
    help="Samples of the lines to build for, and to tune for [default: 8:1024:2048].",
)
@click.option("--precision", default="fp32", show_default=True, help="Which of the bundle's models.")
@click.option(
    "--cache",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder to keep the engine in [default: hyperline's in the user's cache].",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def build(bundle_file: Path, samples: str | None, precision: str, cache: Path | None, as_json: bool) -> None:
    """Build a TensorRT engine of FILE.hlb for the GPU here, and check it on the bundle's golden block.

    It is kept, and found again by: hyperline run FILE.hlb --engine tensorrt. With --cache DIR that is
    --engine tensorrt:DIR.
    """
    from hyperline.bundle import read_bundle
    from hyperline.cli.options import stderr
    from hyperline.errors import HyperlineError, require
    from hyperline.runtime.engines import self_test
    from hyperline.runtime.engines.tensorrt import TensorRTEngine
    from hyperline.runtime.tensorrt.build import Samples, build_engine
    from hyperline.runtime.tensorrt.cache import EngineCache, EngineKey
    from hyperline.runtime.tensorrt.toolkit import find_toolkit

    bundle = read_bundle(bundle_file)
    model, golden = bundle.model(precision), bundle.golden()
    wanted = Samples.parse(samples) if samples is not None else Samples.usual(bundle.card)
    wanted.check(bundle.card, golden["valid"].shape[1])
    toolkit = find_toolkit()
    require("onnx", "tensorrt")
    from hyperline.export.tensorrt import graph_form, tensorrt_graph

    console = stderr()
    start = time.monotonic()
    with console.status("building an engine; TensorRT measures its kernels, which takes minutes the first time"):
        graph = tensorrt_graph(model, graph_form(toolkit.version, toolkit.plugin is not None))
        kept = EngineCache(cache).find_or_build(
            EngineKey.of(model, toolkit),
            wanted,
            lambda timing: build_engine(toolkit.trt, graph, bundle.card, wanted, timing),
        )
        try:
            self_test(TensorRTEngine(model, bundle.card, 1, cache, toolkit, precision), golden)
        except HyperlineError:
            kept.path.unlink(missing_ok=True)
            raise
    report = {
        "path": str(kept.path),
        "bytes": len(kept.engine),
        "samples": [wanted.minimum, wanted.optimum, wanted.maximum],
        "precision": precision,
        "tensorrt": toolkit.trt.__version__,
        "gpu": toolkit.gpu,
        "native_ops": toolkit.plugin is not None,
        "found": kept.found,
        "seconds": time.monotonic() - start,
    }
    if as_json:
        click.echo(json.dumps(report))
        return
    done = "was built already" if kept.found else f"built in {report['seconds']:.0f} s"
    operators = "our plugin" if toolkit.plugin else "TensorRT's own layers in place of our plugin (hyperline doctor)"
    click.echo(f"{bundle.card.name} {done}: {toolkit.gpu}, TensorRT {toolkit.trt.__version__}, {operators}")
    click.echo(f"{kept.path}: {len(kept.engine) / 1e6:.1f} MB, lines of {wanted} samples; it passes the self-test")
