"""A network's dynamic inputs + their ranges -> optimisation profiles that the builder took, in order."""

from __future__ import annotations

from typing import Any

from exporters.trt.settings import BuildRequest
from scconv_deploy.artifacts import Json, ShapeBounds, TensorSpec
from scconv_deploy.errors import BuildError


def set_shapes(builder: Any, config: Any, network: Any, request: BuildRequest) -> list[Json]:
    """Give dynamic inputs their optimisation profiles.

    Returns:
        One list per profile, of one ``{"input", "min", "opt", "max"}`` per dynamic input, for the manifest;
        empty where all is static.

    Raises:
        BuildError: an input is dynamic and has no range, or a range does not fit the graph.
    """
    specs = {spec.name: spec for spec in request.inputs}
    dynamic: list[tuple[str, tuple[ShapeBounds, ...]]] = []
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 not in shape:
            continue
        ranges = _ranges(specs.get(tensor.name), tensor.name, shape)
        if request.at_optimum:
            tensor.shape = ranges[0].optimum
        else:
            dynamic.append((tensor.name, ranges))
    if not dynamic:
        return []
    count = max(len(ranges) for _, ranges in dynamic)
    return [_add(builder, config, dynamic, number) for number in range(count)]


def _add(
    builder: Any, config: Any, dynamic: list[tuple[str, tuple[ShapeBounds, ...]]], number: int
) -> list[Json]:
    profile = builder.create_optimization_profile()
    described: list[Json] = []
    for name, ranges in dynamic:
        b = ranges[number] if len(ranges) > 1 else ranges[0]
        profile.set_shape(name, b.minimum, b.optimum, b.maximum)
        if [tuple(s) for s in profile.get_shape(name)] != [b.minimum, b.optimum, b.maximum]:
            raise BuildError(f"the builder did not take the range of input '{name}' in profile {number}")
        described.append(
            {"input": name, "min": list(b.minimum), "opt": list(b.optimum), "max": list(b.maximum)}
        )
    if config.add_optimization_profile(profile) != number:
        raise BuildError(f"the builder refused the optimisation profile {number}: {described}")
    return described


def _ranges(spec: TensorSpec | None, name: str, shape: tuple[int, ...]) -> tuple[ShapeBounds, ...]:
    if spec is None or not (spec.minimum and spec.optimum and spec.maximum):
        raise BuildError(
            f"input '{name}' has dynamic axes ({_written(shape)}) and no range; "
            "give --minShapes, --optShapes and --maxShapes for it, or --profile"
        )
    ranges = spec.profiles or (ShapeBounds(spec.minimum, spec.optimum, spec.maximum),)
    for number, bounds in enumerate(ranges):
        where = f" in profile {number}" if len(ranges) > 1 else ""
        for label, given in (
            ("minimum", bounds.minimum),
            ("optimum", bounds.optimum),
            ("maximum", bounds.maximum),
        ):
            if len(given) != len(shape) or any(d not in (-1, g) for d, g in zip(shape, given, strict=True)):
                raise BuildError(
                    f"the {label} shape {_written(given)} of input '{name}'{where} does not fit the graph, "
                    f"where it is {_written(shape)} (? is free)"
                )
    return ranges


def _written(shape: tuple[int, ...]) -> str:
    return "x".join("?" if d == -1 else str(d) for d in shape)
