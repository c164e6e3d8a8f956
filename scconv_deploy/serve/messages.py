"""The Open Inference Protocol's gRPC messages, described to protobuf field by field.

Source: Open Inference Protocol, gRPC API, package ``inference``, service ``GRPCInferenceService``. The messages live
in a descriptor pool of their own, so that a client library in the same process may register its copies.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

_Field = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
    "bool": _Field.TYPE_BOOL,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
    "float": _Field.TYPE_FLOAT,
    "double": _Field.TYPE_DOUBLE,
}
CONTENTS = (
    ("bool_contents", 1, "bool"),
    ("int_contents", 2, "int32"),
    ("int64_contents", 3, "int64"),
    ("uint_contents", 4, "uint32"),
    ("uint64_contents", 5, "uint64"),
    ("fp32_contents", 6, "float"),
    ("fp64_contents", 7, "double"),
    ("bytes_contents", 8, "bytes"),
)
PARAMETER = (("bool_param", 1, "bool"), ("int64_param", 2, "int64"), ("string_param", 3, "string"))
TENSOR_METADATA = (("name", 1, "string"), ("datatype", 2, "string"), ("shape", 3, "*int64"))
IN_TENSOR = "ModelInferRequest.InferInputTensor"
WANTED_TENSOR = "ModelInferRequest.InferRequestedOutputTensor"
OUT_TENSOR = "ModelInferResponse.InferOutputTensor"

# Message -> (field, number, type): "*" repeated, "{}" a map from names to parameters.
MESSAGES: dict[str, tuple[tuple[str, int, str], ...]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": (("live", 1, "bool"),),
    "ServerReadyRequest": (),
    "ServerReadyResponse": (("ready", 1, "bool"),),
    "ModelReadyRequest": (("name", 1, "string"), ("version", 2, "string")),
    "ModelReadyResponse": (("ready", 1, "bool"),),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": (("name", 1, "string"), ("version", 2, "string"), ("extensions", 3, "*string")),
    "ModelMetadataRequest": (("name", 1, "string"), ("version", 2, "string")),
    "ModelMetadataResponse": (
        ("name", 1, "string"),
        ("versions", 2, "*string"),
        ("platform", 3, "string"),
        ("inputs", 4, "*ModelMetadataResponse.TensorMetadata"),
        ("outputs", 5, "*ModelMetadataResponse.TensorMetadata"),
    ),
    "ModelMetadataResponse.TensorMetadata": TENSOR_METADATA,
    "InferParameter": PARAMETER,
    "InferTensorContents": tuple((name, number, f"*{kind}") for name, number, kind in CONTENTS),
    "ModelInferRequest": (
        ("model_name", 1, "string"),
        ("model_version", 2, "string"),
        ("id", 3, "string"),
        ("parameters", 4, "{}"),
        ("inputs", 5, f"*{IN_TENSOR}"),
        ("outputs", 6, f"*{WANTED_TENSOR}"),
        ("raw_input_contents", 7, "*bytes"),
    ),
    IN_TENSOR: (
        ("name", 1, "string"),
        ("datatype", 2, "string"),
        ("shape", 3, "*int64"),
        ("parameters", 4, "{}"),
        ("contents", 5, "InferTensorContents"),
    ),
    WANTED_TENSOR: (("name", 1, "string"), ("parameters", 2, "{}")),
    "ModelInferResponse": (
        ("model_name", 1, "string"),
        ("model_version", 2, "string"),
        ("id", 3, "string"),
        ("parameters", 4, "{}"),
        ("outputs", 5, f"*{OUT_TENSOR}"),
        ("raw_output_contents", 6, "*bytes"),
    ),
    OUT_TENSOR: (
        ("name", 1, "string"),
        ("datatype", 2, "string"),
        ("shape", 3, "*int64"),
        ("parameters", 4, "{}"),
        ("contents", 5, "InferTensorContents"),
    ),
}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="open_inference_protocol.proto", package=PACKAGE, syntax="proto3"
    )
    made: dict[str, Any] = {}
    for path in MESSAGES:
        outer, _, inner = path.rpartition(".")
        made[path] = (made[outer].nested_type if outer else file.message_type).add(name=inner)
    for path, fields in MESSAGES.items():
        for name, number, kind in fields:
            _add_field(made[path], path, name, number, kind)
    oneof = made["InferParameter"].oneof_decl.add(name="parameter_choice")
    del oneof
    for field in made["InferParameter"].field:
        field.oneof_index = 0
    return file


def _add_field(message: Any, path: str, name: str, number: int, kind: str) -> None:
    field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if kind == "{}":
        entry = message.nested_type.add(name="ParametersEntry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_STRING)
        entry.field.add(
            name="value",
            number=2,
            label=_Field.LABEL_OPTIONAL,
            type=_Field.TYPE_MESSAGE,
            type_name=f".{PACKAGE}.InferParameter",
        )
        kind = f"*{path}.ParametersEntry"
    if kind.startswith("*"):
        field.label, kind = _Field.LABEL_REPEATED, kind[1:]
    if kind in SCALARS:
        field.type = SCALARS[kind]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_file())


def message(name: str) -> Any:
    """The class of one message of the protocol, like ``ModelInferRequest``."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))
