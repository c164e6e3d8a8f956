"""Synthetic profiles with known answers: two blocks and a stem, and their plain twin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from scconv_deploy.bench.cost import GraphCost
from scconv_deploy.bench.honesty import Side, Subject
from scconv_deploy.bench.profile import Profile
from scconv_deploy.profiles import Ceilings, Work

ROOF = Ceilings(1, 100.0, 10.0, "made up")
SUBJECT = Subject(
    "ours",
    "model.pt",
    1,
    1,
    ("a.conv", "b.conv"),
    plain={"a.conv": "3x3 convolution 8 -> 8", "b.conv": "3x3 convolution 16 -> 16"},
)
RUNS = 20


def graph(names: Sequence[str]) -> onnx.ModelProto:
    nodes = [onnx.helper.make_node("Relu", ["x"], [f"v{i}"], name=n) for i, n in enumerate(names)]
    return onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], []))


def side(
    times: Mapping[str, float], works: Mapping[str, Work], unknown: Mapping[str, float] | None = None
) -> Side:
    """``times``: microseconds by exported node, a little different in every run. ``unknown``: of nodes that the
    runtime made up."""
    wobble = 1 + 0.01 * np.sin(np.arange(RUNS))
    every = {**times, **(unknown or {})}
    exported = graph(list(times))
    profile = Profile(graph([]), {n: t * wobble for n, t in every.items()}, RUNS, 1.7)
    profile.graph.graph.node.extend(exported.graph.node)
    return Side(exported, profile, GraphCost(works, ()))


# Block a: SRU 30 and CRU 70 us against 80 plain; block b: 40 and 60 against 400.
OURS = side(
    {
        "stem/Conv_0": 50.0,
        "a.conv.sru/Mul_1": 10.0,
        "a.conv.sru/Add_2": 20.0,
        "a.conv.cru.gwc/Conv_3": 70.0,
        "b.conv.sru/Mul_4": 40.0,
        "b.conv.cru.gwc/Conv_5": 55.0,
        "b.conv/Concat_6": 5.0,
    },
    {
        "stem/Conv_0": Work(1_000_000, 0, 100_000),
        "a.conv.sru/Mul_1": Work(0, 1_000, 100_000),
        "a.conv.sru/Add_2": Work(0, 1_000, 200_000),
        "a.conv.cru.gwc/Conv_3": Work(2_000_000, 0, 50_000),
        "b.conv.sru/Mul_4": Work(0, 4_000, 300_000),
        "b.conv.cru.gwc/Conv_5": Work(1_000_000, 0, 50_000),
        "b.conv/Concat_6": Work(0, 0, 10_000),
    },
    {"Reorder_99": 50.0},
)
TWIN = side({"stem/Conv_0": 50.0, "a.conv/Conv_1": 80.0, "b.conv/Conv_2": 400.0}, {})
