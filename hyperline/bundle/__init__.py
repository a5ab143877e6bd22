"""The bundle: one file that holds a trained classifier and all that the runtime must know of it."""

from hyperline.bundle.bundle import Bundle, add_members, read_bundle, sign_bundle, write_bundle
from hyperline.bundle.card import Accuracy, Card, Confidence, StateTensor
from hyperline.bundle.golden import encode_golden
from hyperline.bundle.manifest import read_public_key

__all__ = [
    "Accuracy",
    "Bundle",
    "Card",
    "Confidence",
    "StateTensor",
    "add_members",
    "encode_golden",
    "read_bundle",
    "read_public_key",
    "sign_bundle",
    "write_bundle",
]
