"""The native operators in onnxruntime: registered, they take the place of a model's function bodies."""

from __future__ import annotations

import logging

import onnxruntime

from hyperline.errors import HyperlineError
from hyperline.plugins import OPS_VERSION
from hyperline.plugins.native import find_library

ORT_LIBRARY = "libhyperline_ort.so"
# In a model's metadata: the version of the operators that it uses. One of another version runs on its function bodies.
OPS_VERSION_KEY = "hyperline.ops_version"

_LOG = logging.getLogger(__name__)


def register_native_ops(options: onnxruntime.SessionOptions, gpu: bool = False) -> None:
    """Let sessions made with these options run our operators natively.

    Args:
        options: of the sessions.
        gpu: whether they run on a GPU: then what has a kernel for the CPU alone runs as its body.

    Raises:
        HyperlineError: the library is not installed, or this onnxruntime does not take it.
    """
    library = find_library(ORT_LIBRARY)
    if library is None:
        raise HyperlineError(
            f"{ORT_LIBRARY} is not installed; install hyperline again where g++ and ONNX Runtime's headers "
            "(libonnxruntime-dev) are found"
        )
    if gpu:
        options.add_session_config_entry("hyperline.gpu", "1")  # plugins/ort/ops.cpp reads it
    try:
        options.register_custom_ops_library(str(library))
    except Exception as error:  # onnxruntime's errors share no base class
        reason = str(error).strip().partition("\n")[0]
        raise HyperlineError(
            f"onnxruntime {onnxruntime.__version__} does not take {library} ({reason}); update onnxruntime, or "
            "install hyperline again with the headers of this release"
        ) from error


def try_native_ops(options: onnxruntime.SessionOptions, gpu: bool = False) -> bool:
    """Do the same where it can be done, and say in the log why not where it cannot.

    Returns:
        Whether the operators are registered.
    """
    try:
        register_native_ops(options, gpu)
    except HyperlineError as error:
        _LOG.warning("models run on their function bodies, some times slower: %s", error)
        return False
    return True


def runs_native_ops(session: onnxruntime.InferenceSession) -> bool:
    """Return whether a session whose options have the native operators runs its model on them."""
    return bool(session.get_modelmeta().custom_metadata_map.get(OPS_VERSION_KEY) == str(OPS_VERSION))
