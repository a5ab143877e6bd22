"""The examples run: one in a process of its own, the node's logic and its main on messages as rclpy passes them."""

import importlib.util
import subprocess
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from tiny_model import tiny_scene

import hyperline

ROOT = Path(__file__).resolve().parents[2]


_SPEC = importlib.util.spec_from_file_location("ros2_node", ROOT / "examples/ros2_node.py")
ros2_node = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(ros2_node)


@pytest.fixture(scope="module")
def bundle_file(tiny):
    return tiny.bundle(4).path


@pytest.fixture
def scene():
    return tiny_scene()


@dataclass
class Image:
    """The fields of sensor_msgs/Image."""

    header: object = None
    height: int = 0
    width: int = 0
    encoding: str = ""
    is_bigendian: int = 0
    step: int = 0
    data: bytes = field(default=b"", repr=False)


def message(line, number=0):
    line = np.ascontiguousarray(line, "<f4")
    return Image(f"line {number}", 1, len(line), f"32FC{line.shape[1]}", 0, line[0].nbytes * len(line), line.tobytes())


def stamped(seconds):
    """Return a std_msgs/Header with this time."""
    whole = int(seconds)
    stamp = types.SimpleNamespace(sec=whole, nanosec=round(1e9 * (seconds - whole)))
    return types.SimpleNamespace(stamp=stamp)


@pytest.fixture
def node(bundle_file):
    return ros2_node.LineClassifier(hyperline.open_bundle(bundle_file, threads=1), Image)


def labels(images):
    return np.concatenate([np.frombuffer(one.data, np.uint8).reshape(one.height, one.width) for one in images])


def test_embedding_is_a_few_lines_that_run(bundle_file, scene, tmp_path):
    np.savez(tmp_path / "scene.npz", cube=np.abs(scene.cube), wavelengths_nm=scene.wavelengths_nm)
    command = [sys.executable, ROOT / "examples/embed.py", bundle_file, tmp_path / "scene.npz"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 6
    assert done.stdout.startswith("lines 0 to 3: mostly ")


def test_a_node_publishes_what_a_stream_gives(node, bundle_file, scene):
    cube = np.abs(scene.cube)
    images = [image for number, line in enumerate(cube) for image in node.take(message(line, number))]
    assert images[0].header == "line 3" and images[0].encoding == "mono8"
    images += node.finish()
    expected = hyperline.open_bundle(bundle_file, threads=1).classify(hyperline.Scene("field", cube)).labels
    np.testing.assert_array_equal(labels(images), expected)


def test_a_gap_keeps_its_places_and_what_comes_twice_is_left_out(node, scene):
    cube = np.abs(scene.cube)
    images = []
    for number in (0, 1, 1, 4, 5, 6, 7):
        images += node.take(message(cube[number]), number)
    found = labels(images)
    assert len(found) == 8
    assert not found[2:4].any() and found[[0, 1, 4, 5, 6, 7]].all()


def test_after_a_long_gap_the_strip_begins_anew(node, scene):
    cube = np.abs(scene.cube)
    first = labels([*node.take(message(cube[0]), 0), *node.finish()])
    images = [*node.take(message(cube[1]), 0), *node.take(message(cube[0]), 500), *node.finish()]
    np.testing.assert_array_equal(labels(images)[1:], first)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoding": "rgb8"}, "encoding 'rgb8'"),
        ({"height": 2}, "an image of 2 rows"),
        ({"data": b"123"}, "a line of 3 bytes"),
        ({"encoding": "32FC0"}, "encoding '32FC0'"),
    ],
)
def test_a_message_that_is_no_line_is_refused(node, scene, change, said):
    wrong = message(scene.cube[0])
    for name, value in change.items():
        setattr(wrong, name, value)
    with pytest.raises(hyperline.InputError, match=said):
        node.take(wrong)


@pytest.mark.parametrize(("line_period", "lost"), [(0.0, ()), (0.004, (5, 6))])
def test_the_node_passes_messages_on_and_ends_its_strip(bundle_file, scene, monkeypatch, line_period, lost):
    """A stand-in of rclpy's shape, that spins once over the lines; not ROS."""
    published, errors, stopped = [], [], []

    class Node:
        def __init__(self, name):
            self.parameters = {"bundle": str(bundle_file), "line_period": line_period}

        def declare_parameter(self, name, default):
            return types.SimpleNamespace(value=self.parameters.get(name, default))

        def create_publisher(self, kind, topic, depth):
            return types.SimpleNamespace(publish=published.append)

        def create_subscription(self, kind, topic, callback, profile):
            self.callback = callback

        def get_logger(self):
            return types.SimpleNamespace(error=errors.append)

        def destroy_node(self):
            stopped.append("node")

    def spin(node):
        node.callback(Image(stamped(0.0), encoding="rgb8"))
        for number, line in enumerate(np.abs(scene.cube)):
            if number not in lost:
                one = message(line)
                one.header = stamped(1700000000 + 0.004 * number)
                node.callback(one)
        raise KeyboardInterrupt

    rclpy = types.ModuleType("rclpy")
    rclpy.init, rclpy.spin, rclpy.shutdown = lambda: None, spin, lambda: stopped.append("rclpy")
    modules = {
        "rclpy": rclpy,
        "rclpy.node": types.SimpleNamespace(Node=Node),
        "rclpy.qos": types.SimpleNamespace(
            QoSProfile=lambda **settings: settings, ReliabilityPolicy=types.SimpleNamespace(RELIABLE="reliable")
        ),
        "sensor_msgs": types.ModuleType("sensor_msgs"),
        "sensor_msgs.msg": types.SimpleNamespace(Image=Image),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    ros2_node.main()
    found = labels(published)
    assert len(found) == scene.lines
    assert [number for number, line in enumerate(found) if not line.any()] == list(lost)
    assert len(errors) == 1 and "rgb8" in errors[0]
    assert stopped == ["node", "rclpy"]
