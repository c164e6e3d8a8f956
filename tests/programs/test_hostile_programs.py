"""Program archives from strangers: nothing in them runs, none hangs, each is refused in one sentence."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from scconv_deploy.checkpoint.kinds import kind_of
from scconv_deploy.config import ExportConfig, shape_ranges
from scconv_deploy.errors import EXIT_BAD_INPUT, InputError
from scconv_deploy.programs import exported, torchscript
from scconv_deploy.stages import inspect
from tests.cli.program import scconv
from tests.programs import archives
from tests.programs.hostile import EXPORTED, SCRIPTS

CONFIG = ExportConfig(target="onnx", shapes=shape_ranges(["2x3x4x4"]))
LOADERS = {"exported": exported.load, "script": torchscript.load}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).relu()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("good")
    x = torch.zeros(2, 3, 4, 4)
    program = archives.exported(folder / "p.pt2", Net(), free=True, x=x)
    return {
        "exported": archives.contents(program),
        "script": archives.contents(archives.scripted(folder / "s.ts", Net())),
    }


KINDS = [("exported", name) for name in EXPORTED] + [("script", name) for name in SCRIPTS]


def test_there_are_many_kinds() -> None:
    assert len(EXPORTED) >= 25
    assert len(SCRIPTS) >= 15


@pytest.mark.parametrize("family", LOADERS)
def test_the_good_ones_load(family: str, good: Mapping[str, Mapping[str, bytes]], tmp_path: Path) -> None:
    """The control: what is refused is refused for the one entry that was changed."""
    path = archives.written(tmp_path / "model", good[family])
    assert LOADERS[family](path, CONFIG).inputs[0].shape == ("batch", 3, 4, 4)
    assert inspect.run(path).parameters == 8


@pytest.mark.parametrize(("family", "name"), KINDS)
def test_it_is_refused_and_not_run(
    family: str, name: str, good: Mapping[str, Mapping[str, bytes]], tmp_path: Path
) -> None:
    witness = tmp_path / "was-executed"
    entries = (EXPORTED if family == "exported" else SCRIPTS)[name](good[family], witness)
    path = archives.written(tmp_path / "model.pt", entries)
    start = time.monotonic()
    kind_of(path)
    with pytest.raises(InputError) as caught:
        LOADERS[family](path, CONFIG)
    assert time.monotonic() - start < 10
    said = str(caught.value)
    assert "model.pt" in said
    assert "\n" not in said
    assert 20 < len(said) < 500
    assert caught.value.exit_code == EXIT_BAD_INPUT
    if name != "no code":  # that is torch's compiler's finding; inspection compiles nothing
        with pytest.raises(InputError):
            inspect.run(path)
    assert not witness.exists()


def test_a_bomb_and_a_traversal(good: Mapping[str, Mapping[str, bytes]], tmp_path: Path) -> None:
    bomb = archives.written(
        tmp_path / "a.pt2", {**good["exported"], "extra/x": bytes(200 << 20)}, deflate=True
    )
    leaving = archives.written(tmp_path / "b.pt2", {**good["exported"], "../../x": b"x"})
    for path, said in ((bomb, "decompression bomb"), (leaving, "leave the archive")):
        with pytest.raises(InputError, match=said):
            kind_of(path)
    cut = tmp_path / "c.pt2"
    cut.write_bytes(archives.written(tmp_path / "d.pt2", good["exported"]).read_bytes()[:-300])
    with pytest.raises(InputError, match="cut short"):
        kind_of(cut)  # the archive of sample inputs inside is whole, and is not taken for the file


def test_torch_itself_would_run_them(good: Mapping[str, Mapping[str, bytes]], tmp_path: Path) -> None:
    """The alarm rings: torch's own readers run what the audit refuses."""
    for number, name in enumerate(("a size that calls", "a pickled weight", "an opaque object")):
        witness = tmp_path / f"ran{number}"
        path = archives.written(tmp_path / f"{number}.pt2", EXPORTED[name](good["exported"], witness))
        try:
            torch.export.load(path)
        except Exception as error:  # noqa: BLE001 - what it makes of the rest does not matter here
            print(error)
        assert witness.exists(), name
    witness = tmp_path / "ran"
    path = archives.written(tmp_path / "s.ts", SCRIPTS["a file written"](good["script"], witness))
    torch.jit.load(str(path))(torch.zeros(2, 3, 4, 4))
    assert witness.exists()


def test_what_torch_would_execute_never_reaches_it(
    good: Mapping[str, Mapping[str, bytes]], tmp_path: Path
) -> None:
    """Guards, pytree contexts and stack traces are not looked at: they are left behind."""
    witness = tmp_path / "was-executed"

    def add(program: dict[str, object]) -> None:
        program["guards_code"] = [f"__import__('os').system('touch {witness}')"]

    entries = archives.changed(good["exported"], archives.PROGRAM, add)
    path = archives.written(tmp_path / "model.pt2", entries)
    source = exported.load(path, CONFIG)
    assert not witness.exists()
    assert source.inputs[0].name == "x"


def test_a_pytree_context_imports_nothing(good: Mapping[str, Mapping[str, bytes]], tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")

    def add(program: dict[str, object]) -> None:
        from tests.programs.hostile import signature

        leaf = '{"type": null, "context": null, "children_spec": []}'
        context = '"{\\"__enum__\\": true, \\"fqn\\": \\"planted:E\\", \\"name\\": \\"A\\"}"'
        signature(program)["out_spec"] = (  # type: ignore[arg-type]
            f'[1, {{"type": "builtins.dict", "context": {context}, "children_spec": [{leaf}]}}]'
        )

    path = archives.written(tmp_path / "model.pt2", archives.changed(good["exported"], archives.PROGRAM, add))
    found = exported.load(path, CONFIG)
    assert not (tmp_path / "ran").exists()
    assert "returned as a tuple" in " ".join(found.notes)


@pytest.mark.parametrize("command", ["inspect", "export"])
def test_the_command_line_says_it(
    command: str, good: Mapping[str, Mapping[str, bytes]], tmp_path: Path
) -> None:
    witness = tmp_path / "was-executed"
    entries = EXPORTED["a reduce payload in the sample inputs"](good["exported"], witness)
    path = archives.written(tmp_path / "model.pt2", entries)
    more = ("--target", "onnx") if command == "export" else ()
    done = scconv(command, str(path), *more, folder=tmp_path)
    assert done.returncode == EXIT_BAD_INPUT
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert not witness.exists()
    assert zipfile.is_zipfile(path)
