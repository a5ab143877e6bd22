"""The step's graph as TensorRT's parser wants it: with our operators as plugins, or without them.

It needs onnx and nothing else, so that it runs on the device: the version of TensorRT there decides the form.
"""

from __future__ import annotations

from enum import Enum

import onnx
import onnx.checker
import onnx.inliner

from hyperline.errors import HyperlineError
from hyperline.plugins import DOMAIN, OPS_VERSION
from hyperline.plugins.fused_functions import expand_fused

# From here on the parser takes a plugin, if it is loaded, in place of a model-local function of the same name.
_PLUGIN_OVER_FUNCTION = (10, 7)


class GraphForm(Enum):
    """What an operator of ours is in the graph."""

    PLUGIN_OR_BODY = "plugin or body"
    """The plugin where it is loaded, the function body otherwise: TensorRT 10.7 and later."""
    PLUGIN = "plugin"
    """The plugin alone, without a body: before 10.7 the body would always win."""
    INLINED = "inlined"
    """The nodes of its body: needs no plugin and knows no function."""


def graph_form(version: tuple[int, ...], plugin: bool) -> GraphForm:
    """Choose the form for a version of TensorRT, such as (10, 3, 0), with or without our plugin library."""
    if not plugin:
        return GraphForm.INLINED
    return GraphForm.PLUGIN_OR_BODY if version[:2] >= _PLUGIN_OVER_FUNCTION else GraphForm.PLUGIN


def tensorrt_graph(model: bytes, form: GraphForm) -> bytes:
    """Rewrite the ONNX file of a bundle for TensorRT's parser; what it computes stays the same.

    Args:
        model: the ONNX file.
        form: what our operators become.

    Returns:
        An ONNX file, the same bytes for the same input.

    Raises:
        HyperlineError: ``model`` is no ONNX file.
    """
    try:
        graph = onnx.load_from_string(model)
        if form is GraphForm.INLINED:
            graph = onnx.inliner.inline_local_functions(graph)
            onnx.checker.check_model(graph, full_check=True)
        else:
            graph = expand_fused(graph)  # a scan within a function would be no plugin
            _mark_plugins(graph, keep_bodies=form is GraphForm.PLUGIN_OR_BODY)
    except Exception as error:  # protobuf and onnx share no base class
        reason = str(error).strip().partition("\n")[0]
        raise HyperlineError(
            f"the model is no ONNX file that can be read: {reason}; export the bundle again"
        ) from error
    return bytes(graph.SerializeToString(deterministic=True))


def _mark_plugins(model: onnx.ModelProto, keep_bodies: bool) -> None:
    """Say in every node of our domain which plugin it is."""
    for node in model.graph.node:
        if node.domain != DOMAIN:
            continue
        node.attribute.extend(
            [
                onnx.helper.make_attribute("plugin_namespace", DOMAIN),
                onnx.helper.make_attribute("plugin_version", str(OPS_VERSION)),
            ]
        )
        # The parser wants as many named outputs as the plugin has; the export leaves unread ones without a name.
        node.output[:] = [name or f"{node.output[0]}.unread_{index}" for index, name in enumerate(node.output)]
    if not keep_bodies:
        kept = [function for function in model.functions if function.domain != DOMAIN]
        del model.functions[:]
        model.functions.extend(kept)
