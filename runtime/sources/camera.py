"""One GigE Vision camera through Aravis: found, set up, and streaming into memory of ours."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperline.errors import HyperlineError, InputError
from hyperline.runtime.sources.pixels import FORMATS

# The kernel holds what arrives while Aravis' thread does not run: so many frames, as far as net.core.rmem_max allows.
_SOCKET_FRAMES = 32
_MOST_SOCKET_BYTES = 64 << 20
_BUFFERED_S = 0.25
_CONTROL_PORT = 3956
_ANSWER_S = 0.25
_LEAST_BUFFERS, _MOST_BUFFERS = 16, 256

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CameraOptions:
    """What a camera is asked to do; None leaves it as the camera has it.

    Attributes:
        camera: its id, serial number, user-defined name or address; None for the only one on the network.
        pixel_format: such as Mono12p.
        exposure_us: exposure time, microseconds.
        gain: in the camera's own unit.
        rate: frames per second; of a triggered camera, triggers per second, which only the user knows.
        packet_bytes: of a stream packet, headers among them; None negotiates the largest that comes through.
        buffers: frames that may wait; None for a quarter of a second of them.
        resend: whether lost packets are asked for again, where the camera can.
        features: (name, value) of any other GenICam features, set in this order.
    """

    camera: str | None = None
    pixel_format: str | None = None
    exposure_us: float | None = None
    gain: float | None = None
    rate: float | None = None
    packet_bytes: int | None = None
    buffers: int | None = None
    resend: bool = True
    features: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class FoundCamera:
    """A camera on the network: its id, which names vendor, model and serial number, and its address."""

    name: str
    serial: str
    address: str


def aravis() -> Any:
    """Import Aravis.

    Raises:
        InputError: PyGObject or Aravis is missing.
    """
    try:
        import gi

        gi.require_version("Aravis", "0.8")
        from gi.repository import Aravis
    except (ImportError, ValueError) as error:
        raise InputError(
            f"GigE Vision cameras need Aravis and PyGObject ({error}); apt-get install gir1.2-aravis-0.8 "
            "libgirepository1.0-dev libcairo2-dev gcc pkg-config, then pip install 'hyperline[gige]' (docs/gige.md "
            "has a way without a compiler)"
        ) from None
    return Aravis


def find_cameras() -> list[FoundCamera]:
    """Ask on every interface; takes a second.

    Raises:
        InputError: see ``aravis``.
    """
    library = aravis()
    library.update_device_list()
    return [
        FoundCamera(
            library.get_device_id(number), library.get_device_serial_nbr(number), library.get_device_address(number)
        )
        for number in range(library.get_n_devices())
        if library.get_device_protocol(number) == "GigEVision"
    ]


class Camera:
    """A camera that we control.

    Attributes:
        name: vendor, model and id.
        width: pixels of a row.
        height: rows of a frame.
        pixel_format: of ``FORMATS``.
        rate: frames per second.
        triggered: whether frames come when something outside says so.
        buffers: frames that may wait.
        frame_bytes: the payload of a frame, which may be more than its pixels.
        packet_bytes: of a stream packet.
        wide_ids: whether the camera says that its frame ids have 64 bits.
        lost: set when the camera does not answer any more.
    """

    def __init__(self, options: CameraOptions) -> None:
        """Take control of the camera and set it up.

        Raises:
            InputError: the camera does not know an option, or refuses its value; more than one camera is there.
            HyperlineError: it is not there, or another program controls it.
        """
        self._library = library = aravis()
        from gi.repository import GLib

        self._fault: type[Exception] = GLib.Error
        self.lost = lost = threading.Event()
        self._stream: Any = None
        self._buffers: list[Any] = []
        self._rows: dict[Any, int] = {}
        try:
            self._camera = library.Camera.new(_camera_id(options.camera))
            self._device = self._camera.get_device()
            self.name = (
                f"{self._camera.get_vendor_name()} {self._camera.get_model_name()} {self._camera.get_device_id()}"
            )
        except self._fault as error:
            raise HyperlineError(
                f"no camera {options.camera!r} answers: {_text(error)}; check its power and cable, and hyperline doctor"
            ) from None
        self._on_lost = self._device.connect("control-lost", lambda _: lost.set())
        try:
            self._configure(options)
        except self._fault as error:
            self.stop()
            raise HyperlineError(
                f"{self.name}: {_text(error)}; check its cable, and that no other program uses it"
            ) from None
        except BaseException:
            self.stop()
            raise

    def _configure(self, options: CameraOptions) -> None:
        camera, library = self._camera, self._library
        if not camera.is_gv_device():
            raise InputError(f"{self.name} is no GigE Vision camera; name another")
        if not self._device.is_controller():
            raise HyperlineError(f"{self.name} is controlled by another program or machine; end that first")
        camera.set_range_check_policy(library.RangeCheckPolicy.ENABLE)
        if options.pixel_format is not None:
            self._set("format", options.pixel_format, camera.set_pixel_format_from_string)
        for name, value in options.features:
            self._set(name, value, partial(self._set_feature, name))
        if options.exposure_us is not None:
            self._set_number("exposure", options.exposure_us, camera.get_exposure_time_bounds, camera.set_exposure_time)
        if options.gain is not None:
            self._set_number("gain", options.gain, camera.get_gain_bounds, camera.set_gain)
        self.triggered = self._says_on("TriggerMode")
        if options.rate is not None and not self.triggered:
            self._set_number("rate", options.rate, camera.get_frame_rate_bounds, camera.set_frame_rate)
        code = camera.get_pixel_format()
        if code not in FORMATS:
            raise InputError(
                f"{self.name} sends {camera.get_pixel_format_as_string() or hex(code)}, not one of "
                f"{', '.join(one.name for one in FORMATS.values())}; choose one with ?format=, of what it has: "
                f"{', '.join(camera.dup_available_pixel_formats_as_strings())}"
            )
        self.pixel_format = FORMATS[code]
        _, _, self.width, self.height = camera.get_region()
        self.rate = self._rate(options)
        self.buffers = options.buffers or min(max(round(self.rate * _BUFFERED_S), _LEAST_BUFFERS), _MOST_BUFFERS)
        self.frame_bytes = int(camera.get_payload())
        self.wide_ids = self._says_on("GevGVSPExtendedIDMode")
        if options.packet_bytes is None:
            camera.gv_auto_packet_size()
        else:
            camera.gv_set_packet_size_adjustment(library.GvPacketSizeAdjustment.NEVER)
            self._set("packet", options.packet_bytes, camera.gv_set_packet_size)
        self.packet_bytes = int(camera.gv_get_packet_size())
        self._resend = options.resend

    def _set(self, name: str, value: Any, setter: Callable[[Any], None]) -> None:
        try:
            setter(value)
        except self._fault as error:
            raise InputError(f"{self.name} does not take {name}={value}: {_text(error)}; {self._hint(name)}") from None

    def _set_number(self, name: str, value: float, bounds: Callable[[], Any], setter: Callable[[Any], None]) -> None:
        try:
            lowest, highest = bounds()
        except self._fault as error:
            raise InputError(f"{self.name} has no {name}: {_text(error)}; leave it out") from None
        if not lowest <= value <= highest:
            raise InputError(f"{self.name} does not take {name}={value:g}; it takes {lowest:g} to {highest:g}")
        self._set(name, value, setter)

    def _hint(self, name: str) -> str:
        """Say what the camera would take, where it tells."""
        try:
            if name == "format":
                return f"it has {', '.join(self._camera.dup_available_pixel_formats_as_strings())}"
            if isinstance(self._device.get_feature(name), self._library.GcEnumeration):
                return f"it takes {', '.join(self._camera.dup_available_enumerations_as_strings(name))}"
        except self._fault:
            pass
        return "see the camera's manual"

    def _set_feature(self, name: str, value: str) -> None:
        feature = self._device.get_feature(name)
        if isinstance(feature, self._library.GcCommand):
            feature.execute()
        elif isinstance(feature, self._library.GcFeatureNode):
            feature.set_value_from_string(value)
        else:
            raise InputError(f"{self.name} has no feature {name}; their names are in the camera's manual")

    def _rate(self, options: CameraOptions) -> float:
        if not self.triggered and self._camera.is_frame_rate_available() and self._camera.get_frame_rate() > 0:
            return float(self._camera.get_frame_rate())
        if options.rate is None:
            raise InputError(f"{self.name} cannot say how many frames a second come; say it with ?rate=HZ")
        return options.rate

    def _says_on(self, name: str) -> bool:
        try:
            return bool(self._camera.is_feature_available(name) and self._camera.get_string(name) == "On")
        except self._fault:
            return False

    def start(self, memory: NDArray[np.uint8]) -> None:
        """Let frames come.

        Args:
            memory: (buffer, byte), ``buffers`` of ``frame_bytes``, contiguous; ours until ``stop``.

        Raises:
            HyperlineError: the camera refused.
        """
        library = self._library
        try:
            self._stream = stream = self._camera.create_stream(None, None)
            if not self._resend:
                stream.set_property("packet-resend", library.GvStreamPacketResend.NEVER)
            stream.set_property("socket-buffer", library.GvStreamSocketBuffer.FIXED)
            stream.set_property("socket-buffer-size", min(_SOCKET_FRAMES * self.frame_bytes, _MOST_SOCKET_BYTES))
            self._buffers = [library.Buffer.new_full(self.frame_bytes, one.ctypes.data, None, None) for one in memory]
            self._rows = {buffer: row for row, buffer in enumerate(self._buffers)}
            for buffer in self._buffers:
                stream.push_buffer(buffer)
            self._camera.start_acquisition()
        except self._fault as error:
            raise HyperlineError(
                f"{self.name} does not start: {_text(error)}; take it from the power and try again"
            ) from None

    def take(self, seconds: float) -> tuple[Any, int] | None:
        """Wait for a frame, whole or not.

        Returns:
            The buffer, whose frame id is 0 where the packet that names it was lost, and its row in the memory; to be
            given back. None where no frame came in time.
        """
        buffer = self._stream.timeout_pop_buffer(int(seconds * 1e6))
        return None if buffer is None else (buffer, self._rows[buffer])

    def give_back(self, buffer: Any) -> None:
        """Let a buffer be filled again."""
        # A frame whose first packet is lost has no id; without this its buffer would show that of an older frame.
        buffer.set_frame_id(0)
        self._stream.push_buffer(buffer)

    def statistics(self) -> dict[str, int]:
        """Return Aravis' own counts of the stream, by its names."""
        stream = self._stream
        if stream is None:
            return {}
        names = [str(stream.get_info_name(number)) for number in range(stream.get_n_infos())]
        return {name: int(stream.get_info_uint64_by_name(name)) for name in names if name.startswith("n_")}

    def stop(self) -> None:
        """End the stream and leave the camera; one that does not answer behind our back, for that takes seconds."""
        device, self._device = self._device, None
        if device is None:
            return
        device.disconnect(self._on_lost)
        alive = _answers(device.get_device_address().get_address().to_string())
        try:
            if self._stream is not None and alive:
                self._camera.stop_acquisition()
            if alive and device.is_controller():
                device.leave_control()
        except self._fault as error:
            logger.info("%s: %s", self.name, _text(error))
        # The last reference to the stream ends its thread, the last to the camera closes it.
        self._stream, self._buffers, self._rows = None, [], {}
        held = [self._camera, device]
        self._camera = device = None
        if alive:
            held.clear()
        else:
            threading.Thread(target=held.clear, name="hyperline-leave", daemon=True).start()


