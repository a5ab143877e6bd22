"""Metrics in the text format of Prometheus, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any

from hyperline.errors import HyperlineError, require
from hyperline.runtime.links.metrics import LATENCY_BOUNDS, FlightMetrics

PORT = 9464


class PrometheusServer:
    """Answers scrapes with what the counters say at that moment; between scrapes it costs nothing.

    Attributes:
        name: for reports.
        port: that it listens on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        metrics: FlightMetrics,
        class_names: Sequence[str],
        report: Callable[[], dict[str, Any]],
    ) -> None:
        """Listen.

        Args:
            host: address to listen on; anyone who reaches it may read the metrics.
            port: 0 for any that is free.
            metrics: of the strip.
            class_names: name of class 1, 2, ….
            report: gives the report of ``Links``.

        Raises:
            InputError: prometheus-client is not installed.
            HyperlineError: the address cannot be listened on.
        """
        client = require("prometheus_client", "links")
        self._core = require("prometheus_client.core", "links")
        self._metrics = metrics
        self._names = ("no class", *class_names)
        self._report = report
        registry = client.CollectorRegistry()
        registry.register(self)
        try:
            self._server, self._thread = client.start_http_server(port, host, registry)
        except OSError as error:
            raise HyperlineError(
                f"prometheus://{host}:{port}: cannot listen there: {error.strerror or error}; choose another port"
            ) from error
        self.port: int = self._server.server_port
        self.name = f"prometheus://{host}:{self.port}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def collect(self) -> Iterable[Any]:
        """Give the metrics of docs/links.md."""
        core, metrics, report = self._core, self._metrics, self._report()

        def counter(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> Any:
            family = core.CounterMetricFamily(name, text, labels=[label])
            for key, value in values:
                family.add_metric([key], value)
            return family

        outcomes = ("received", "classified", "dropped", "rejected")
        yield counter("hyperline_lines", "Lines.", "outcome", [(key, getattr(metrics, key)) for key in outcomes])
        cumulative = list(accumulate(metrics.latency_counts))
        bounds = [*map(str, LATENCY_BOUNDS), "+Inf"]
        yield core.HistogramMetricFamily(
            "hyperline_block_latency_seconds",
            "From a block's last line to its labels in the map.",
            buckets=list(zip(bounds, cumulative, strict=True)),
            sum_value=metrics.latency_seconds,
        )
        pixels = metrics.pixels.tolist()
        yield counter("hyperline_pixels", "Pixels by class.", "class", zip(self._names, pixels, strict=False))
        blocks, events, links = report["blocks"], report["events"], report["links"]
        yield counter("hyperline_link_blocks", "Blocks for the links.", "outcome", list(blocks.items())[:3])
        yield counter("hyperline_events", "Connected pixels by what became of them.", "outcome", events.items())
        yield core.GaugeMetricFamily("hyperline_queued_blocks", "Blocks that wait.", value=blocks["queued"])
        queued = core.GaugeMetricFamily("hyperline_link_queued_events", "Events that wait.", labels=["link"])
        up = core.GaugeMetricFamily("hyperline_link_up", "1 while the link is up.", labels=["link"])
        moved = core.CounterMetricFamily("hyperline_link_events", "Events by link.", labels=["link", "outcome"])
        for name, link in links.items():
            queued.add_metric([name], link["queued"])
            up.add_metric([name], link["state"] == "up")
            for outcome in ("sent", "dropped"):
                moved.add_metric([name, outcome], link[outcome])
        yield from (queued, up, moved)
        for key, text in (("bytes", "Bytes spent."), ("failures", "Times that the link went down.")):
            values = [(name, link[key]) for name, link in links.items()]
            yield counter(f"hyperline_link_{key}", text, "link", values)
