"""Energy as the machine tells it, and silence where it does not."""

from __future__ import annotations

import pytest

from cft_trl.training import power
from cft_trl.training.power import PowerMeter, cpu_counters, gpu_watts


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""
    now = [100.0]
    monkeypatch.setattr(power.time, "monotonic", lambda: now[0])
    return now


def smi(tmp_path, monkeypatch, text: str, code: int = 0) -> None:
    """An `nvidia-smi` that answers this."""
    path = tmp_path / "nvidia-smi"
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("text", "code", "watts"),
    [
        ("GPU-a, 300.50\nGPU-b, 99.50\nGPU-c, 700.00", 0, 400.0),
        ("GPU-a, 300.50\nGPU-b, [N/A]", 0, None),
        ("GPU-a, 300.50", 0, None),
        ("Failed to initialize NVML", 0, None),
        ("GPU-a, 1\nGPU-b, 1", 9, None),
    ],
)
def test_what_these_gpus_draw(tmp_path, monkeypatch, text, code, watts):
    smi(tmp_path, monkeypatch, text, code)
    assert gpu_watts(["GPU-a", "GPU-b"]) == watts
    assert gpu_watts([]) is None


def test_power_times_time(tmp_path, monkeypatch, clock):
    monkeypatch.setattr(power, "_visible", lambda count: ["GPU-a", "GPU-b"])
    smi(tmp_path, monkeypatch, "GPU-a, 100\nGPU-b, 300")
    meter = PowerMeter(2, every_s=3600)
    meter.start()
    clock[0] += 1800
    smi(tmp_path, monkeypatch, "GPU-a, 300\nGPU-b, 300")
    assert meter.read()["gpu_wh"] == pytest.approx((400 + 600) / 2 / 2)
    clock[0] += 1800
    smi(tmp_path, monkeypatch, "", 1)  # it fails once: the reading before stands
    energy = meter.stop()
    assert energy["gpu_wh"] == pytest.approx(250 + 600 / 2)
    assert energy["gpu_mean_w"] == pytest.approx(550 / 2)
    assert (energy["gpus"], energy["cpu_wh"]) == (2, None)


def counter(folder, joules: float, most: float = 1000.0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{joules * 1e6:.0f}\n")
    (folder / "max_energy_range_uj").write_text(f"{most * 1e6:.0f}\n")


def test_processors_count_for_themselves_and_begin_anew(tmp_path, monkeypatch, clock):
    monkeypatch.setattr(power, "RAPL", tmp_path)
    counter(tmp_path / "intel-rapl:0", 900.0)
    counter(tmp_path / "intel-rapl:1", 100.0)
    counter(tmp_path / "intel-rapl:0:0", 5.0)  # a part of the first
    assert cpu_counters() == {"intel-rapl:0": (900.0, 1000.0), "intel-rapl:1": (100.0, 1000.0)}
    meter = PowerMeter(0, every_s=3600)
    counter(tmp_path / "intel-rapl:0", 160.0)  # past its end: 260 J
    counter(tmp_path / "intel-rapl:1", 200.0)
    clock[0] += 10
    energy = meter.stop()
    assert energy["cpu_wh"] == pytest.approx(360 / 3600)
    assert energy["gpu_wh"] is None
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("")  # not for everybody to read
    assert cpu_counters() == {}


def test_a_machine_that_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(power, "RAPL", tmp_path)
    meter = PowerMeter(0)
    meter.start()
    assert meter.stop() is None
