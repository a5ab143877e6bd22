"""The plugin in the registry of TensorRT's Python bindings. No trt.Runtime here: without a GPU it ends the process."""

import importlib

import numpy as np
import pytest


@pytest.fixture(scope="module")
def trt(lean):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(lean))
        try:
            return importlib.import_module("tensorrt_lean_bindings")
        except ImportError as error:
            pytest.skip(f"the lean runtime's bindings in {lean} are for another Python: {error}")


@pytest.fixture(scope="module")
def registry(trt, trt_library):
    registry = trt.get_plugin_registry()
    handle = registry.load_library(str(trt_library))
    yield registry
    registry.deregister_library(handle)


def fields(trt, **values):
    return trt.PluginFieldCollection(
        [
            trt.PluginField(name, np.array([value], np.int32), trt.PluginFieldType.INT32)
            for name, value in values.items()
        ]
    )


@pytest.mark.parametrize(("name", "attribute", "value"), [("SelectiveScan", "reverse", 1), ("ExpertGate", "k", 2)])
def test_a_plugin_is_found_by_name_and_made(trt, registry, name, attribute, value):
    creator = registry.get_creator(name, "1", "hyperline")
    assert [field.name for field in creator.field_names] == [attribute]
    plugin = creator.create_plugin("layer", fields(trt, **{attribute: value}), trt.TensorRTPhase.BUILD)
    assert plugin is not None
    core = plugin.get_capability_interface(trt.PluginCapabilityType.CORE)
    assert (core.plugin_name, core.plugin_version, core.plugin_namespace) == (name, "1", "hyperline")


def test_a_plugin_of_another_namespace_or_version_is_not_ours(registry):
    assert registry.get_creator("SelectiveScan", "1", "") is None
    assert registry.get_creator("SelectiveScan", "2", "hyperline") is None


def test_a_plugin_without_its_attribute_is_refused(trt, registry, capfd):
    creator = registry.get_creator("SelectiveScan", "1", "hyperline")
    assert creator.create_plugin("layer", fields(trt), trt.TensorRTPhase.BUILD) is None
    captured = capfd.readouterr()
    assert "layer layer: the node has no attribute reverse" in captured.out + captured.err


def test_the_library_can_be_loaded_twice(registry, trt_library):
    registry.deregister_library(registry.load_library(str(trt_library)))
    assert registry.get_creator("ExpertGate", "1", "hyperline") is not None
