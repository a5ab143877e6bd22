"""The feed: a flight shows its latest lines in memory that others may read (docs/view.md has it to the byte)."""

from hyperline.runtime.feed.layout import Layout, Lines
from hyperline.runtime.feed.reader import FeedReader
from hyperline.runtime.feed.writer import FeedWriter, open_feed

__all__ = ["FeedReader", "FeedWriter", "Layout", "Lines", "open_feed"]
