"""How much energy a run took, where the machine says what it draws; nothing is guessed where it does not.

    meter = PowerMeter(gpus=4)
    meter.start()
    ...
    meter.stop()     # {"gpu_wh": 812.4, "gpu_mean_w": 411.7, "gpus": 4, "cpu_wh": None, "every_s": 15.0}

GPUs: what `nvidia-smi` gives as their power draw, every 15 seconds, times the time between two readings. Processors:
Intel's and AMD's own energy counters (RAPL), which Linux shows to root only; they count the whole machine. Memory,
fans, network and cooling are in neither.
"""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path
from typing import Any

EVERY_S = 15.0
RAPL = Path("/sys/class/powercap")
_ASK = ("nvidia-smi", "--query-gpu=uuid,power.draw", "--format=csv,noheader,nounits")


class PowerMeter:
    """Adds up energy in a thread of its own.

    Args:
        gpus: How many of the GPUs that this process sees are at work, from the first on.
        every_s: Seconds between two readings.
    """

    def __init__(self, gpus: int = 0, every_s: float = EVERY_S) -> None:
        self.every_s = every_s
        self._uuids = _visible(gpus)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._gpu_ws, self._cpu_ws, self._seconds = 0.0, 0.0, 0.0
        # Read now: what cannot be read at the beginning is not known at the end either.
        self._at, self._watts, self._counters = time.monotonic(), gpu_watts(self._uuids), cpu_counters()
        self._thread = threading.Thread(target=self._run, name="power", daemon=True)

    def start(self) -> None:
        """Begins to read, if there is anything to be read."""
        self._at = time.monotonic()
        if self._watts is not None or self._counters:
            self._thread.start()

    def read(self) -> dict[str, Any] | None:
        """What was taken until now; None where the machine does not say."""
        with self._lock:
            self._add()
            if self._watts is None and not self._counters:
                return None
            measured = self._watts is not None
            return {
                "gpu_wh": self._gpu_ws / 3600 if measured else None,
                "gpu_mean_w": self._gpu_ws / self._seconds / len(self._uuids) if measured and self._seconds else None,
                "gpus": len(self._uuids) if measured else 0,
                "cpu_wh": self._cpu_ws / 3600 if self._counters else None,
                "every_s": self.every_s,
            }

    def stop(self) -> dict[str, Any] | None:
        """Ends the thread and returns what `read` does."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        return self.read()

    def _run(self) -> None:
        while not self._stop.wait(self.every_s):
            with self._lock:
                self._add()

    def _add(self) -> None:
        """Adds the time since the last reading; of one that failed the one before stands for the GPUs."""
        now = time.monotonic()
        if self._watts is not None:
            watts = gpu_watts(self._uuids)
            watts = self._watts if watts is None else watts
            self._gpu_ws += (watts + self._watts) / 2 * (now - self._at)
            self._watts = watts
        if self._counters:
            counters = cpu_counters() or self._counters
            for name, (joules, most) in counters.items():
                before = self._counters.get(name, (joules, most))[0]
                self._cpu_ws += joules - before if joules >= before else joules + most - before  # it begins anew
            self._counters = counters
        self._seconds += now - self._at
        self._at = now


def gpu_watts(uuids: list[str]) -> float | None:
    """What these GPUs draw together, in watts; None where `nvidia-smi` does not say it of each."""
    if not uuids:
        return None
    try:
        done = subprocess.run(_ASK, capture_output=True, text=True, timeout=30, check=True)
        drawn = dict(line.split(", ") for line in done.stdout.strip().splitlines())
        return sum(float(drawn[uuid]) for uuid in uuids)
    except (OSError, subprocess.SubprocessError, KeyError, ValueError):  # "[N/A]" is no number
        return None


def cpu_counters() -> dict[str, tuple[float, float]]:
    """Each processor's energy counter and where it begins anew, in joules; empty where they cannot be read."""
    found = {}
    for folder in sorted(RAPL.glob("intel-rapl:[0-9]*")):  # AMD's have this name too
        if folder.name.count(":") > 1:  # a part of a processor, which the whole counts too
            continue
        try:
            joules, most = (int((folder / name).read_text()) / 1e6 for name in ("energy_uj", "max_energy_range_uj"))
        except (OSError, ValueError):
            return {}
        found[folder.name] = joules, most
    return found


def _visible(count: int) -> list[str]:
    """The first GPUs that this process sees, as `nvidia-smi` names them."""
    if not count:
        return []
    import torch

    found = [torch.cuda.get_device_properties(index) for index in range(min(count, torch.cuda.device_count()))]
    return [f"GPU-{device.uuid}" for device in found]
