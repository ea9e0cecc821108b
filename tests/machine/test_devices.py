"""What the machine is said to be, from made descriptions of processors."""

import pathlib

import pytest

from dah_tf.machine import devices


@pytest.mark.parametrize(
    ("flags", "shown", "fast"),
    [
        ("avx2 avx512f avx512_bf16", "A Processor, AVX512-BF16", True),
        ("avx2 avx512f amx_bf16 avx512_bf16", "A Processor, AMX-BF16", True),
        ("sse avx2", "A Processor, AVX2", False),
        ("sse", "A Processor", False),
    ],
)
def test_processor(tmp_path, monkeypatch, flags, shown, fast):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nmodel name\t: A Processor\nflags : fpu {flags}\n")
    monkeypatch.setattr(devices.pathlib, "Path", lambda _: pathlib.PosixPath(cpuinfo))
    monkeypatch.setattr(devices, "accelerators", list)
    monkeypatch.setattr(devices, "cores", lambda: 2)
    assert devices.hardware() == f"2 CPU cores ({shown})"
    assert devices.bfloat16_is_fast() is fast
    assert devices.name() == "CPU (2 cores)"


def test_machine_without_cpuinfo(tmp_path, monkeypatch):
    monkeypatch.setattr(devices.pathlib, "Path", lambda _: pathlib.PosixPath(tmp_path / "none"))
    monkeypatch.setattr(devices, "accelerators", lambda: ["A GPU", "A GPU"])
    assert devices.hardware().startswith("A GPU, A GPU, ")
    assert devices.name() == "A GPU"
