"""What arrives at the far end, read by somebody else's program."""

import json
import os
import pty
import socket
import threading
import urllib.request
from binascii import crc_hqx
from pathlib import Path

import ccsdspy
import numpy as np
import paho.mqtt.client as mqtt
import pytest
from ccsdspy import PacketField
from prometheus_client.parser import text_string_to_metric_families

from hyperline.runtime.links.ccsds import PACKET_BYTES, CcsdsLink
from hyperline.runtime.links.mavlink import TUNNEL_TYPE, MavlinkLink
from hyperline.runtime.links.outputs import FileOutput, SerialOutput

RECORD = [
    PacketField(name, "uint", bits)
    for name, bits in {
        "sequence": 32,
        "class": 8,
        "complete": 8,
        "pixels": 32,
        "mean_confidence": 16,
        "max_confidence": 16,
        "first_line": 32,
        "last_line": 32,
        "first_sample": 16,
        "last_sample": 16,
        "centre_line": 32,
        "centre_sample": 16,
        "lasted_ms": 32,
    }.items()
]
PACKET = ccsdspy.FixedLength(
    [
        PacketField("time_code", "uint", 8),
        PacketField("day", "uint", 16),
        PacketField("ms", "uint", 32),
        *RECORD,
        PacketField("checksum", "uint", 16),
    ]
)


class Subscriber:
    """Whoever listens at the broker, in a session that outlives the broker."""

    def __init__(self, port: int) -> None:
        self.messages: list[tuple[str, dict]] = []
        self.ready = threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="ground", clean_session=False)
        self._client.on_connect = lambda client, *_: client.subscribe("uav1/#", qos=1)
        self._client.on_subscribe = lambda *_: self.ready.set()
        self._client.on_message = lambda client, data, message: self.messages.append(
            (message.topic, json.loads(message.payload))
        )
        self._client.reconnect_delay_set(0.1, 0.5)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self.ready.wait(10)

    def sequences(self) -> set[int]:
        return {message["sequence"] for _, message in self.messages}

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def subscriber(broker):
    broker.start()
    subscriber = Subscriber(broker.port)
    yield subscriber
    subscriber.close()


def test_a_broker_gets_every_event_as_json(aircraft, broker, subscriber) -> None:
    links = aircraft.links(f"mqtt://127.0.0.1:{broker.port}/uav1")
    aircraft.fly(links, 30)
    links.close(10)
    assert aircraft.eventually(lambda: len(subscriber.sequences()) == 30)
    topic, message = next(item for item in subscriber.messages if item[1]["sequence"] == 1)
    assert topic == "uav1/events/2"
    assert message == {
        "sequence": 1,
        "class": 2,
        "name": "Woods",
        "pixels": 3,
        "mean_confidence": 0.75,
        "max_confidence": 0.75,
        "lines": [5, 5],
        "samples": [2, 4],
        "centre": [5.0, 3.0],
        "time": [1795000001.0, 1795000001.0],
        "complete": True,
        "value": 6.75,
    }
    (report,) = links.report()["links"].values()
    assert (report["state"], report["sent"], report["dropped"], report["queued"]) == ("closed", 30, 0, 0)
    assert report["error"] is None


