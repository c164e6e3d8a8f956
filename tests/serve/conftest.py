"""One server for the module: two models, one of which has two versions, with a page and small limits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serve.bundles import write_bundle
from tests.serve.running import Running, running


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Answers to models ``net`` (factor 2) and ``many`` (versions 1 and 2: factors 10 and 20)."""
    folder = tmp_path_factory.mktemp("serve")
    net = write_bundle(folder / "net", 2.0)
    write_bundle(folder / "many" / "1", 10.0)
    write_bundle(folder / "many" / "2", 20.0)
    arguments = (str(net), str(folder / "many"), "--port", "0", "--grpc-port", "0", "--threads", "1")
    with running(folder / "log", *arguments, "--ui", "--max-request", "0.1", "--poll", "0") as started:
        yield started
