"""Profiles that fit the graph, one or several, and refusals by name."""

from dataclasses import replace

import pytest

from exporters.trt.build import build_plan
from exporters.trt.profiles import set_shapes
from exporters.trt.settings import BuildRequest
from scconv_deploy.artifacts import ShapeBounds, TensorSpec
from scconv_deploy.errors import BuildError
from tests.exporters.trt.models import DYNAMIC, SILENCE, conv_relu, rtx_platform
from tests.exporters.trt.networks import empty_network


def test_a_dynamic_input_gets_its_profile() -> None:
    builder, config, network = empty_network(rtx_platform(), (-1, 3, 16, 16))
    profile = set_shapes(builder, config, network, BuildRequest(DYNAMIC))
    assert profile == [
        [{"input": "x", "min": [1, 3, 16, 16], "opt": [4, 3, 16, 16], "max": [8, 3, 16, 16]}],
    ]
    assert config.num_optimization_profiles == 1


def test_at_optimum_nothing_is_dynamic_any_more() -> None:
    builder, config, network = empty_network(rtx_platform(), (-1, 3, 16, 16))
    assert set_shapes(builder, config, network, BuildRequest(DYNAMIC, at_optimum=True)) == []
    assert tuple(network.get_input(0).shape) == (4, 3, 16, 16)


def test_a_static_input_needs_no_profile() -> None:
    builder, config, network = empty_network(rtx_platform(), (2, 3, 16, 16))
    assert set_shapes(builder, config, network, BuildRequest(())) == []
    assert config.num_optimization_profiles == 0


def test_a_dynamic_input_without_a_range_is_refused_by_name() -> None:
    builder, config, network = empty_network(rtx_platform(), (-1, 3, 16, 16))
    with pytest.raises(
        BuildError, match=r"input 'x' has dynamic axes \(\?x3x16x16\) and no range; give --minShapes"
    ):
        set_shapes(builder, config, network, BuildRequest(()))


def test_a_range_that_does_not_fit_the_graph_is_refused() -> None:
    builder, config, network = empty_network(rtx_platform(), (-1, 3, 16, 16))
    wrong = (replace(DYNAMIC[0], maximum=(8, 3, 32, 16)),)
    with pytest.raises(
        BuildError, match=r"maximum shape 8x3x32x16 of input 'x' does not fit .* is \?x3x16x16"
    ):
        set_shapes(builder, config, network, BuildRequest(wrong))


def _two() -> tuple[TensorSpec, ...]:
    one = ShapeBounds((1, 3, 16, 16), (1, 3, 16, 16), (1, 3, 16, 16))
    many = ShapeBounds((2, 3, 16, 16), (4, 3, 16, 16), (8, 3, 16, 16))
    return (replace(DYNAMIC[0], optimum=one.optimum, profiles=(one, many)),)


def test_several_profiles_are_added_in_order() -> None:
    builder, config, network = empty_network(rtx_platform(), (-1, 3, 16, 16))
    described = set_shapes(builder, config, network, BuildRequest(_two()))
    assert described == [
        [{"input": "x", "min": [1, 3, 16, 16], "opt": [1, 3, 16, 16], "max": [1, 3, 16, 16]}],
        [{"input": "x", "min": [2, 3, 16, 16], "opt": [4, 3, 16, 16], "max": [8, 3, 16, 16]}],
    ]
    assert config.num_optimization_profiles == 2


def test_an_engine_with_two_profiles_is_another_one_and_larger() -> None:
    data = conv_relu("N").SerializeToString()
    one = build_plan(rtx_platform(), data, BuildRequest(DYNAMIC, ("sm_89",)), SILENCE)
    two = build_plan(rtx_platform(), data, BuildRequest(_two(), ("sm_89",)), SILENCE)
    assert (len(one.profile), len(two.profile)) == (1, 2)
    assert len(two.data) > len(one.data)


def test_a_profile_that_does_not_fit_is_named_by_its_number() -> None:
    builder, config, network = empty_network(rtx_platform(), (-1, 3, 16, 16))
    spec = _two()[0]
    wide = ShapeBounds((1, 3, 16, 16), (1, 3, 16, 16), (1, 3, 16, 32))
    with pytest.raises(BuildError, match="maximum shape 1x3x16x32 of input 'x' in profile 1 does not fit"):
        set_shapes(
            builder,
            config,
            network,
            BuildRequest((replace(spec, profiles=(spec.profiles[0], wide)),)),
        )


def test_a_profile_that_the_builder_refuses_is_an_error() -> None:
    builder, config, network = empty_network(rtx_platform(), (-1, 3, 16, 16))
    backwards = ShapeBounds((4, 3, 16, 16), (1, 3, 16, 16), (8, 3, 16, 16))
    request = BuildRequest((replace(DYNAMIC[0], profiles=(backwards, backwards)),))
    with pytest.raises(BuildError, match=r"did not take the range|refused the optimisation profile 0"):
        set_shapes(builder, config, network, request)


def test_at_optimum_is_the_optimum_of_the_first_profile() -> None:
    builder, config, network = empty_network(rtx_platform(), (-1, 3, 16, 16))
    assert set_shapes(builder, config, network, BuildRequest(_two(), at_optimum=True)) == []
    assert tuple(network.get_input(0).shape) == (1, 3, 16, 16)
