"""TensorRT's timing cache: started from, added to, merged with another's, never overwritten when unreadable.

Played by the scripted TensorRT: TensorRT for RTX has no such cache, and no TensorRT with a GPU was at hand.
"""

from pathlib import Path

import pytest

from exporters.trt.process import building
from exporters.trt.settings import BuildRequest
from exporters.trt.timing_cache import attach, save
from scconv_deploy.errors import BuildError, CapabilityError
from scconv_deploy.tensorrt_options import TensorRTOptions
from tests.exporters.trt.models import SILENCE


class _Cache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def combine(self, other: "_Cache", ignore: bool) -> bool:
        assert not ignore
        self.data = b"|".join(sorted({*self.data.split(b"|"), *other.data.split(b"|")} - {b""}))
        return True

    def serialize(self) -> bytes:
        return self.data


class _Config:
    """``of_here``: what a cache must begin with; ``keeps``: whether it takes one at all."""

    def __init__(self, keeps: bool = True) -> None:
        self.keeps = keeps
        self.cache: _Cache | None = None

    def create_timing_cache(self, data: bytes) -> _Cache | None:
        return None if data.startswith(b"another GPU") else _Cache(data)

    def set_timing_cache(self, cache: _Cache, ignore: bool) -> bool:
        assert not ignore, "timings of another GPU would be believed"
        self.cache = cache if self.keeps else None
        return self.keeps

    def get_timing_cache(self) -> _Cache | None:
        return self.cache


def test_it_starts_empty_grows_and_is_found_again(tmp_path: Path) -> None:
    file = tmp_path / "t.cache"
    config = _Config()
    cache = attach(config, file)
    assert cache.data == b""
    cache.data = b"a"
    save(config, cache, file)
    assert attach(_Config(), file).data == b"a"
    assert list(tmp_path.iterdir()) == [file]


def test_what_another_export_wrote_meanwhile_is_not_lost(tmp_path: Path) -> None:
    file = tmp_path / "t.cache"
    config = _Config()
    cache = attach(config, file)
    file.write_bytes(b"other")
    cache.data = b"mine"
    save(config, cache, file)
    assert file.read_bytes() == b"mine|other"


@pytest.mark.parametrize(("content", "config"), [(b"another GPU's", _Config()), (b"a", _Config(keeps=False))])
def test_a_cache_that_is_not_taken_is_an_error_and_stays_as_it_is(
    tmp_path: Path, content: bytes, config: _Config
) -> None:
    file = tmp_path / "t.cache"
    file.write_bytes(content)
    with pytest.raises(BuildError, match="is of another GPU or TensorRT, or damaged"):
        attach(config, file)
    assert file.read_bytes() == content


def test_files_that_cannot_be_used_are_errors_in_words(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(CapabilityError, match="cannot be read"):
        attach(_Config(), folder)
    with pytest.raises(CapabilityError, match="cannot be written"):
        save(_Config(), _Cache(b"a"), tmp_path / "nowhere" / "t.cache")
    with pytest.raises(CapabilityError, match="cannot be written"):
        save(_Config(), _Cache(b"a"), tmp_path)


def test_a_build_uses_it(fake: object, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TENSORRT", "works")
    file = tmp_path / "t.cache"
    file.write_bytes(b"before")
    request = BuildRequest((), options=TensorRTOptions(timing_cache=file))
    with building(fake, folder) as process:  # type: ignore[arg-type]
        plan = process.plan(b"", request, SILENCE)
    assert plan.settings["timing_cache"] == str(file)
    assert file.read_bytes() == b"before|before+timed"
