"""A ROS 2 node: lines of a push-broom sensor in, blocks of labels out.

    ros2 run … or: python examples/ros2_node.py --ros-args -p bundle:=/data/field.hlb

Subscribes to ``lines`` (sensor_msgs/Image, one a line of the sensor: height 1, width the samples, and in each pixel
the bands as values of 16UC or 32FC, such as encoding ``16UC224``) and publishes ``labels`` (sensor_msgs/Image, mono8, a
block a message: class ids, 0 for none). Messages are asked for reliably: a line that nobody missed would shift all
after it. With ``-p line_period:=0.004``, the seconds between two lines, time stamps tell which were lost.
`LineClassifier` knows nothing of ROS and is what the tests drive; the node around it was not run under ROS 2.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hyperline

_LOG = logging.getLogger(__name__)
_ENCODING = re.compile(r"(16UC|32FC)([1-9][0-9]*)")
_TYPES = {"16UC": "u2", "32FC": "f4"}
# Where more lines are missing, what lies before them is another place.
_LONGEST_GAP = 64


def line_of(message: Any) -> NDArray[Any]:
    """Return the (sample, band) line that a sensor_msgs/Image holds, without a copy.

    Raises:
        hyperline.InputError: it is no line of 16-bit counts or float32.
    """
    encoding = _ENCODING.fullmatch(message.encoding)
    if encoding is None or message.height != 1:
        raise hyperline.InputError(
            f"an image of {message.height} rows, encoding {message.encoding!r}; a line has one row, 16UC or 32FC"
        )
    dtype = np.dtype((">" if message.is_bigendian else "<") + _TYPES[encoding[1]])
    bands = int(encoding[2])
    size = message.width * bands * dtype.itemsize
    if len(message.data) != size:
        raise hyperline.InputError(f"a line of {len(message.data)} bytes; its size and encoding ask for {size}")
    return np.frombuffer(message.data, dtype).reshape(message.width, bands)


def line_number(stamp: Any, line_period: float) -> int | None:
    """Count lines by the clock of the sensor.

    Args:
        stamp: builtin_interfaces/Time of the line.
        line_period: seconds between two lines; 0 where nobody knows.

    Returns:
        A number that goes up by one a line, and by more where lines were lost; None without a period.
    """
    return round((stamp.sec + 1e-9 * stamp.nanosec) / line_period) if line_period > 0 else None


class LineClassifier:
    """Turns messages of lines into messages of labels, and keeps the places of those that were lost."""

    def __init__(self, classifier: hyperline.Classifier, make_image: Callable[[], Any]) -> None:
        """Begin without a strip; the first message says how wide it is.

        Args:
            classifier: an opened bundle.
            make_image: makes an empty sensor_msgs/Image.
        """
        self._classifier, self._make_image = classifier, make_image
        self._stream: hyperline.Stream | None = None
        self._next: int | None = None
        self._header: Any = None

    def take(self, message: Any, sequence: int | None = None) -> list[Any]:
        """Classify a line.

        Args:
            message: sensor_msgs/Image of one line.
            sequence: number of the line, where the driver gives one: a jump is lines that were lost.

        Returns:
            The messages that this line completes, mostly none.

        Raises:
            hyperline.InputError: the message is no line, or of another size than those before; it is left out.
        """
        line = line_of(message)
        if self._stream is None:
            self._stream = self._classifier.stream(samples=line.shape[0], bands=line.shape[1])
        missing = 0 if sequence is None or self._next is None else sequence - self._next
        if missing < 0:
            return []  # late, or twice
        self._header = message.header
        blocks = list(self._pass_over(self._stream, missing))
        blocks.append(self._stream.feed(line))
        self._next = None if sequence is None else sequence + 1
        return [self._image(block) for block in blocks if block is not None]

    def finish(self) -> list[Any]:
        """End the strip, and return the message of its last lines."""
        block = self._stream.finish() if self._stream is not None else None
        self._next = None
        return [] if block is None else [self._image(block)]

    @staticmethod
    def _pass_over(stream: hyperline.Stream, missing: int) -> Iterator[hyperline.ClassifiedBlock | None]:
        if missing > _LONGEST_GAP:
            _LOG.warning("%d lines are missing: the strip begins anew", missing)
            yield stream.finish()
            return
        for _ in range(missing):
            yield stream.skip()

    def _image(self, block: hyperline.ClassifiedBlock) -> Any:
        image = self._make_image()
        image.header = self._header  # of the line that completed the block
        image.height, image.width = block.labels.shape
        image.encoding, image.is_bigendian, image.step = "mono8", 0, image.width
        image.data = block.labels.tobytes()
        return image


def main() -> None:
    """Run the node until it is told to stop."""
    import rclpy
    from rclpy.node import Node
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    rclpy.init()
    node = Node("hyperline")
    bundle = node.declare_parameter("bundle", "").value
    precision = node.declare_parameter("precision", "fp32").value
    line_period = node.declare_parameter("line_period", 0.0).value
    lines = LineClassifier(hyperline.open_bundle(bundle, precision=precision), Image)
    publisher = node.create_publisher(Image, "labels", 10)

    def on_line(message: Any) -> None:
        try:
            for image in lines.take(message, line_number(message.header.stamp, line_period)):
                publisher.publish(image)
        except hyperline.InputError as error:
            node.get_logger().error(str(error))

    node.create_subscription(Image, "lines", on_line, QoSProfile(depth=256, reliability=ReliabilityPolicy.RELIABLE))
    try:
        rclpy.spin(node)
    except KeyboardInterrupt:
        pass
    finally:
        for image in lines.finish():
            publisher.publish(image)
        node.destroy_node()
        rclpy.shutdown()


if __name__ == "__main__":
    main()
