"""Energy, where the machine measures it: RAPL's counters, or an INA sensor on a board's supply.

Linux shows both as files of whole numbers: microjoules, microwatts, millivolts and milliamperes
(Documentation/power/powercap and Documentation/hwmon of the kernel).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

__all__ = ["Meter", "meter"]

#: Seconds between samples: a power is integrated over them, and no counter wraps twice within one.
PERIOD = 0.1
# What a rail is called that feeds the whole board: VDD_IN, POM_5V_IN, VIN_SYS_5V0.
_SUPPLY = re.compile(r"(.*_)?IN|VIN.*", re.IGNORECASE)


class _Source(Protocol):
    """What energy is read from."""

    def joules(self) -> float:
        """Energy since the last call; the first gives what has no meaning."""


class _Counter:
    """A file of microjoules that grow, and begin anew at `limit` where there is one."""

    def __init__(self, file: Path, limit: int | None) -> None:
        self._file, self._limit = file, limit
        self._last = _number(file)

    def joules(self) -> float:
        now = _number(self._file)
        spent, self._last = now - self._last, now
        if spent < 0:
            if self._limit is None:
                raise ValueError(f"{self._file} went back")
            spent += self._limit
        return spent / 1e6


class _Power:
    """A power in watts, which is integrated by the trapezoidal rule."""

    def __init__(self, watts: Callable[[], float], clock: Callable[[], float]) -> None:
        self._watts, self._clock = watts, clock
        self._last = clock(), watts()

    def joules(self) -> float:
        (then, before), (now, watts) = self._last, (self._clock(), self._watts())
        self._last = now, watts
        return (now - then) * (before + watts) / 2


class Meter:
    """Measures energy between `restart` and `joules`, sampling in a thread inside a with block.

    Parameters
    ----------
    name : str
        What is measured; empty where nothing is.
    sources : sequence
        What is added up.
    """

    def __init__(self, name: str, sources: Sequence[_Source]) -> None:
        self.name, self._sources = name, sources
        self._sum: float | None = None
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="energy", daemon=True)

    def __enter__(self) -> Meter:
        if self._sources:
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        if self._sources:
            self._thread.join()

    def restart(self) -> None:
        """Count from now on."""
        with self._lock:
            self._sum = 0.0
            self._sample()
            self._sum = None if self._sum is None else 0.0

    def joules(self) -> float | None:
        """Energy since `restart`; None where there is no sensor, or it failed or stood still."""
        with self._lock:
            self._sample()
            return self._sum or None

    def _sample(self) -> None:
        try:
            if self._sum is not None:
                self._sum += sum(source.joules() for source in self._sources)
        except (OSError, ValueError):  # a gap cannot be filled: all of it is lost
            self._sum = None

    def _watch(self) -> None:
        while not self._ended.wait(PERIOD):
            with self._lock:
                self._sample()


def meter(root: Path = Path("/sys/class"), clock: Callable[[], float] = time.monotonic) -> Meter:
    """Find what measures energy here.

    Parameters
    ----------
    root : Path
        Where the kernel shows its devices.
    clock : callable
        Seconds, for sensors of power.

    Returns
    -------
    Meter
        Of the processors and their memory where RAPL can be read, or else of the board's supply
        where there is one INA sensor for it; one that gives None where there is neither. Where
        several rails are measured and none is named as the supply, their sum would be a guess.
    """
    return _rapl(root) or _ina(root, clock) or Meter("", ())


def _rapl(root: Path) -> Meter | None:
    found = {}
    try:
        for zone in sorted(root.glob("powercap/intel-rapl:*")):
            name = (zone / "name").read_text().strip()
            # What else there is lies within a package (core, uncore), or around all (psys).
            if name.startswith("package") or name == "dram":
                limit = _number(zone / "max_energy_range_uj")
                found[f"{name} ({zone.name})"] = _Counter(zone / "energy_uj", limit)
    except (OSError, ValueError):  # for root alone, mostly; a part would pass for the whole
        return None
    return Meter(f"RAPL {', '.join(found)}", list(found.values())) if found else None


def _ina(root: Path, clock: Callable[[], float]) -> Meter | None:
    rails = {
        f"{device.name} {label}": source
        for device in sorted(root.glob("hwmon/hwmon*"))
        for label, source in _channels(device, clock)
    }
    if len(rails) > 1:
        rails = {name: s for name, s in rails.items() if _SUPPLY.fullmatch(name.split(" ", 1)[1])}
    return Meter(f"INA {next(iter(rails))}", list(rails.values())) if len(rails) == 1 else None


def _channels(device: Path, clock: Callable[[], float]) -> Iterator[tuple[str, _Source]]:
    """What a sensor measures, by its label; channels that are switched off are passed over."""
    try:
        if not (device / "name").read_text().startswith("ina"):
            return
    except OSError:
        return
    for file in sorted(device.glob("curr*_input")):
        number = file.name[len("curr") : -len("_input")]
        label = device / f"in{number}_label"
        try:
            yield (
                (label.read_text().strip() if label.exists() else number),
                _channel(device, number, clock),
            )
        except (OSError, ValueError):
            continue


def _channel(device: Path, number: str, clock: Callable[[], float]) -> _Source:
    energy, power, volts, amperes = (
        device / f"{quantity}{number}_input" for quantity in ("energy", "power", "in", "curr")
    )
    if energy.exists():
        return _Counter(energy, None)
    if power.exists():
        return _Power(lambda: _number(power) / 1e6, clock)
    return _Power(lambda: _number(volts) * _number(amperes) / 1e6, clock)


def _number(file: Path) -> int:
    return int(file.read_text())
