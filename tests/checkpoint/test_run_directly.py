"""Models saved by a script that was run directly: their classes are recorded under ``__main__``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from scconv_deploy.checkpoint.read import load_weights_only
from scconv_deploy.errors import InputError, UntrustedCodeError
from scconv_deploy.stages import inspect

SCRIPT = "my_training_script_of_a_test"
SOURCE = """
from subprocess import Popen
from torch import nn

class Net(nn.Module):
    def forward(self, x):
        return 2 * self.layer(x)
"""


class Net(nn.Module):
    """What the script defines, as it is when the script runs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(5, 2, 1)


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / f"{SCRIPT}.py").write_text(SOURCE)
    with monkeypatch.context() as patched:
        patched.setattr(Net, "__module__", "__main__")
        patched.setattr(sys.modules["__main__"], "Net", Net, raising=False)
        torch.save(Net(), tmp_path / "model.pt")
    monkeypatch.delitem(sys.modules, SCRIPT, raising=False)
    return tmp_path / "model.pt"


def test_the_option_that_would_work_is_offered(saved: Path) -> None:
    with pytest.raises(
        UntrustedCodeError, match=r"add --trust __main__=MODULE \(MODULE: the script that saved it"
    ):
        load_weights_only(saved)
    command = inspect.run(saved).export_command
    assert command is not None
    assert command.endswith("--input-shape 1x5x224x224 --trust __main__=MODULE")


def test_the_script_is_named(saved: Path) -> None:
    module = load_weights_only(saved, (f"__main__={SCRIPT}",))
    assert type(module).__module__ == SCRIPT
    assert module(torch.ones(1, 5, 2, 2)).shape == (1, 2, 2, 2)


def test_one_class_is_named(saved: Path) -> None:
    assert isinstance(load_weights_only(saved, (f"__main__.Net={SCRIPT}:Net",)), nn.Module)


@pytest.mark.parametrize(
    ("trust", "message"),
    [
        ("__main__", "no 'Net'; it is in the script that saved the file: --trust __main__=MODULE"),
        (SCRIPT, "needs code of its own to load: __main__.Net"),
        ("__main__=os", "would call os.Net"),
        ("__main__=no_such_module_anywhere", "cannot import 'no_such_module_anywhere'"),
        ("__main__=", "no 'Net'; it is in the script"),
        (f"__main__.Net={SCRIPT}:Popen", "not defined there but in subprocess"),
        (f"other={SCRIPT}", "needs code of its own to load: __main__.Net"),
    ],
)
def test_other_names_do_not_open_it(saved: Path, trust: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_weights_only(saved, (trust,))
    assert SCRIPT not in sys.modules or "Popen" in trust
