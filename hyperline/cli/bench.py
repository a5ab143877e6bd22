"""``hyperline bench``: how fast is a bundle here."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("bundle_file", metavar="FILE.hlb", type=click.Path(path_type=Path))
@click.option("--samples", type=click.IntRange(min=1), default=1024, show_default=True, help="Samples of a line.")
@click.option("--engine", default="ort-cpu", show_default=True, help="What runs the model.")
@click.option("--precision", default="fp32", show_default=True, help="Which of the bundle's models.")
@click.option("--threads", metavar="N", type=click.IntRange(min=1), help="Threads of the engine [default: all CPUs].")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="How long to measure.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(
    bundle_file: Path,
    samples: int,
    engine: str,
    precision: str,
    threads: int | None,
    seconds: float,
    as_json: bool,
) -> None:
    """Measure the speed of FILE.hlb here, beside the arithmetic floor of this machine."""
    from hyperline.bundle import read_bundle
    from hyperline.runtime.bench import bench_bundle

    result = bench_bundle(
        read_bundle(bundle_file),
        samples=samples,
        engine=engine,
        precision=precision,
        threads=threads,
        seconds=seconds,
    )
    if as_json:
        click.echo(json.dumps(result.as_dict()))
        return
    latency, floor = result.latency_ms, result.floor
    operators = "native operators" if result.native_ops else "function bodies (hyperline doctor says why)"
    click.echo(
        f"{result.model}: {result.lines_per_second:.0f} lines/s of {result.samples} samples × {result.bands} bands, "
        f"blocks of {result.block_lines} ({result.engine}, {result.precision}, threads: {result.threads}, {operators})"
    )
    click.echo(
        f"a block: p50 {latency.p50:.2f} ms, p99 {latency.p99:.2f} ms, p99.9 {latency.p999:.2f} ms, "
        f"max {latency.max:.2f} ms of {result.steps}"
    )
    if floor is None:
        click.echo("no arithmetic floor: that takes the native library, and a bundle exported by this release")
    else:
        click.echo(
            f"arithmetic floor {floor.ms:.2f} ms: {2e-9 * floor.multiply_adds:.2f} GFLOP at {floor.gflops:.0f} a "
            f"second, {1e-6 * floor.state_updates:.1f} M state updates at {floor.scan_gupdates:.2f} G; "
            f"a block takes {result.floor_ratio:.2f} times that"
        )
