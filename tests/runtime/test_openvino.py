"""The OpenVINO runner: named device, the model's own types, one compiled model per shape, threads, refusals."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from scconv_deploy.config import Precision
from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.runtime.backends import open_runner
from tests.stages.small import EXAMPLE, half_graph, ready

ov = pytest.importorskip("openvino", reason="OpenVINO is not installed")
runtime = pytest.importorskip("scconv_deploy.runtime.openvino")

IMAGE = EXAMPLE.numpy()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _saved(ready().graph.model.SerializeToString(), tmp_path_factory.mktemp("ir"))


def _saved(data: bytes, folder: Path) -> Path:
    ov.save_model(ov.Core().read_model(data), folder / "model.xml", compress_to_fp16=False)
    return folder / "model.xml"


def test_any_batch_gives_what_each_sample_gives(model: Path) -> None:
    with open_runner("openvino", model, threads=1) as runner:
        whole = runner.run({"image": IMAGE})["output"]
        for index, image in enumerate(IMAGE):
            (single,) = runner.run({"image": image[None]}).values()
            np.testing.assert_allclose(single[0], whole[index], rtol=0, atol=1e-6)


def test_more_shapes_than_are_specialised_run_too(model: Path) -> None:
    with runtime.OpenVINORunner(model, threads=1) as runner:
        for batch in range(1, runtime.SPECIALISED + 3):
            assert runner.run({"image": np.repeat(IMAGE[:1], batch, axis=0)})["output"].shape[0] == batch
        assert len(runner._compiled) == runtime.SPECIALISED + 1  # one of them with a free batch


def test_threads_do_not_meet_in_one_request(model: Path) -> None:
    wrong: list[float] = []
    with runtime.OpenVINORunner(model, threads=1) as runner:
        inputs = [IMAGE * factor for factor in (0.5, 1.0, 2.0, 3.0)]
        wanted = [runner.run({"image": image})["output"] for image in inputs]

        def serve(index: int) -> None:
            for _ in range(25):
                got = runner.run({"image": inputs[index]})["output"]
                wrong.append(float(np.abs(got - wanted[index]).max()))

        workers = [threading.Thread(target=serve, args=(i,)) for i in range(len(inputs))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert len(wrong) == 100
    assert max(wrong) == 0.0


def test_results_are_the_callers_own(model: Path) -> None:
    with runtime.OpenVINORunner(model, threads=1) as runner:
        first = runner.run({"image": IMAGE})["output"]
        kept = first.copy()
        runner.run({"image": 2 * IMAGE})
        np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_half_models_keep_their_types(precision: Precision, tmp_path: Path) -> None:
    path = _saved(half_graph(precision).model.SerializeToString(), tmp_path)
    if runtime.missing_types(runtime.half_types(ov.Core().read_model(path))):
        pytest.skip(f"this CPU does not compute {precision.value} in OpenVINO")
    with runtime.OpenVINORunner(path, threads=1) as runner:
        assert runner.precision_hint == "dynamic"
        got = runner.run({"image": IMAGE})["output"]
    with runtime.OpenVINORunner(_saved(ready().graph.model.SerializeToString(), tmp_path)) as wide:
        assert wide.precision_hint == "f32"
        want = wide.run({"image": IMAGE})["output"]
    assert 0 < float(np.abs(got - want).max()) < 0.1 * float(np.abs(want).max())


def test_bfloat16_in_and_out(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    import openvino.opset13 as opset

    x = opset.parameter([-1, 3], ov.Type.bf16, name="x")
    x.output(0).set_names({"x"})
    y = opset.add(x, opset.convert(opset.constant(np.float32(1.0)), "bf16"))
    y.output(0).set_names({"y"})
    ov.save_model(ov.Model([y], [x]), tmp_path / "m.xml", compress_to_fp16=False)
    given = np.array([[1.5, -2.0, 255.0]], ml_dtypes.bfloat16)
    with runtime.OpenVINORunner(tmp_path / "m.xml") as runner:
        got = runner.run({"x": given})["y"]
        for other in (np.float64, np.float16, np.uint16):  # float64 is what NumPy takes for "no type"
            with pytest.raises(InputError, match="'x' must be bfloat16, not"):
                runner.run({"x": given.astype(other)})
    assert got.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(got.astype(np.float32), [[2.5, -1.0, 256.0]])


def test_refusals_are_sentences(model: Path, tmp_path: Path) -> None:
    with pytest.raises(CapabilityError, match=r"finds no device NPU\.7 here; available: .*CPU"):
        open_runner("openvino", model, provider="NPU.7")
    broken = tmp_path / "broken.xml"
    broken.write_text("<net>", encoding="utf-8")
    with pytest.raises(InputError, match=r"cannot read broken\.xml"):
        open_runner("openvino", broken)
    runner = runtime.OpenVINORunner(model)
    with runner:
        with pytest.raises(InputError, match="takes inputs image; given were picture"):
            runner.run({"picture": IMAGE})
        with pytest.raises(InputError, match="'image' must be float32, not float64"):
            runner.run({"image": IMAGE.astype(np.float64)})
        with pytest.raises(InputError, match=r"shape \[2, 2, 6, 6\]"):
            runner.run({"image": IMAGE[:, :2]})
    with pytest.raises(InputError, match="closed"):
        runner.run({"image": IMAGE})


def test_a_type_that_the_device_does_not_compute_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _saved(half_graph(Precision.BF16).model.SerializeToString(), tmp_path)
    monkeypatch.setattr(runtime, "missing_types", lambda halves, device: "bf16")
    with pytest.raises(
        CapabilityError, match=r"model\.xml computes in bf16, which OpenVINO .* does not compute"
    ):
        open_runner("openvino", path)


def test_without_openvino_the_line_to_install_it(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scconv_deploy.runtime.openvino", None)
    with pytest.raises(CapabilityError, match=r'pip install "scconv-deploy\[openvino\]"'):
        open_runner("openvino", model)
