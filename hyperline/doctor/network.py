"""What loses the frames of a camera: packets that are too small, a buffer or a ring that is too short."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from hyperline.doctor.finding import Finding, fault
from hyperline.errors import HyperlineError

# 32 frames of 1024 samples × 224 bands in 16 bits, a tenth of a second at 330 lines/s.
_RECEIVE_BYTES = 16 << 20
_JUMBO_BYTES = 9000
_ANSWER_SECONDS = 3.0
# linux/in.h, linux/sockios.h and linux/ethtool.h, which Python has no names for.
_IP_MTU, _SIOCGIFADDR, _SIOCETHTOOL, _ETHTOOL_GRINGPARAM = 14, 0x8915, 0x8946, 0x10


def examine_cameras() -> Iterator[Finding]:
    """Look for GigE Vision cameras, and at what makes them lose frames; takes a second."""
    from hyperline.runtime.sources.camera import find_cameras

    try:
        found = find_cameras()
    except HyperlineError as error:
        yield fault("cameras", error)
        return
    listed = ", ".join(f"{camera.name} at {camera.address}" for camera in found)
    yield Finding("cameras", True, f"Aravis found; {listed or 'no camera on any network'}")
    for camera in found:
        yield _path_to(camera.name, camera.address)


def examine_receive_buffer(root: Path = Path("/")) -> Finding:
    """Look at how much a socket may hold."""
    held = int((root / "proc/sys/net/core/rmem_max").read_text())
    return Finding(
        "receive buffer",
        held >= _RECEIVE_BYTES,
        f"a socket may hold {held >> 10} KiB, {_RECEIVE_BYTES >> 10} or more keep a camera's frames from being lost",
        None if held >= _RECEIVE_BYTES else f"sudo sysctl -w net.core.rmem_max={_RECEIVE_BYTES}; docs/gige.md",
    )


def examine_source(spec: str) -> Finding:
    """Try to reach what ``--source`` names.

    Args:
        spec: as `hyperline run` takes it.
    """
    from hyperline.runtime.sources.gige import is_gige
    from hyperline.runtime.sources.transport import is_wire

    subject = f"source {spec}"
    try:
        if is_gige(spec):
            return Finding(subject, True, _reach_camera(spec))
        if is_wire(spec):
            return Finding(subject, True, _reach_sender(spec))
        from hyperline.scenes import read_scene

        scene = read_scene(spec)
        return Finding(subject, True, f"{scene.lines} lines × {scene.samples} samples × {scene.bands} bands")
    except HyperlineError as error:
        return fault(subject, error)


def _reach_camera(spec: str) -> str:
    from hyperline.runtime.sources.camera import find_cameras
    from hyperline.runtime.sources.gige import parse_gige

    wanted = parse_gige(spec).camera.camera
    found = find_cameras()
    for camera in found:
        if wanted in (None, camera.name, camera.serial, camera.address):
            return f"{camera.name} answers at {camera.address}"
    listed = ", ".join(camera.name for camera in found) or "none"
    raise HyperlineError(f"no camera {wanted or ''} answers, of those on the network: {listed}; docs/gige.md")


def _reach_sender(spec: str) -> str:
    from hyperline.runtime.sources.transport import STDIN, open_transport

    transport = open_transport(spec, STDIN)
    try:
        if not transport.chosen:
            return "the address can be listened at"
        if transport.establish(time.monotonic() + _ANSWER_SECONDS):
            return "a sender answers"
    finally:
        transport.close()
        transport.release()
    raise HyperlineError(f"nobody answered within {_ANSWER_SECONDS:g} s; start the sender, check address and firewall")


def _path_to(name: str, address: str) -> Finding:
    """Look at the way to a camera: the size of its packets, and the ring of the device that takes them."""
    subject = f"network of {name}"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
            mtu, own = probe.getsockopt(socket.IPPROTO_IP, _IP_MTU), probe.getsockname()[0]
        except OSError as error:
            return Finding(
                subject, False, f"no way to {address}: {error.strerror}", "put both into one subnet; docs/gige.md"
            )
        device = _device_of(own, probe)
        ring = _receive_ring(device, probe) if device else None
    detail, fixes = f"{device or 'unknown device'}, packets of {mtu} bytes", []
    if mtu < _JUMBO_BYTES:
        fixes.append(f"sudo ip link set {device} mtu {_JUMBO_BYTES}, where camera and switch can do jumbo frames")
    if ring is not None:
        detail += f", a receive ring of {ring[0]} packets of {ring[1]}"
        if ring[0] < ring[1]:
            fixes.append(f"sudo ethtool -G {device} rx {ring[1]}")
    return Finding(subject, not fixes, detail, f"{'; '.join(fixes)}; docs/gige.md" if fixes else None)


def _device_of(address: str, probe: socket.socket) -> str | None:
    """Return the network device that has an address."""
    for _, name in socket.if_nameindex():
        try:
            held = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("16s240x", name.encode()))
        except OSError:  # it has no address
            continue
        if socket.inet_ntoa(held[20:24]) == address:
            return name
    return None


def _receive_ring(device: str, probe: socket.socket) -> tuple[int, int] | None:
    """Return the packets that a device's receive ring holds, and could hold; None where it does not tell."""
    # struct ethtool_ringparam: cmd, then the most of rx, mini, jumbo and tx, then what they are
    values = array.array("I", [_ETHTOOL_GRINGPARAM] + [0] * 8)
    address, _ = values.buffer_info()
    try:
        fcntl.ioctl(probe.fileno(), _SIOCETHTOOL, struct.pack("16sP", device.encode(), address))
    except OSError:
        return None
    return values[5], values[1]