def test_the_bytes_counted_for_mqtt_are_those_on_the_wire(aircraft, broker, subscriber) -> None:
    seen = bytearray()
    proxy = socket.create_server(("127.0.0.1", 0))

    def relay() -> None:
        near, _ = proxy.accept()
        far = socket.create_connection(("127.0.0.1", broker.port))

        def pump(source: socket.socket, sink: socket.socket, record: bool) -> None:
            while data := source.recv(4096):
                if record:
                    seen.extend(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

        threading.Thread(target=pump, args=(far, near, False), daemon=True).start()
        pump(near, far, True)

    thread = threading.Thread(target=relay, daemon=True)
    thread.start()
    links = aircraft.links(f"mqtt://127.0.0.1:{proxy.getsockname()[1]}/uav1")
    aircraft.fly(links, 5)
    links.close(10)
    thread.join(10)
    (report,) = links.report()["links"].values()
    connect = 2 + seen[1]
    disconnect = 2
    assert report["sent"] == 5
    assert report["bytes"] == len(seen) - connect - disconnect
    proxy.close()


def test_a_broker_that_dies_and_returns_gets_what_it_missed(aircraft, broker, subscriber) -> None:
    links = aircraft.links(f"mqtt://127.0.0.1:{broker.port}/uav1")
    (name,) = links.report()["links"]
    aircraft.fly(links, 10)
    assert aircraft.eventually(lambda: len(subscriber.sequences()) == 10)
    broker.stop()
    assert aircraft.eventually(lambda: links.report()["links"][name]["state"] == "down")
    aircraft.fly(links, 20, first=10)
    assert aircraft.eventually(lambda: links.report()["links"][name]["queued"] == 20)
    broker.start()
    assert aircraft.eventually(lambda: len(subscriber.sequences()) == 30)
    assert aircraft.eventually(lambda: links.report()["links"][name]["sent"] == 30)
    report = links.report()["links"][name]
    assert (report["state"], report["dropped"], report["queued"]) == ("up", 0, 0)
    assert report["connections"] >= 2
    assert report["failures"] >= 1


def test_a_password_is_sent_and_never_shown(aircraft, broker, tmp_path: Path) -> None:
    links = aircraft.links(f"mqtt://pilot:secret@127.0.0.1:{aircraft.free_port()}/uav1")
    (name,) = links.report()["links"]
    assert "secret" not in name + json.dumps(links.report())


@pytest.fixture
def ground_station(monkeypatch, aircraft):
    monkeypatch.setenv("MAVLINK20", "1")
    from pymavlink import mavutil

    port = aircraft.free_port(socket.SOCK_DGRAM)
    station = mavutil.mavlink_connection(f"udpin:127.0.0.1:{port}", dialect="common")
    yield port, station
    station.close()


def test_a_ground_station_sees_a_text_a_record_and_a_heartbeat(aircraft, ground_station) -> None:
    port, station = ground_station
    links = aircraft.links(f"mavlink+udp://127.0.0.1:{port}?system=7")
    aircraft.fly(links, 2)
    links.close(5)
    heartbeat = station.recv_match(type="HEARTBEAT", blocking=True, timeout=5)
    assert (heartbeat.get_srcSystem(), heartbeat.get_srcComponent()) == (7, 191)
    text = station.recv_match(type="STATUSTEXT", blocking=True, timeout=5)
    tunnel = station.recv_match(type="TUNNEL", blocking=True, timeout=5)
    second = station.recv_match(type="STATUSTEXT", blocking=True, timeout=5)
    assert {text.text, second.text} == {"Woods 3 px 0.75 at line 5 sample 3", "Corn 2 px 0.75 at line 1 sample 2"}
    assert tunnel.payload_type == TUNNEL_TYPE
    assert tunnel.payload_length == 36
    pixels = int.from_bytes(bytes(tunnel.payload[6:10]), "big")
    assert text.text.split()[1] == str(pixels)


def test_a_long_name_leaves_room_for_the_place(make_event) -> None:
    link = MavlinkLink("test", lambda: None)  # type: ignore[arg-type, return-value]
    text = link._messages(make_event(class_name="Ackerwinde, blühend, " * 9))[0].text
    assert len(text) == 50
    assert text.endswith(" 40 px 0.75 at line 104 sample 5")
    assert text.startswith("Ackerwinde")


def test_mavlink_flows_over_a_serial_line(make_event) -> None:
    from pymavlink.dialects.v20 import common

    near, far = pty.openpty()
    link = MavlinkLink("test", lambda: SerialOutput(os.ttyname(far), 57600))
    message = link.encode(make_event())
    output = SerialOutput(os.ttyname(far), 57600)
    output.write(message)
    received = b""
    while len(received) < len(message):
        received += os.read(near, 4096)
    output.close()
    messages = common.MAVLink(None).parse_buffer(received)
    assert [item.get_type() for item in messages] == ["STATUSTEXT", "TUNNEL"]
    for end in (near, far):
        os.close(end)


def packets_of(path: Path) -> dict[str, np.ndarray]:
    return PACKET.load(str(path), include_primary_header=True)


def test_another_reader_finds_every_field_of_a_packet(tmp_path: Path, make_event) -> None:
    link = CcsdsLink("test", lambda: FileOutput(tmp_path / "events.bin", PACKET_BYTES), 321, radio=False)
    link.open()
    link.send([make_event(5), make_event(6, complete=False, pixels=1 << 40)])
    link.close()
    data = (tmp_path / "events.bin").read_bytes()
    fields = packets_of(tmp_path / "events.bin")
    assert len(data) == 2 * PACKET_BYTES == 2 * 51
    assert fields["CCSDS_APID"].tolist() == [321, 321]
    assert fields["CCSDS_SECONDARY_FLAG"].tolist() == [1, 1]
    assert fields["CCSDS_PACKET_TYPE"].tolist() == [0, 0]
    assert fields["CCSDS_SEQUENCE_COUNT"].tolist() == [0, 1]
    assert fields["CCSDS_PACKET_LENGTH"].tolist() == [51 - 7] * 2
    assert fields["time_code"][0] == 0x40
    assert (int(fields["day"][0]) - 4383) * 86400 + fields["ms"][0] / 1000 == 1_795_000_000.25
    first = {field._name: int(fields[field._name][0]) for field in RECORD}
    assert first == {
        "sequence": 5,
        "class": 1,
        "complete": 1,
        "pixels": 40,
        "mean_confidence": round(0.75 * 65535),
        "max_confidence": 65535,
        "first_line": 100,
        "last_line": 109,
        "first_sample": 3,
        "last_sample": 8,
        "centre_line": 104,
        "centre_sample": 5,
        "lasted_ms": 500,
    }
    assert (fields["complete"][1], fields["pixels"][1]) == (0, (1 << 32) - 1)
    for start in (0, 51):
        assert crc_hqx(data[start : start + 51], 0xFFFF) == 0  # of a whole packet with its checksum


def test_a_packet_is_these_bytes(make_event) -> None:
    packet = CcsdsLink("test", lambda: None, 100, radio=True).encode(make_event(2))  # type: ignore[arg-type, return-value]
    assert packet[:-2].hex(" ") == (
        "08 64 c0 00 00 2c 40 62 46 02 62 5a fa "  # header, time
        "00 00 00 02 01 01 00 00 00 28 bf ff ff ff "  # sequence, class, complete, pixels, confidence
        "00 00 00 64 00 00 00 6d 00 03 00 08 "  # lines, samples
        "00 00 00 68 00 05 00 00 01 f4"  # centre, milliseconds
    )


def test_packets_arrive_over_udp(aircraft, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ground:
        ground.bind(("127.0.0.1", 0))
        ground.settimeout(5)
        links = aircraft.links(f"ccsds+udp://127.0.0.1:{ground.getsockname()[1]}?apid=7")
        aircraft.fly(links, 20)
        links.close(5)
        (tmp_path / "udp.bin").write_bytes(b"".join(ground.recv(4096) for _ in range(20)))
    fields = packets_of(tmp_path / "udp.bin")
    assert sorted(fields["sequence"].tolist()) == list(range(20))
    assert fields["CCSDS_SEQUENCE_COUNT"].tolist() == list(range(20))
    (report,) = links.report()["links"].values()
    assert report["bytes"] == 20 * 51


def test_packets_go_to_a_file_and_a_torn_one_is_cut_off(aircraft, tmp_path: Path) -> None:
    path = tmp_path / "events.bin"
    path.write_bytes(b"\x08" * 30)
    links = aircraft.links(f"ccsds:{path}")
    aircraft.fly(links, 3)
    links.close(5)
    assert sorted(packets_of(path)["sequence"].tolist()) == [0, 1, 2]


def test_scrapes_give_the_counters_as_they_stand(aircraft, tmp_path: Path) -> None:
    links = aircraft.links(f"jsonl:{tmp_path / 'events.jsonl'}", "prometheus://:0")
    (port,) = links.metrics_ports
    aircraft.fly(links, 10)
    for seconds in (0.0004, 0.004, 99.0):
        links.observe(received=44, classified=40, dropped=3, rejected=1, latency_seconds=seconds)
    (name,) = links.report()["links"]
    assert aircraft.eventually(lambda: links.report()["links"][name]["sent"] == 10)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    values = {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}
    assert values["hyperline_lines_total", "received"] == 44
    assert values["hyperline_lines_total", "classified"] == 40
    assert values["hyperline_lines_total", "dropped"] == 3
    assert values["hyperline_lines_total", "rejected"] == 1
    assert values["hyperline_block_latency_seconds_bucket", "0.001"] == 1
    assert values["hyperline_block_latency_seconds_bucket", "0.005"] == 2
    assert values["hyperline_block_latency_seconds_bucket", "5.0"] == 2
    assert values["hyperline_block_latency_seconds_bucket", "+Inf"] == 3
    assert values[("hyperline_block_latency_seconds_count",)] == 3
    sizes = [2 + block % 7 for block in range(10)]
    assert values["hyperline_pixels_total", "Corn"] == sum(sizes[::2])
    assert values["hyperline_pixels_total", "Woods"] == sum(sizes[1::2])
    assert values["hyperline_pixels_total", "no class"] == 10 * 4 * 13 - sum(sizes)
    assert values["hyperline_events_total", "found"] == 10
    assert values["hyperline_link_events_total", name, "sent"] == 10
    assert values["hyperline_link_up", name] == 1
    assert values["hyperline_link_queued_events", name] == 0
    assert values[("hyperline_queued_blocks",)] == 0
    links.close(5)
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=1)


def test_the_file_keeps_whole_lines_in_the_order_of_events(aircraft, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"sequence": 7}\n{"seq')
    links = aircraft.links(f"jsonl:{path}")
    aircraft.fly(links, 50)
    links.close(5)
    lines = path.read_text().splitlines()
    assert lines[:2] == ['{"sequence": 7}', '{"seq']
    assert [json.loads(line)["sequence"] for line in lines[2:]] == list(range(50))
