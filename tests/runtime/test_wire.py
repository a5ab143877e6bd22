"""Lines over TCP and pipes: whole strips, senders that go away, strangers that call, and a way out of every wait."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hyperline.bundle import Bundle
from hyperline.cli import main
from hyperline.errors import HyperlineError, InputError
from hyperline.runtime.sources import Line, open_source, wire
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.sources.framing import (
    LineReader,
    StreamHeader,
    encode_end,
    encode_header,
    encode_line,
    read_header,
)
from hyperline.runtime.sources.sender import Damage, describe, send_strip
from hyperline.runtime.sources.transport import (
    ConnectTransport,
    ListenTransport,
    PipeTransport,
    Transport,
    open_transport,
)
from hyperline.runtime.sources.wire import WireSource
from hyperline.runtime.strip import run_strip
from hyperline.scenes import Scene

PROMPT_S = 0.5  # within which close must end a wait


@pytest.fixture
def source(scene: Scene) -> SceneSource:
    return SceneSource(scene)


@pytest.fixture
def header(source: SceneSource) -> StreamHeader:
    return describe(source, strip=1, truth=True)


class Thread(threading.Thread):
    """Runs a function beside the test; ``result`` waits for what it returned or raised."""

    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self.start()

    def run(self) -> None:
        try:
            self._result: object = self._function()
        except BaseException as error:
            self._result = error

    def result(self, timeout: float = 20.0) -> object:
        self.join(timeout)
        assert not self.is_alive(), "still waiting"
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result


def copied(source: WireSource) -> list[Line]:
    """All lines, their arrays their own."""
    truth = source.truth_classes
    return [replace(line, values=line.values.copy(), truth=line.truth.copy() if truth else None) for line in source]


def call(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def records(source: SceneSource, header: StreamHeader) -> list[bytes]:
    return [encode_line(header, line.index, line.values, line.index, line.truth) for line in source]


def assert_same(lines: list[Line], scene: Scene) -> None:
    assert [line.index for line in lines] == list(range(scene.lines))
    np.testing.assert_array_equal([line.values for line in lines], scene.cube)
    np.testing.assert_array_equal([line.truth for line in lines], scene.labels)


def test_a_strip_through_a_pipe_is_the_scene(scene: Scene, source: SceneSource, header: StreamHeader) -> None:
    into, out = os.pipe()
    before = time.time_ns()
    sender = Thread(lambda: send_strip(source, header, PipeTransport(out, "pipe"), patience=1))
    received = WireSource(PipeTransport(into, "pipe"))
    assert (received.name, received.samples, received.bands) == (scene.name, scene.samples, scene.bands)
    assert (received.scale, received.nodata, received.lines) == (scene.scale, scene.nodata, scene.lines)
    assert (received.dtype, received.truth_classes) == (scene.cube.dtype, source.truth_classes)
    np.testing.assert_array_equal(received.wavelengths_nm, scene.wavelengths_nm)
    lines = copied(received)
    assert_same(lines, scene)
    assert before <= lines[0].timestamp_ns <= lines[-1].timestamp_ns <= time.time_ns()
    assert received.complete
    assert sender.result().lines == scene.lines
    os.close(into)
    os.close(out)


def test_a_pipe_that_ends_early_gives_what_came_and_is_not_complete(source: SceneSource, header: StreamHeader) -> None:
    into, out = os.pipe()
    os.write(out, (encode_header(header) + b"".join(records(source, header)[:3]))[:-1])
    os.close(out)
    received = WireSource(PipeTransport(into, "pipe"))
    assert [line.index for line in received] == [0, 1]
    assert not received.complete
    os.close(into)


def test_a_pipe_that_nobody_opened_is_said_to_end() -> None:
    into, out = os.pipe()
    os.close(into)
    os.close(out)
    with pytest.raises(InputError, match="ends inside its header, after 0 bytes"):
        WireSource(PipeTransport(into, "pipe"))


def test_a_pipe_of_something_else_is_refused_in_one_line() -> None:
    into, out = os.pipe()
    os.write(out, b"line,sample,band\n" * 10)
    with pytest.raises(InputError, match="pipe: no stream of lines begins here"):
        WireSource(PipeTransport(into, "pipe"))
    os.close(into)
    os.close(out)


def test_a_sender_that_calls_and_one_that_is_called(scene: Scene, source: SceneSource, header: StreamHeader) -> None:
    port = ListenTransport("127.0.0.1", 0)
    sender = Thread(lambda: send_strip(source, header, ConnectTransport("127.0.0.1", port.port), patience=5))
    received = WireSource(port)
    assert_same(copied(received), scene)
    assert list(received) == []
    sender.result()
    port = ListenTransport("127.0.0.1", 0)
    sender = Thread(lambda: send_strip(source, header, port, patience=5))
    assert_same(copied(WireSource(ConnectTransport("127.0.0.1", port.port))), scene)
    sender.result()


def test_a_sender_that_comes_back_goes_on_with_its_strip(
    scene: Scene, source: SceneSource, header: StreamHeader
) -> None:
    """It breaks off within line 4, misses line 5, repeats line 3, and a stranger and another strip call meanwhile."""
    sent = records(source, header)
    transport = ListenTransport("127.0.0.1", 0)

    def send() -> None:
        with call(transport.port) as first:
            first.sendall(encode_header(header) + b"".join(sent[:5])[:-10])
        with call(transport.port) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + bytes(99))
        with call(transport.port) as other:
            other.sendall(encode_header(replace(header, strip=2)) + b"".join(sent))
        with call(transport.port) as again:
            again.sendall(encode_header(header) + sent[3] + b"".join(sent[6:]) + encode_end(header, scene.lines))

    sender = Thread(send)
    received = WireSource(transport, patience=5)
    lines = copied(received)
    sender.result()
    assert [line.index for line in lines] == [0, 1, 2, 3, 3, *range(6, scene.lines)]
    np.testing.assert_array_equal(lines[-1].values, scene.cube[-1])
    assert received.complete
    assert (received.counters["reconnections"], received.counters["refused"]) == (1, 2)
    assert received.counters["damaged"] == 1


def test_a_silent_caller_does_not_keep_the_port_from_the_sender(
    scene: Scene, source: SceneSource, header: StreamHeader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "_HEADER_S", 0.1)
    transport = ListenTransport("127.0.0.1", 0)
    with call(transport.port):
        sender = Thread(lambda: send_strip(source, header, ConnectTransport("127.0.0.1", transport.port), patience=5))
        received = WireSource(transport)
        assert_same(copied(received), scene)
    sender.result()
    assert received.refused == 1


def test_a_receiver_that_calls_waits_for_a_sender_that_starts_late_and_comes_back(
    scene: Scene, source: SceneSource, header: StreamHeader
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    sent = records(source, header)

    def send() -> None:
        time.sleep(0.3)
        for part in (sent[:7], [*sent[7:], encode_end(header, scene.lines)]):
            transport = ListenTransport("127.0.0.1", port)
            assert transport.establish(time.monotonic() + 5)
            transport.send(encode_header(header) + b"".join(part))
            transport.release()
            time.sleep(0.3)

    sender = Thread(send)
    received = WireSource(ConnectTransport("127.0.0.1", port), patience=5)
    assert_same(copied(received), scene)
    sender.result()
    assert received.reconnections == 1


def test_a_sender_that_stays_away_ends_the_strip_when_patience_does(source: SceneSource, header: StreamHeader) -> None:
    transport = ListenTransport("127.0.0.1", 0)
    with call(transport.port) as sender:
        sender.sendall(encode_header(header) + records(source, header)[0])
        received = WireSource(transport, patience=0.3)
        iterator = iter(received)
        assert next(iterator).index == 0
    start = time.monotonic()
    assert list(iterator) == []
    assert 0.3 <= time.monotonic() - start < 1.5
    assert not received.complete


def test_nobody_there_is_said_with_the_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(HyperlineError, match=rf"nobody answers at tcp://127.0.0.1:{port} for 0.2 s"):
        WireSource(ConnectTransport("127.0.0.1", port), patience=0.2)


def test_a_sender_without_a_receiver_says_so() -> None:
    into, out = os.pipe()
    os.close(into)
    transport = PipeTransport(out, "nowhere")
    source = SceneSource(Scene("one", np.zeros((1, 1, 1), np.uint8)))
    with pytest.raises(HyperlineError, match="nobody takes the strip at nowhere"):
        send_strip(source, describe(source, strip=1), transport, patience=0)
    os.close(out)


def stalled(kind: str, header: StreamHeader, line: bytes) -> Iterator[WireSource]:
    """A source whose sender sent one line and a half and says no more, or went away."""
    start = encode_header(header) + line + line[:50]
    if kind == "pipe":
        into, out = os.pipe()
        os.write(out, start)
        yield WireSource(PipeTransport(into, "pipe"))
        os.close(into)
        os.close(out)
        return
    if kind == "called":
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            transport: Transport = ConnectTransport(*listener.getsockname())
            met = Thread(lambda: WireSource(transport, patience=60))
            peer, _ = listener.accept()
            peer.sendall(start)
            yield met.result()
            peer.close()
        return
    transport = ListenTransport("127.0.0.1", 0)
    peer = call(transport.port)
    peer.sendall(start)
    received = WireSource(transport, patience=60)
    if kind == "gone":
        peer.close()
    yield received
    peer.close()


@pytest.mark.parametrize("kind", ["pipe", "called", "calling", "gone"])
def test_close_ends_every_wait_at_once(kind: str, source: SceneSource, header: StreamHeader) -> None:
    for received in stalled(kind, header, records(source, header)[0]):
        taken = Thread(lambda received=received: [line.index for line in received])
        time.sleep(0.3)
        assert taken.is_alive()
        start = time.monotonic()
        received.close()
        assert taken.result() == [0]
        assert time.monotonic() - start < PROMPT_S
        assert not received.complete


def test_close_ends_a_paced_scene_at_once(scene: Scene) -> None:
    source = SceneSource(scene, rate=0.01)
    taken = Thread(lambda: [line.index for line in source])
    time.sleep(0.1)
    start = time.monotonic()
    source.close()
    assert taken.result() == [0]
    assert time.monotonic() - start < PROMPT_S


def test_a_receiver_that_comes_back_gets_the_rest(scene: Scene, header: StreamHeader) -> None:
    transport = ListenTransport("127.0.0.1", 0)
    source = SceneSource(scene, rate=100.0)
    sender = Thread(lambda: send_strip(source, header, transport, patience=5))
    with call(transport.port) as first:
        reader = LineReader(read_header(first.recv_into), first.recv_into)
        assert reader.read().index == 0
    with call(transport.port) as second:
        reader = LineReader(read_header(second.recv_into), second.recv_into)
        indices = [line.index for line in iter(reader.read, None)]
    assert indices == list(range(indices[0], scene.lines))
    assert indices[0] > 0
    assert reader.ended
    assert sender.result().reconnections == 1


def test_a_receiver_that_stays_away_fails_the_sender(scene: Scene, header: StreamHeader) -> None:
    transport = ListenTransport("127.0.0.1", 0)
    sender = Thread(lambda: send_strip(SceneSource(scene, rate=100.0), header, transport, patience=0.2))
    call(transport.port).close()
    with pytest.raises(HyperlineError, match="went away after"):
        sender.result()


class Tape(Transport):
    """A transport that keeps what is sent and gives it back."""

    lasting = False

    def __init__(self) -> None:
        super().__init__("tape")
        self.data = bytearray()

    def establish(self, deadline: float) -> bool:
        return True

    def send(self, data: bytes) -> bool:
        self.data += data
        return True

    def fill(self, view: memoryview, deadline: float = float("inf")) -> int:
        count = min(len(view), len(self.data))
        view[:count] = self.data[:count]
        del self.data[:count]
        return count

    def hang_up(self) -> None: ...
    def release(self) -> None: ...


@pytest.mark.parametrize("kind", ["lost", "duplicated", "reordered", "corrupted", "cut", "resized"])
def test_each_damage_does_what_it_says(kind: str, scene: Scene) -> None:
    source = SceneSource(scene, repeat=20)
    lines, tape = source.lines, Tape()
    report = send_strip(source, describe(source, strip=1), tape, patience=0, damage=Damage(**{kind: 0.2}), seed=3)
    assert 0.15 < report.damaged / report.lines < 0.25
    received = WireSource(tape)
    whole = [line.index for line in copied(received) if line.values.size]
    assert received.complete
    assert received.lines == lines
    counters, times = received.counters, Counter(whole)
    missing = lines - len(times)
    if kind in ("lost", "corrupted", "cut"):
        assert missing == report.damaged
        assert whole == sorted(times)
        assert (counters["damaged"] == 0) == (kind == "lost")
    elif kind == "duplicated":
        assert missing == 0
        assert list(times.values()).count(2) == report.damaged
    elif kind == "reordered":
        assert missing == 0
        assert int(np.count_nonzero(np.diff(whole) < 0)) == pytest.approx(report.damaged, abs=1)  # not the last line
    else:
        assert missing == counters["rejected"] == report.damaged
        assert counters["damaged"] == 0


def test_the_same_seed_damages_the_same_lines(source: SceneSource) -> None:
    damage = Damage.parse("lost=0.2,duplicated=0.1,reordered=0.1,resized=0.1")
    indices = []
    for _ in range(2):
        tape = Tape()
        again = SceneSource(source.scene, repeat=3)
        send_strip(again, describe(again, strip=1), tape, patience=0, damage=damage, seed=5)
        indices.append([line.index for line in WireSource(tape)])
    assert indices[0] == indices[1]


@pytest.mark.parametrize("text", ["lost", "lost=x", "lost=2", "lost=-1", "lost=nan", "lost=0.6,cut=0.6", "gone=0.1"])
def test_damage_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="damage"):
        Damage.parse(text)


@pytest.mark.parametrize("spec", ["tcp://", "tcp://host", "tcp://:80", "tcp://host:x", "tcp://h:1/x", "tcp-listen:5"])
def test_an_address_that_is_none_is_refused_with_the_forms(spec: str) -> None:
    with pytest.raises(InputError, match=r"must be one of .*tcp-listen://HOST:PORT"):
        open_transport(spec, 0)


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="cannot listen"):
            ListenTransport("127.0.0.1", taken.getsockname()[1])


def test_a_listener_without_a_host_takes_callers_from_this_machine_only() -> None:
    transport = open_transport("tcp-listen://:0", 0)
    assert isinstance(transport, ListenTransport)
    assert transport.name == f"tcp-listen://127.0.0.1:{transport.port}"
    transport.release()


def test_an_address_of_ipv6_is_named_as_it_is_written() -> None:
    try:
        transport = open_transport("tcp-listen://[::1]:0", 0)
    except InputError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    assert isinstance(transport, ListenTransport)
    assert transport.name == f"tcp-listen://[::1]:{transport.port}"
    transport.release()


def test_options_of_a_scene_are_refused_on_a_wire() -> None:
    with pytest.raises(InputError, match="the sender decides"):
        open_source("tcp://127.0.0.1:9", rate=5.0)


@pytest.mark.parametrize("lost", [1, 3, 9])
def test_a_tail_that_was_lost_on_the_wire_keeps_its_place_in_the_map(
    tiny, scene: Scene, bundle: Bundle, header: StreamHeader, source: SceneSource, tmp_path: Path, lost: int
) -> None:
    transport = ListenTransport("127.0.0.1", 0)
    receiver = Thread(lambda: run_strip(bundle, WireSource(transport), tmp_path / "run", threads=1))
    with call(transport.port) as sender:
        sender.sendall(encode_header(header) + b"".join(records(source, header)[:-lost]))
        sender.sendall(encode_end(header, scene.lines))
    summary = receiver.result()
    assert (summary.received, summary.counters.lost, summary.lines) == (scene.lines - lost, lost, scene.lines)
    cube = scene.cube.copy()
    cube[-lost:] = scene.nodata
    found = np.fromfile(tmp_path / "run" / "classes.img", np.uint8).reshape(cube.shape[:2])
    np.testing.assert_array_equal(found, tiny.expected_map(cube, bundle.card.block_lines)[0])


# The two commands together.


def command(*arguments: object) -> list[str]:
    program = "from hyperline.cli import main; main()"
    return [sys.executable, "-c", program, *map(str, arguments)]


@pytest.fixture
def flown(
    scene: Scene, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Path:
    """The scene as a file, with the run of that file beside it."""
    path = tmp_path / "field.npz"
    np.savez(
        path,
        cube=np.abs(scene.cube),
        labels=scene.labels,
        wavelengths_nm=scene.wavelengths_nm,
        class_names=bundle.card.class_names,
    )
    arguments = ["run", bundle.path, "--source", path, "--out", tmp_path / "file", "--threads", 1, "--no-picture"]
    monkeypatch.setattr(sys, "argv", ["hyperline", *map(str, arguments)])
    main()
    capsys.readouterr()
    return path


def run_command(bundle: Bundle, source: str, out: Path) -> list[str]:
    return command("run", bundle.path, "--source", source, "--out", out, "--threads", 1, "--patience", 20)


def assert_same_run(flown: Path) -> None:
    for name in ("classes.img", "confidence.img", "uncertainty.img", "quicklook.img", "experts.img"):
        assert (flown.parent / "wire" / name).read_bytes() == (flown.parent / "file" / name).read_bytes()


def test_a_scene_replayed_into_a_pipe_gives_the_maps_of_the_file(flown: Path, bundle: Bundle) -> None:
    with (
        subprocess.Popen(command("replay", flown, "--to", "-"), stdout=subprocess.PIPE) as sender,
        subprocess.Popen(
            run_command(bundle, "-", flown.parent / "wire"), stdin=sender.stdout, stderr=subprocess.PIPE, text=True
        ) as receiver,
    ):
        sender.stdout.close()
        _, err = receiver.communicate(timeout=60)
    assert (sender.returncode, receiver.returncode, err) == (0, 0, "waiting for a sender at -\n")
    assert_same_run(flown)


@pytest.mark.parametrize(("to", "source"), [("tcp", "tcp-listen"), ("tcp-listen", "tcp")])
def test_a_scene_replayed_over_tcp_gives_the_maps_of_the_file(
    flown: Path, bundle: Bundle, to: str, source: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    replay = command(
        "replay", flown, "--to", f"{to}://{address}", "--truth", "--first-sequence", 2**32 - 5, "--patience", 20
    )
    with (
        subprocess.Popen(replay) as sender,
        subprocess.Popen(
            run_command(bundle, f"{source}://{address}", flown.parent / "wire"), stdout=subprocess.PIPE, text=True
        ) as receiver,
    ):
        out, _ = receiver.communicate(timeout=60)
    assert (sender.returncode, receiver.returncode) == (0, 0)
    assert "22 of 22 lines" in out
    assert "labelled pixels" in out
    assert_same_run(flown)


def test_a_replay_that_was_killed_goes_on_with_its_strip_when_started_again(flown: Path, scene: Scene) -> None:
    transport = ListenTransport("127.0.0.1", 0)
    replay = command("replay", flown, "--to", transport.name.replace("-listen", ""), "--strip", 7, "--rate", 200)
    with subprocess.Popen(replay) as first:
        received = WireSource(transport, patience=30)
        lines = iter(received)
        before = [next(lines).index for _ in range(3)]
        first.kill()
    with subprocess.Popen(replay) as second:
        after = [line.index for line in lines]
    assert second.returncode == 0
    assert before == [0, 1, 2]
    assert after[-scene.lines :] == list(range(scene.lines))
    assert received.complete
    assert received.reconnections == 1


def test_a_run_whose_sender_goes_away_keeps_what_came_and_fails(
    flown: Path, bundle: Bundle, source: SceneSource, header: StreamHeader
) -> None:
    data = encode_header(header) + b"".join(records(source, header)[:9])
    done = subprocess.run(
        run_command(bundle, "-", flown.parent / "wire"), input=data, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert b"9 of 9 lines" in done.stdout
    assert b"the sender went away after 9 lines, before the end of the strip" in done.stderr
    assert (flown.parent / "wire" / "classes.img").stat().st_size == 9 * source.samples


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--to", "field.img"), "is no wire"),
        (("--to", "-", "--damage", "gone=1"), "name each of lost"),
        (("--to", "-", "--first-sequence", "-1"), "--first-sequence"),
    ],
)
def test_a_bad_option_of_replay_is_bad_usage(
    options: tuple[str, ...],
    message: str,
    flown: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["hyperline", "replay", str(flown), *options])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
