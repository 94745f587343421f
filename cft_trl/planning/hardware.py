"""The hardware that `cft plan` knows, and what it is taken to reach: the rows of `hardware.yaml`.

H100: {memory_gib: 79.6, peak_tflops: 989, utilisation: 0.45, status: planned, ...}
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from cft_trl.errors import CFTError, nearest
from cft_trl.planning.memory import GIB

TABLE = Path(__file__).with_name("hardware.yaml")


@dataclass(frozen=True)
class Hardware:
    """`count` devices of one kind; the fields are explained in `hardware.yaml`.

    Example:
        >>> read_hardware("8xH100").name
        '8 x H100'
    """

    kind: str
    count: int
    memory_gib: float
    peak_tflops: float
    fp32_tflops: float
    utilisation: float
    status: str
    source: str
    link_gbs: float
    network_gbs: float
    watts: float
    per_node: int

    @property
    def name(self) -> str:
        return self.kind if self.on_cpu and self.count == 1 else f"{self.count} x {self.kind}"

    @property
    def on_cpu(self) -> bool:
        return self.kind == "cpu"

    def peak(self, arithmetic: str) -> float:
        """FLOP/s of all devices, in `bf16` or `fp32`."""
        return 1e12 * self.count * (self.peak_tflops if arithmetic == "bf16" else self.fp32_tflops)

    @property
    def slowest_link(self) -> float:
        """Bytes per second to the other devices."""
        return (self.link_gbs if self.count <= self.per_node else self.network_gbs) * 1e9


def read_hardware(text: str, table: Path = TABLE) -> Hardware:
    """`8xH100` -> `Hardware`, from a table of kinds.

    Raises:
        CFTError: unknown kind (the nearest is named), or the table cannot be read.
    """
    import yaml

    match = re.fullmatch(r"\s*(?:(\d+)\s*[xX*]\s*)?([\w.-]+)\s*", text)
    try:
        kinds = yaml.safe_load(table.read_text(encoding="utf-8"))
        known = {str(kind).lower(): kind for kind in kinds}
        kind = known.get(match[2].lower()) if match else None
        if match is None or kind is None or int(match[1] or 1) < 1:
            raise CFTError(
                f"--hardware {text}: give a count and one of {', '.join(map(str, kinds))}, e.g. 8xH100"
                + nearest(match[2] if match else text, kinds)
            )
        hardware = Hardware(str(kind), int(match[1] or 1), **kinds[kind])
    except (OSError, yaml.YAMLError, TypeError, AttributeError) as error:
        raise CFTError(f"hardware table '{table}' cannot be read: {error}") from error
    if hardware.on_cpu and not hardware.memory_gib:
        hardware = replace(hardware, memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB)
    return hardware
