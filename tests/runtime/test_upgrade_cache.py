"""Entries of the cache: whole or not there, in threads and processes at once, and not without end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scconv_deploy.kernels import loader
from scconv_deploy.runtime import upgrade, upgrade_cache
from scconv_deploy.runtime.onnx import OnnxRunner
from scconv_deploy.runtime.upgrade_cache import Entry
from tests.runtime.blocked_models import with_convolutions

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = upgrade_cache.file_for(model="a", version="1")
    assert made is not None
    return made


@pytest.mark.parametrize("entry", [Entry(b"graph\nof\nlines", 16), Entry(refused='a "reason"\nin two lines')])
def test_an_entry_is_read_as_it_was_written(entry: Entry, file: Path) -> None:
    assert upgrade_cache.read(file) is None
    upgrade_cache.write(file, entry)
    assert upgrade_cache.read(file) == entry


def test_every_fact_makes_another_file(file: Path) -> None:
    assert upgrade_cache.file_for(version="1", model="a") == file
    assert upgrade_cache.file_for(model="b", version="1") != file
    assert upgrade_cache.file_for(model="a", version="2") != file


def test_every_byte_counts(file: Path) -> None:
    upgrade_cache.write(file, Entry(b"graph", 16))
    whole = file.read_bytes()
    for at in range(len(whole)):
        broken = bytearray(whole)
        broken[at] ^= 4
        file.write_bytes(bytes(broken))
        assert upgrade_cache.read(file) is None, at
        assert not file.exists()
    file.write_bytes(whole)
    assert upgrade_cache.read(file) == Entry(b"graph", 16)


def test_a_file_that_others_may_write_is_not_read(file: Path) -> None:
    upgrade_cache.write(file, Entry(b"graph", 16))
    file.chmod(0o666)
    assert upgrade_cache.read(file) is None


def test_without_a_home_there_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert upgrade_cache.file_for(model="a") is None
    upgrade_cache.write(None, Entry(b"graph", 16))
    with upgrade_cache.alone(None):
        assert upgrade_cache.read(None) is None


def test_what_was_used_longest_ago_goes_first(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade_cache, "LARGEST", 2500)
    files = [file.with_name(f"{i}{upgrade_cache.SUFFIX}") for i in range(4)]
    for age, made in enumerate(files[:2]):
        upgrade_cache.write(made, Entry(bytes(800), 16))
        os.utime(made, (age + 1, age + 1))
    assert upgrade_cache.read(files[0]) is not None  # used just now
    upgrade_cache.write(files[2], Entry(bytes(800), 16))
    assert [made.exists() for made in files[:3]] == [True, False, True]
    upgrade_cache.write(files[3], Entry(bytes(9000), 16))
    assert files[3].exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no file locks of this kind on Windows")
def test_only_one_at_a_time_makes_an_entry(file: Path) -> None:
    inside, most = 0, 0
    guard = threading.Lock()

    def work(_: int) -> None:
        nonlocal inside, most
        with upgrade_cache.alone(file):
            with guard:
                inside += 1
                most = max(most, inside)
            time.sleep(0.01)
            with guard:
                inside -= 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(12)))
    assert most == 1


needs_kernels = pytest.mark.skipif(loader.library() is None, reason=f"no fused kernels: {loader.REBUILD}")


@needs_kernels
def test_first_loads_of_many_threads_make_one_entry(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_convolutions(tmp_path / "model.onnx")
    made: list[Path] = []
    whole = upgrade._upgrade

    def counted(model: Path, start: upgrade.Start) -> Entry:
        made.append(model)
        return whole(model, start)

    monkeypatch.setattr(upgrade, "_upgrade", counted)
    with ThreadPoolExecutor(6) as pool:
        layouts = set(pool.map(lambda _: OnnxRunner(tmp_path / "model.onnx", threads=1).layout, range(12)))
    assert len(layouts) == 1
    assert layouts <= {"NCHW8c", "NCHW16c"}
    assert len(made) == 1


@needs_kernels
def test_first_loads_of_several_processes_make_one_entry(file: Path, tmp_path: Path) -> None:
    with_convolutions(tmp_path / "model.onnx")
    program = (
        "import sys, logging; logging.basicConfig(level=logging.INFO)\n"
        "from pathlib import Path\n"
        "from scconv_deploy.runtime.onnx import OnnxRunner\n"
        "print(OnnxRunner(Path(sys.argv[1]), threads=1).layout)\n"
        "print([m for m in ('torch', 'onnx') if m in sys.modules])"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "model.onnx")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    results = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0] * 4
    for out, _ in results:
        assert out.split()[0] in ("NCHW8c", "NCHW16c")
        assert out.split()[1] == "[]"  # a slim image has neither torch nor onnx
    assert "".join(log for _, log in results).count("fused nodes of model.onnx work on blocks") == 1
