"""A plugin creator that does nothing, to be registered in the process that builds."""

from __future__ import annotations

from typing import Any


def register(trt: Any) -> object:
    """Register ``Mystery``; the creator must be kept alive by the caller."""

    class Plugin(trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):  # type: ignore[misc]
        def __init__(self) -> None:
            for base in (trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):
                base.__init__(self)
            self.plugin_name, self.plugin_version, self.plugin_namespace = "Mystery", "1", ""
            self.num_outputs = 1

        def get_capability_interface(self, kind: object) -> object:
            return self

        def get_output_data_types(self, types: list[Any]) -> list[Any]:
            return types

        def get_output_shapes(self, inputs: list[Any], shapes: list[Any], builder: object) -> list[Any]:
            return inputs

        def supports_format_combination(self, position: int, tensors: object, inputs: int) -> bool:
            return True

        def configure_plugin(self, inputs: object, outputs: object) -> None: ...

        def get_fields_to_serialize(self) -> Any:
            return trt.PluginFieldCollection([])

        def clone(self) -> Plugin:
            return Plugin()

    class Creator(trt.IPluginCreatorV3One):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IPluginCreatorV3One.__init__(self)
            self.name, self.plugin_version, self.plugin_namespace = "Mystery", "1", ""
            self.field_names = trt.PluginFieldCollection([])

        def create_plugin(self, name: str, fields: object, phase: object) -> Plugin:
            return Plugin()

    creator = Creator()
    trt.get_plugin_registry().register_creator(creator, "")
    return creator
