"""Which weights are chosen out of the wrappers of frameworks, and under which names."""

from __future__ import annotations

from typing import Any

import pytest

from scconv_deploy.checkpoint import state
from scconv_deploy.checkpoint.facts import Inert, TensorFact, inert_of
from scconv_deploy.checkpoint.state import choose_state, find_state_dict, modules, strip_prefixes, tensors
from scconv_deploy.errors import InputError

A, B = TensorFact((1,), "float32"), TensorFact((2,), "float32")


def module(
    name: str, parameters: dict[str, Any], children: dict[str, Any] | None = None, **more: Any
) -> Inert:
    made = inert_of(name)
    made.state = {"_parameters": parameters, "_modules": children or {}, **more}
    return made


def test_averaged_weights_win_over_the_trained_ones() -> None:
    chosen = choose_state({"model": {"w": A}, "model_ema": {"w": B}, "epoch": 3})
    assert chosen is not None
    assert chosen.state == {"w": B}
    assert chosen.averaged
    assert chosen.note == "the averaged weights (EMA) under 'model_ema' were taken, not those under 'model'"


def test_a_wrapper_inside_a_wrapper() -> None:
    chosen = choose_state({"epoch": 3, "ema": {"module": {"w": A}, "updates": 7}})
    assert chosen is not None
    assert (chosen.state, chosen.path, chosen.passed_over) == ({"w": A}, ("ema", "module"), None)


def test_what_was_passed_over_is_told_through_an_outer_wrapper() -> None:
    chosen = choose_state({"model": {"ema": {"w": B}, "net": {"w": A}}})
    assert chosen is not None
    assert (chosen.path, chosen.passed_over) == (("model", "ema"), "net")


def test_plain_weights_need_no_note() -> None:
    chosen = choose_state({"w": A})
    assert chosen is not None
    assert not chosen.averaged
    assert chosen.note is None


def test_few_other_entries_are_passed_over_and_many_are_not() -> None:
    assert find_state_dict({"a": A, "b": B, "epoch": 3}) == {"a": A, "b": B}
    assert find_state_dict({"a": A, "epoch": 3}) is None


@pytest.mark.parametrize("content", [None, 3, [A], {}, {"state_dict": {}}, {"epoch": 1}, {0: A}])
def test_no_weights(content: object) -> None:
    assert choose_state(content) is None


def test_prefixes_are_removed_only_where_every_key_has_them() -> None:
    assert strip_prefixes({"module._orig_mod.w": A, "n_averaged": B}) == {"w": A}
    mixed = {"module.w": A, "head.w": B}
    assert strip_prefixes(mixed) == mixed
    # A network may have a buffer called "step" of its own.
    assert strip_prefixes({"w": A, "step": B}) == {"w": A, "step": B}


def test_a_pickled_module_gives_what_its_state_dict_would() -> None:
    child = module("torch.nn.modules.linear.Linear", {"weight": A, "bias": None})
    child.state |= {"_buffers": {"kept": B, "scratch": B}, "_non_persistent_buffers_set": {"scratch"}}
    net = module("net.Net", {}, {"fc": child})
    chosen = choose_state({"model": net})
    assert chosen is not None
    assert chosen.state == {"fc.weight": A, "fc.kept": B}
    assert chosen.module is net


def test_modules_that_refer_to_each_other_are_listed_once() -> None:
    child = module("net.Child", {"w": A})
    net = module("net.Net", {}, {"one": child, "two": child})
    child.state["_modules"] = {"parent": net}
    assert len(list(modules(net))) == 2
    assert set(tensors(net)) == {"one.w", "two.w"}


def test_content_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MAX_VISITS", 100)
    assert len(tensors([A] * 99)) == 99
    with pytest.raises(InputError, match="refers to itself"):
        tensors([A] * 100)
