"""Plugins are registered in the process that parses; one whose parser aborts costs an error and no more."""

from pathlib import Path

import pytest
from onnx import helper

from exporters.trt.process import building
from exporters.trt.registration import register
from exporters.trt.settings import BuildRequest
from scconv_deploy.errors import BuildError, CapabilityError
from tests.exporters.trt import mystery_plugin
from tests.exporters.trt.models import SILENCE, model, rtx, rtx_platform

HERE = "tests.exporters.trt.test_registration"


def remember(module: object) -> object:
    return ("kept", module)


def fail(module: object) -> None:
    raise RuntimeError("no registry\nat all")


def refuse(module: object) -> None:
    raise CapabilityError("the plugin needs another library")


def test_functions_are_called_with_the_module_and_what_they_return_is_kept() -> None:
    assert register([f"{HERE}:remember"], pytest) == [("kept", pytest)]
    assert register([], pytest) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.at.all:register", "the plugin nowhere.at.all:register cannot be imported"),
        (f"{HERE}:missing", "cannot be imported"),
        ("no name", "cannot be imported"),
        ("", "cannot be imported"),
        (f"{HERE}:fail", "could not be registered: no registry$"),
    ],
)
def test_what_cannot_be_registered_is_an_error_in_words(name: str, words: str) -> None:
    with pytest.raises(BuildError, match=words):
        register([name], pytest)


def test_a_refusal_of_ours_goes_through() -> None:
    with pytest.raises(CapabilityError, match="another library"):
        register([f"{HERE}:refuse"], pytest)


def _mystery() -> bytes:
    node = helper.make_node(
        "Mystery", ["x"], ["z"], name="head/Mystery_0", domain="ours", plugin_version="1", plugin_namespace=""
    )
    return bytes(model([node], (2, 3), (2, 3), domains=("ours",)).SerializeToString())


def test_a_registered_plugin_is_found_by_the_parser_in_the_other_process(tmp_path: Path) -> None:
    """Trap 3 of design/tensorrt.md for real: where the wheel's library lacks its unversioned name beside it, the
    parser aborts the process on the very node that it has found a plugin for. Then it must be a sentence; and where
    somebody put that link there, the plugin was found and the build gets further."""
    rtx()
    with pytest.raises(BuildError, match="Plugin not found"), building(rtx_platform(), tmp_path) as process:
        process.plan(_mystery(), BuildRequest((), ("sm_89",)), SILENCE)
    request = BuildRequest((), ("sm_89",), plugins=(f"{mystery_plugin.__name__}:register",))
    told = _outcome(request, tmp_path)
    assert "Plugin not found" not in told
    if "died" in told:
        assert "of SIGABRT while importing the graph" in told
        assert "Successfully created plugin: Mystery" in told
    assert list(tmp_path.iterdir()) == []


def _outcome(request: BuildRequest, folder: Path) -> str:
    try:
        with building(rtx_platform(), folder) as process:
            process.plan(_mystery(), request, SILENCE)
    except BuildError as error:
        return str(error)
    return "built"
