"""Every format by name, beside its bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from scconv_deploy.errors import InputError
from scconv_deploy.packaging.formats import FORMATS, known_format, write_package
from tests.serve.bundles import write_bundle


@pytest.mark.parametrize("name", FORMATS)
def test_each_is_written_beside_the_bundle_which_stays_as_it_is(name: str, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "net")
    before = {p.name: p.read_bytes() for p in bundle.iterdir()}
    folder = write_package(name, bundle)
    assert folder == tmp_path / f"net-{name}"
    assert any(folder.iterdir())
    assert {p.name: p.read_bytes() for p in bundle.iterdir()} == before


def test_an_unknown_name() -> None:
    with pytest.raises(InputError, match="did you mean 'triton'"):
        known_format("trition")
