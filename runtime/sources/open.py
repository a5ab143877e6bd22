"""From what ``--source`` says to a source."""

from __future__ import annotations

from hyperline.errors import InputError
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.sources.gige import GigeSource, is_gige, parse_gige
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
) -> SceneSource | WireSource | GigeSource:
    """Open a scene or a camera, or wait for the sender of a strip.

    Args:
        spec: ``-`` or ``stdin``; ``tcp://HOST:PORT``, where a sender listens; ``tcp-listen://HOST:PORT``, where
            one calls; ``gige:CAMERA``, see ``docs/gige.md``; else what ``read_scene`` takes.
        rate: lines per second at which a scene is paced.
        repeat: times that a scene is played.
        labels: label map of a scene.
        patience: seconds to wait for a sender or a camera, see ``WireSource`` and ``GigeSource``.

    Raises:
        InputError: no such scene or address, an option that only a scene has, or a sender of something else; a camera
            that cannot do what is asked.
        HyperlineError: nobody answered.
    """
    if not is_wire(spec) and not is_gige(spec):
        return SceneSource(read_scene(spec, labels), rate, repeat)
    if rate is not None or repeat != 1 or labels is not None:
        if is_gige(spec):
            raise InputError(
                "--rate, --repeat and --labels are for scenes; a camera's rate is set so: gige:CAMERA?rate=HZ"
            )
        raise InputError(f"--rate, --repeat and --labels are for scenes; at {spec} the sender decides")
    if is_gige(spec):
        return GigeSource(parse_gige(spec), patience)
    return WireSource(open_transport(spec, STDIN), patience)
