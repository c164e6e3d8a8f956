"""Names and versions, and what happens to them when bundles are replaced, added, removed or damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scconv_deploy.errors import InputError
from scconv_deploy.serve.failures import NotFoundError
from scconv_deploy.serve.metrics import Metrics
from scconv_deploy.serve.model import Model, open_model
from scconv_deploy.serve.repository import Repository, Watcher, model_names, versions
from scconv_deploy.serve.settings import BatchLimits
from tests.serve.bundles import pictures, write_bundle


class Seen(Watcher):
    def __init__(self) -> None:
        self.events: list[str] = []

    def opened(self, model: Model) -> None:
        self.events.append(f"opened {model.name} {model.version}")

    def closed(self, model: Model) -> None:
        self.events.append(f"closed {model.name} {model.version}")

    def refused(self, name: str, version: int, error: Exception) -> None:
        self.events.append(f"refused {name} {version}: {error}")


def opener(name: str, version: int, path: Path) -> Model:
    return open_model(name, version, path, BatchLimits(), Metrics().observer(name, version), threads=1)


def answer(repository: Repository, name: str, version: str | None = None) -> float:
    x = pictures(1)
    y = repository.model(name, version).infer({"x": x}, 10.0).result(10.0).outputs["y"]
    return float(round((y / x).mean(), 3))


def replace_bundle(folder: Path, factor: float) -> None:
    """As an export does it: whole beside, then renamed."""
    beside = write_bundle(folder.with_name(folder.name + ".new"), factor)
    folder.rename(folder.with_name(folder.name + ".old"))
    beside.rename(folder)
    shutil.rmtree(folder.with_name(folder.name + ".old"))


@pytest.fixture
def seen() -> Seen:
    return Seen()


def test_a_replaced_bundle_serves_and_the_old_one_is_closed(tmp_path: Path, seen: Seen) -> None:
    net = write_bundle(tmp_path / "net", 2.0)
    repository = Repository({"net": net}, opener, seen)
    repository.load()
    assert answer(repository, "net") == 2.0
    old = repository.model("net")
    repository.refresh()
    assert seen.events == ["opened net 1"]  # nothing changed, nothing happened
    replace_bundle(net, 3.0)
    repository.refresh()
    assert answer(repository, "net") == 3.0
    assert not old.ready
    assert seen.events == ["opened net 1", "opened net 1", "closed net 1"]
    repository.close()
    assert repository.names() == []


def test_a_damaged_replacement_is_refused_once_and_the_old_one_serves_on(tmp_path: Path, seen: Seen) -> None:
    net = write_bundle(tmp_path / "net", 2.0)
    repository = Repository({"net": net}, opener, seen)
    repository.load()
    replace_bundle(net, 3.0)
    (net / "model.onnx").write_bytes(b"not what the manifest says")
    repository.refresh()
    repository.refresh()
    assert answer(repository, "net") == 2.0
    assert len(seen.events) == 2
    assert seen.events[1].startswith("refused net 1: ")
    assert "altered or damaged" in seen.events[1]
    replace_bundle(net, 4.0)  # mended
    repository.refresh()
    assert answer(repository, "net") == 4.0
    repository.close()


def test_versions_come_and_go_and_the_highest_is_the_default(tmp_path: Path, seen: Seen) -> None:
    folder = tmp_path / "net"
    write_bundle(folder / "1", 1.5)
    write_bundle(folder / "10", 2.5)
    (folder / "notes").mkdir()
    assert list(versions(folder)) == [1, 10] or set(versions(folder)) == {1, 10}
    repository = Repository({"net": folder}, opener, seen)
    repository.load()
    assert (answer(repository, "net"), answer(repository, "net", "1")) == (2.5, 1.5)
    write_bundle(folder / "11", 3.5)
    shutil.rmtree(folder / "1")
    repository.refresh()
    assert repository.versions("net") == [10, 11]
    assert answer(repository, "net") == 3.5
    with pytest.raises(NotFoundError, match="no version '1'; served: 10, 11"):
        repository.model("net", "1")
    with pytest.raises(NotFoundError, match="no version 'x'"):
        repository.model("net", "x")
    with pytest.raises(NotFoundError, match="did you mean 'net'"):
        repository.model("nett")
    repository.close()


def test_a_folder_that_vanishes_for_a_moment_takes_nothing_away(tmp_path: Path, seen: Seen) -> None:
    net = write_bundle(tmp_path / "net")
    repository = Repository({"net": net}, opener, seen)
    repository.load()
    net.rename(tmp_path / "away")
    repository.refresh()
    assert answer(repository, "net") == 2.0
    repository.close()


def test_what_is_no_bundle_is_refused_at_the_start(tmp_path: Path, seen: Seen) -> None:
    with pytest.raises(InputError, match="is no bundle"):
        Repository({"x": tmp_path}, opener, seen).load()


def test_names(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "other" / "a"
    assert model_names((a,), ()) == {"a": a}
    assert model_names((a, b), ("one", "two")) == {"one": a, "two": b}
    with pytest.raises(InputError, match="two models are called 'a'"):
        model_names((a, b), ())
    with pytest.raises(InputError, match="no model name"):
        model_names((a,), ("a/b",))
