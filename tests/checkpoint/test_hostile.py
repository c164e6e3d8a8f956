"""Files from strangers: nothing in them runs, none hangs or takes the memory, each ends in one sentence."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from scconv_deploy.checkpoint.inert import load_inert
from scconv_deploy.stages import inspect
from tests.checkpoint.assembly import GOOD, mapping, zipped
from tests.checkpoint.hostile import EXECUTABLE, KINDS, write_all
from tests.cli.program import scconv

VERBS = ("inspect", "load", "load trusting", "load with a factory")
HARMLESS = {
    ("operator.attrgetter", "inspect"),  # it is reported, as a name that the file needs
    ("lists nested without end", "inspect"),
    ("a list in itself", "inspect"),
    ("a dictionary in itself", "inspect"),
}
"""What inspection describes instead of refusing: nothing in them is wrong but that there is no model."""

Judged = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], Path]:
    folder = tmp_path_factory.mktemp("hostile")
    witness = folder / "was-executed"
    return write_all(folder, witness), witness


@pytest.fixture(scope="module")
def judged(written: tuple[dict[str, Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Judged:
    paths, _ = written
    done = subprocess.run(
        [sys.executable, "-m", "tests.checkpoint.hostile_runner"],
        input=json.dumps({name: str(path) for name, path in paths.items()}),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"ended after {lines[-1:]}: {done.stderr[-500:]}"
    return {(line["file"], line["verb"]): line for line in lines}


def test_there_are_many_kinds() -> None:
    assert len(KINDS) >= 60
    assert len(EXECUTABLE) >= 15


@pytest.mark.parametrize("name", KINDS)
def test_it_ends_in_one_sentence(name: str, judged: Judged) -> None:
    for verb in VERBS:
        found = judged[name, verb]
        if (name, verb) in HARMLESS:
            assert found.get("accepted") or found.get("exit_code") == 2, found
            continue
        assert found.get("exit_code") == 2, found
        sentence = found["sentence"]
        assert 10 < len(sentence) < 900, found
        assert "\n" not in sentence, found
        assert "model.pt" in sentence or "checkpoint" in sentence, found


@pytest.mark.parametrize("name", KINDS)
def test_it_does_not_hang(name: str, judged: Judged) -> None:
    assert all(judged[name, verb].get("seconds", 0) < 10 for verb in VERBS)


def test_nothing_was_executed(judged: Judged, written: tuple[dict[str, Path], Path]) -> None:
    assert len(judged) == len(KINDS) * len(VERBS)
    assert not written[1].exists()


@pytest.mark.parametrize("name", sorted(EXECUTABLE))
def test_the_payload_works(name: str, tmp_path: Path) -> None:
    """The alarm rings: an ordinary unpickler runs what the file says."""
    witness, path = tmp_path / "was-executed", tmp_path / "model.pt"
    KINDS[name](path, witness)
    _unpickle_carelessly(path)
    deadline = time.monotonic() + 10  # some payloads start a process of their own
    while not witness.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert witness.exists()


def _unpickle_carelessly(path: Path) -> None:
    try:
        torch.load(path, weights_only=False)
    except Exception as error:  # noqa: BLE001 - what it makes of the rest does not matter here
        print(error)
    if not zipfile.is_zipfile(path):
        with path.open("rb") as stream:
            try:
                while stream.read(1):
                    stream.seek(-1, 1)
                    pickle.load(stream)
            except Exception as error:  # noqa: BLE001
                print(error)


def test_a_harmless_file_of_the_same_make_loads(tmp_path: Path) -> None:
    """The control: the files are refused for what is wrong with them, not for how they are written."""
    zipped(tmp_path / "good.pt", mapping(w=GOOD))
    content = load_inert(tmp_path / "good.pt")
    assert content["w"].shape == (2, 2)
    assert inspect.run(tmp_path / "good.pt").tensors == 1


@pytest.mark.parametrize("command", ["inspect", "export"])
@pytest.mark.parametrize("name", ["a call of posix.system as a value", "a named pipe that nobody writes"])
def test_the_command_line_says_it(
    command: str, name: str, written: tuple[dict[str, Path], Path], tmp_path: Path
) -> None:
    more = ("--target", "onnx") if command == "export" else ()
    done = scconv(command, str(written[0][name]), *more, folder=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == [
        done.stderr.splitlines()[-1]
    ]
    assert "Traceback" not in done.stderr
    assert not written[1].exists()
