"""Energy: what a machine's own counters say, else an estimate by a stated model.

Read where they can be read: Intel's and AMD's RAPL counters (Linux powercap; since Linux 5.10 only root may read them,
unless the files' mode is changed) and, of an NVIDIA GPU, NVML's (package nvidia-ml-py). Both count everything that runs
on the processor, idling included: the power at rest, measured just before, is stated beside.

Else the processor's energy is estimated as WATTS_PER_CORE for each second that a core is busy with this process. That
is the whole model: idle power, memory, and how power really depends on the load are left out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from fairground.errors import CapabilityError

WATTS_PER_CORE = 4.0
"""Of a busy core, in watts: what CodeCarbon takes for a processor that it does not know (DEFAULT_POWER_PER_CORE in
codecarbon/core/cpu.py). Servers' and desktops' cores take about 2 to 15 W."""

ASSUMPTIONS = (
    f"{WATTS_PER_CORE:g} W for each second that a core is busy with this process; idle power and memory left out"
)
POWERCAP = Path("/sys/class/powercap")
IDLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Energy:
    """What some work took. `idle_w`: what the counted parts take at rest, in watts; None where that is not counted."""

    joules: float
    seconds: float
    source: str
    estimate: bool
    idle_w: float | None = None

    def as_json(self, output_tokens: int) -> dict[str, Any]:
        """Joules for 1,000 output tokens: all of it is put down to them, the reading of prompts included."""
        found: dict[str, Any] = {
            "j_per_1k_tokens": 1000 * self.joules / output_tokens,
            "joules": self.joules,
            "mean_w": self.joules / self.seconds if self.seconds > 0 else None,
            "source": self.source,
            "estimate": self.estimate,
        }
        if self.idle_w is not None:
            above = max(0.0, self.joules - self.idle_w * self.seconds)
            found |= {"idle_w": self.idle_w, "j_per_1k_tokens_above_idle": 1000 * above / output_tokens}
        return found


class Counter(Protocol):
    """Something that counts joules. `source` says in words what it is."""

    @property
    def source(self) -> str: ...

    @property
    def estimate(self) -> bool: ...

    def start(self) -> Callable[[], float]:
        """Begins to count; what it returns gives the joules since."""
        ...


@dataclass(frozen=True, slots=True)
class Meter:
    """All counters of what a model computes on."""

    counters: Sequence[Counter]
    idle_w: float | None = None

    def start(self) -> Callable[[], Energy]:
        """Begins to count; what it returns gives the energy since."""
        running = [counter.start() for counter in self.counters]
        began = time.perf_counter()
        source = " and ".join(counter.source for counter in self.counters)
        estimate = any(counter.estimate for counter in self.counters)

        def energy() -> Energy:
            joules = sum(map(_afterwards, running))
            return Energy(joules, time.perf_counter() - began, source, estimate, self.idle_w)

        return energy

    def rested(self, seconds: float = IDLE_S) -> Meter:
        """The same, with the power of doing nothing measured. An estimate takes that to be none and says nothing."""
        if any(counter.estimate for counter in self.counters):
            return self
        energy = self.start()
        time.sleep(seconds)
        found = energy()
        return replace(self, idle_w=found.joules / found.seconds)


def meter(device: str | None, powercap: Path = POWERCAP) -> Meter:
    """What counts the energy of a model on this device: "cpu", "cuda", "cuda:1"; None: on another machine.

    Raises CapabilityError, saying why, where nothing can be known.
    """
    if device is None:
        raise CapabilityError("the model runs on a server, whose energy is not known here.")
    try:
        processor: Counter = Rapl.find(powercap)
    except CapabilityError as none:
        processor = BusyCores(f"estimate ({ASSUMPTIONS}; {none})")
    return Meter([processor] if device == "cpu" else [Nvml.find(device), processor])


@dataclass(frozen=True, slots=True)
class BusyCores:
    """The estimate: seconds of processor time of this process and its threads, times WATTS_PER_CORE."""

    source: str
    estimate: bool = True

    def start(self) -> Callable[[], float]:
        began = time.process_time()
        return lambda: WATTS_PER_CORE * (time.process_time() - began)


@dataclass(frozen=True, slots=True)
class Rapl:
    """RAPL through Linux's powercap: processor packages, and memory where it is counted apart.

    `zones`: the folders that are added up. A counter starts again from 0 past its `max_energy_range_uj`; at 200 W that
    takes minutes, and one such turn between two readings is accounted for.
    """

    zones: Mapping[Path, int]
    source: str = "RAPL counters"
    estimate: bool = False

    @classmethod
    def find(cls, powercap: Path = POWERCAP) -> Rapl:
        """Raises CapabilityError where there are no counters, or this process may not read them.

        Packages are `intel-rapl:N` (AMD's have the same name). Of a package's own zones, `dram` alone is not part of it
        already; `psys`, the whole platform, holds the packages; `intel-rapl-mmio` shows the same counters again.
        """
        zones: dict[Path, int] = {}
        names: list[str] = []
        try:
            for zone in sorted(powercap.glob("intel-rapl:*")):
                name = (zone / "name").read_text(encoding="ascii").strip()
                if name.startswith("package") or name == "dram":
                    zones[zone] = int((zone / "max_energy_range_uj").read_text(encoding="ascii"))
                    _microjoules(zone)
                    names.append(name)
        except PermissionError:
            raise CapabilityError("this user may not read the RAPL counters") from None
        except (OSError, ValueError) as error:
            raise CapabilityError(f"the RAPL counters cannot be read: {error}") from None
        if not zones:
            raise CapabilityError("this machine shows no RAPL counters")
        return cls(zones, f"RAPL counters ({', '.join(dict.fromkeys(names))})")

    def start(self) -> Callable[[], float]:
        before = {zone: _microjoules(zone) for zone in self.zones}

        def joules() -> float:
            total = 0
            for zone, most in self.zones.items():
                used = _microjoules(zone) - before[zone]
                total += used if used >= 0 else used + most
            return total / 1e6

        return joules


def _microjoules(zone: Path) -> int:
    return int((zone / "energy_uj").read_text(encoding="ascii"))


def _afterwards(read: Callable[[], float]) -> float:
    """What a counter that could be read says later. Raises CapabilityError where it cannot be read any more."""
    try:
        return read()
    except Exception as error:
        raise CapabilityError(f"an energy counter could not be read any more ({error})") from None


@dataclass(frozen=True, slots=True)
class Nvml:
    """An NVIDIA GPU's own counter of millijoules (nvmlDeviceGetTotalEnergyConsumption, Volta and later)."""

    millijoules: Callable[[], int]
    source: str
    estimate: bool = False

    @classmethod
    def find(cls, device: str) -> Nvml:
        """The GPU that "cuda" or "cuda:N" stands for among those that CUDA_VISIBLE_DEVICES grants.

        Raises CapabilityError where NVML is missing or the GPU does not count energy.
        """
        try:
            import pynvml
        except ImportError:
            raise CapabilityError(
                "the GPU's energy counter needs nvidia-ml-py; install it with: pip install 'fairground[nvidia]'"
            ) from None
        number = int(device.partition(":")[2] or 0)
        visible = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
        try:
            pynvml.nvmlInit()
            chosen = visible[number] if visible else str(number)
            if chosen.isdecimal():
                handle = pynvml.nvmlDeviceGetHandleByIndex(int(chosen))
            else:
                handle = pynvml.nvmlDeviceGetHandleByUUID(chosen)
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            name = pynvml.nvmlDeviceGetName(handle)
        except (pynvml.NVMLError, IndexError) as error:
            raise CapabilityError(f"the GPU's energy counter cannot be read ({error})") from None
        return cls(lambda: int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)), f"NVML counter ({name})")

    def start(self) -> Callable[[], float]:
        before = self.millijoules()
        return lambda: (self.millijoules() - before) / 1e3
