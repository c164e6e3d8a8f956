"""Options of an engine are checked when they are made."""

import pytest

from scconv_deploy.errors import InputError
from scconv_deploy.runtime.engine_options import EngineOptions


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"contexts": 0}, "contexts is 1 to 64, not 0"),
        ({"contexts": 65}, "contexts is 1 to 64, not 65"),
        ({"weight_budget": -1}, "at least 0, not -1"),
        ({"layout": "NHWC"}, "layout='NHWC' is unknown; choose one of auto, planar"),
    ],
)
def test_refusals(given: dict[str, int | str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        EngineOptions(**given)  # type: ignore[arg-type]


def test_the_careful_choices_are_the_defaults() -> None:
    assert EngineOptions() == EngineOptions(
        contexts=1, cuda_graphs=False, runtime_cache=True, weight_budget=None, layout="auto"
    )
