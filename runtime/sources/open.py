"""From what ``--source`` says to a source."""

from __future__ import annotations

from hyperline.errors import InputError
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.sources.transport import STDIN, is_wire, open_transport
from hyperline.runtime.sources.wire import PATIENCE_S, WireSource
from hyperline.scenes import read_scene


def open_source(
    spec: str,
    *,
    rate: float | None = None,
    repeat: int = 1,
    labels: str | None = None,
    patience: float = PATIENCE_S,
) -> SceneSource | WireSource:
    """Open a scene, or wait for the sender of a strip.

    Args:
        spec: ``-`` or ``stdin``; ``tcp://HOST:PORT``, where a sender listens; ``tcp-listen://HOST:PORT``, where
            one calls; else what ``read_scene`` takes.
        rate: lines per second at which a scene is paced.
        repeat: times that a scene is played.
        labels: label map of a scene.
        patience: seconds to wait for a sender, see ``WireSource``.

    Raises:
        InputError: no such scene or address, an option that only a scene has, or a sender of something else.
        HyperlineError: nobody answered.
    """
    if not is_wire(spec):
        return SceneSource(read_scene(spec, labels), rate, repeat)
    if rate is not None or repeat != 1 or labels is not None:
        raise InputError(f"--rate, --repeat and --labels are for scenes; at {spec} the sender decides")
    return WireSource(open_transport(spec, STDIN), patience)
