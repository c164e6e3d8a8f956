from __future__ import annotations

from typing import Any

from scconv_deploy.bench.machine import identified, processor, this_machine, versions

X86 = """processor\t: 0
model name\t: Some(R) Processor @ 2.60GHz
flags\t\t: fpu sse4_2 avx avx2 fma avx512f amx_tile amx_bf16 hypervisor

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimdhp bf16 i8mm\n"
FACTS: dict[str, Any] = {
    "cpu": "Some",
    "features": ("avx2",),
    "cores": 2,
    "memory_gib": 23.5,
    "system": "Linux x86_64",
    "gpu": None,
}


def test_the_processor_is_read_with_the_features_that_matter() -> None:
    name, features = processor(X86)
    assert name == "Some(R) Processor @ 2.60GHz"
    assert features == ("sse4_2", "avx", "avx2", "fma", "avx512f", "amx_tile", "amx_bf16")
    assert processor(ARM)[1] == ("asimd", "asimdhp", "bf16", "i8mm")
    assert processor("")[1] == ()


def test_the_fingerprint_tells_machines_apart_and_nothing_else() -> None:
    machine = identified(**FACTS)
    assert identified(**FACTS | {"memory_gib": 23.6}).fingerprint == machine.fingerprint
    others: list[dict[str, Any]] = [
        {"cpu": "Other"},
        {"features": ("avx2", "avx512f")},
        {"cores": 4},
        {"memory_gib": 31.0},
        {"gpu": "A GPU (sm_89)"},
    ]
    prints = {identified(**FACTS | other).fingerprint for other in others}
    assert len(prints) == len(others)
    assert machine.fingerprint not in prints


def test_this_machine_is_the_same_twice() -> None:
    assert this_machine() == this_machine()
    assert this_machine().cores >= 1
    found = versions()
    assert found["torch"]
    assert found["onnxruntime"]
