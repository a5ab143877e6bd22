"""The calls that a program makes; the command line makes the same.

Import them from ``hyperline``. What trains, exports or calibrates needs the extra that it names, and loads it when it
is called.
"""

from hyperline.api.calibration import Calibrated, calibrate_bundle
from hyperline.api.classifier import Classifier, ClassMap, open_bundle
from hyperline.api.stream import ClassifiedBlock, Stream
from hyperline.api.training import export_run, train_scene
from hyperline.api.verification import Verification, verify_bundle
from hyperline.bundle import sign_bundle
from hyperline.errors import HyperlineError, InputError
from hyperline.scenes import Scene, read_scene

__all__ = [
    "Calibrated",
    "ClassMap",
    "ClassifiedBlock",
    "Classifier",
    "HyperlineError",
    "InputError",
    "Scene",
    "Stream",
    "Verification",
    "calibrate_bundle",
    "export_run",
    "open_bundle",
    "read_scene",
    "sign_bundle",
    "train_scene",
    "verify_bundle",
]