def _answers(address: str) -> bool:
    """Ask a camera whether it is there. Aravis asks too, but for seconds where it is not."""
    discovery, acknowledged = bytes.fromhex("4201000200000001"), bytes.fromhex("00000003")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(_ANSWER_S)
        try:
            probe.connect((address, _CONTROL_PORT))
            probe.send(discovery)
            return probe.recv(1024).startswith(acknowledged)
        except OSError:
            return False


def _text(error: Exception) -> str:
    """Return what a GLib error says, without the domain that it comes from."""
    return str(getattr(error, "message", error))


def _camera_id(name: str | None) -> str:
    """Find what Aravis calls a camera."""
    if name is not None:
        try:
            address = str(ipaddress.IPv4Address(name))
        except ValueError:
            pass
        else:  # asked directly, for it may be behind a router
            if not _answers(address):
                raise HyperlineError(f"no camera answers at {address}; check its power and cable: hyperline doctor")
            return address
    found = find_cameras()
    matches = [one for one in found if name in (None, one.name, one.serial)]
    if len(matches) == 1:
        return matches[0].name
    there = ", ".join(f"{one.name} at {one.address}" for one in matches or found) or "none at all"
    if not matches:
        if name is not None:
            return name  # the name that its user gave it is not listed
        raise HyperlineError("no camera answers on any network; check power, cable and addresses: hyperline doctor")
    raise InputError(
        f"{'which camera' if name is None else f'{name} is ambiguous'}? There are {there}; name one: gige:NAME"
    )
