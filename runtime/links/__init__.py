"""What leaves the aircraft: events, metrics, and the links that carry them (docs/links.md)."""

from hyperline.runtime.links.event import Event, Rule
from hyperline.runtime.links.links import Links
from hyperline.runtime.links.specs import FORMS

__all__ = ["FORMS", "Event", "Links", "Rule"]
