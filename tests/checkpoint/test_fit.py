"""Stored names are paired with a module's up to one prefix; everything else is a sentence."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scconv_deploy.checkpoint.fit import fit, match, shapes_of
from scconv_deploy.errors import InputError


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def weights(prefix: str = "") -> dict[str, torch.Tensor]:
    """Every number differs from what a fresh module has."""
    return {prefix + k: torch.full_like(v, 7) for k, v in net().state_dict().items()}


def filled(module: nn.Module) -> bool:
    return all(bool((v == 7).all()) for v in module.state_dict().values())


@pytest.mark.parametrize("prefix", ["", "model.", "ema_model.module.", "_orig_mod."])
def test_a_prefix_of_the_file_is_removed(prefix: str) -> None:
    module = net()
    notes = fit(module, weights(prefix), "w.pt", "Net")
    assert filled(module)
    hidden = prefix in ("", "_orig_mod.")
    assert notes == (() if hidden else (f"the prefix '{prefix}' was removed from the names of the weights",))


def test_a_prefix_of_the_module_is_added() -> None:
    module = nn.ModuleDict({"backbone": net()})
    assert fit(module, weights(), "w.pt", "Net") == ()
    assert filled(module)


def test_averaged_weights_are_taken_of_two_copies() -> None:
    module = net()
    trained = {f"model.{k}": torch.zeros_like(v) for k, v in net().state_dict().items()}
    notes = fit(module, trained | weights("ema_model."), "w.pt", "Net")
    assert filled(module)
    assert any("7 stored tensors outside 'ema_model.' were left out" in n for n in notes)


def test_misfits_are_counted_and_nothing_is_loaded() -> None:
    module = net()
    stored = weights()
    stored["0.weight"] = torch.full((5, 2), 7.0)
    stored["0.offset"] = stored.pop("0.bias")
    with pytest.raises(InputError) as caught:
        fit(module, stored, "w.pt", "Net")
    said = str(caught.value)
    assert "1 of 7 tensors are missing (0.bias)" in said
    assert "1 of 7 in the file are unexpected (0.offset)" in said
    assert "0.weight is 5x2 in the file and 3x2 in the model" in said
    assert not bool((module.state_dict()["1.weight"] == 7).any())


def test_a_renamed_tensor_is_pointed_at() -> None:
    stored = weights()
    stored["0.weights"] = stored.pop("0.weight")
    with pytest.raises(InputError, match=r"'0\.weights' in the file may be the model's '0\.weight'"):
        fit(net(), stored, "w.pt", "Net")


@pytest.mark.parametrize(
    ("state", "said"), [({}, "missing"), ({"0.weight": "text"}, "'0.weight' is no tensor")]
)
def test_what_holds_no_weights_is_refused(state: dict[str, torch.Tensor], said: str) -> None:
    with pytest.raises(InputError, match=said):
        fit(net(), state, "w.pt", "Net")


def test_counters_may_be_missing_and_profilers_may_leave_theirs() -> None:
    wanted = shapes_of(net())
    stored = {k: v for k, v in wanted.items() if v is not None and not k.endswith("num_batches_tracked")}
    assert len(stored) == len(wanted) - 1
    assert match(wanted, stored | {"0.total_ops": (1,)}).fits
    spare = match(wanted, stored | {"0.spare": (1,)})
    assert (spare.fits, spare.unexpected, spare.faults) == (False, ("0.spare",), 1)


def test_another_shape_alone_is_a_misfit() -> None:
    found = match({"w": (3, 2), "lazy": None}, {"w": (2, 3), "lazy": (9,)})
    assert (found.fits, found.misshaped, found.missing, found.unexpected) == (False, ("w",), (), ())


def test_another_type_is_converted_and_said() -> None:
    module = net()
    halves = {k: v.half() if v.is_floating_point() else v for k, v in weights().items()}
    (note,) = fit(module, halves, "w.pt", "Net")
    assert "stored as float16 were converted" in note
    assert module.state_dict()["0.weight"].dtype is torch.float32
