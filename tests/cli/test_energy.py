"""Energy from a made-up /sys/class: counters that wrap, sensors of power, what is no sensor."""

import json
import threading

import pytest
from cli.process import SMALL

from tinygrad_edge.cli import energy, loop
from tinygrad_edge.cli.training import Training
from tinygrad_edge.runtime import Stopped


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")
    return folder


def zone(root, path, name, microjoules, limit=10_000_000):
    files = {"name": name, "energy_uj": microjoules, "max_energy_range_uj": limit}
    return write(root / "powercap" / path, **files)


def sensor(root, number, name, **files):
    return write(root / "hwmon" / f"hwmon{number}", name=name, **files)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_packages_and_memory_are_added_and_what_lies_within_is_not(tmp_path):
    write(tmp_path / "powercap" / "intel-rapl", enabled=1)
    outer = [zone(tmp_path, f"intel-rapl:{i}", f"package-{i}", 1_000_000) for i in (0, 1)]
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 0)
    others = [
        zone(tmp_path, "intel-rapl:0:0", "core", 0),
        zone(tmp_path, "intel-rapl:2", "psys", 0),
    ]
    others.append(zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0))
    meter = energy.meter(tmp_path)
    for part in ("RAPL ", "package-0 (intel-rapl:0)", "package-1 (", "dram (intel-rapl:0:1)"):
        assert part in meter.name
    meter.restart()
    write(outer[0], energy_uj=1_500_000)
    write(outer[1], energy_uj=3_000_000)
    write(memory, energy_uj=250_000)
    for other in others:
        write(other, energy_uj=9_000_000)
    assert meter.joules() == 2.75
    meter.restart()
    write(memory, energy_uj=300_000)
    assert meter.joules() == pytest.approx(0.05)


def test_a_counter_wraps_at_its_limit(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 9_000_000)
    meter = energy.meter(tmp_path)
    meter.restart()
    write(package, energy_uj=500_000)
    assert meter.joules() == 1.5
    write(package, energy_uj=600_000)
    assert meter.joules() == pytest.approx(1.6)


@pytest.mark.parametrize("missing", ["energy_uj", "max_energy_range_uj", "name"])
def test_one_zone_that_cannot_be_read_takes_all_away(tmp_path, missing):
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    (zone(tmp_path, "intel-rapl:1", "package-1", 0) / missing).unlink()
    meter = energy.meter(tmp_path)
    meter.restart()
    assert meter.name == "" and meter.joules() is None


def test_a_gap_loses_the_epoch_and_not_the_next(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = energy.meter(tmp_path)
    meter.restart()
    (package / "energy_uj").unlink()
    assert meter.joules() is None
    write(package, energy_uj=2_000_000)
    assert meter.joules() is None
    meter.restart()
    write(package, energy_uj=3_000_000)
    assert meter.joules() == 1


def test_a_counter_that_stands_still_measures_nothing(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", 7)
    meter = energy.meter(tmp_path)
    meter.restart()
    assert meter.joules() is None


@pytest.mark.parametrize(
    ("files", "changed"),
    [
        ({"power1_input": 2_000_000}, {"power1_input": 4_000_000}),
        ({"in1_input": 5000}, {"in1_input": 5000, "curr1_input": 800}),
    ],
    ids=["power", "volts times amperes"],
)
def test_a_power_is_integrated(tmp_path, files, changed):
    clock = Clock()
    device = sensor(tmp_path, 3, "ina226", curr1_input=400, **files)
    meter = energy.meter(tmp_path, clock)
    assert meter.name == "INA hwmon3 1"
    clock.now = 10.0
    meter.restart()
    clock.now = 11.0
    write(device, **changed)
    assert meter.joules() == 3.0  # a second, from 2 to 4 watts
    clock.now = 11.5
    assert meter.joules() == 5.0


def test_a_sensors_own_sum_is_taken_and_must_not_go_back(tmp_path):
    files = {"curr1_input": 1, "power1_input": 1, "energy1_input": 5_000_000}
    device = sensor(tmp_path, 0, "ina228", **files)
    meter = energy.meter(tmp_path)
    meter.restart()
    write(device, energy1_input=6_000_000)
    assert meter.joules() == 1
    write(device, energy1_input=0)
    assert meter.joules() is None


def rails(root, *labels):
    files = {}
    for i, label in enumerate(labels, start=1):
        files |= {f"in{i}_input": 5000, f"curr{i}_input": 1000}
        files |= {f"in{i}_label": label} if label else {}
    return sensor(root, 0, "ina3221", **files)


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        (("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"), "INA hwmon0 VDD_IN"),
        (("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), "INA hwmon0 VIN_SYS_5V0"),
        (("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"), "INA hwmon0 POM_5V_IN"),
        (("GPU", "CPU", "SOC"), ""),
        ((None, None, None), ""),
        (("VDD_IN", "OTHER_IN"), ""),
        (("CPU",), "INA hwmon0 CPU"),
    ],
)
def test_of_several_rails_only_the_supply_is_meant(tmp_path, labels, name):
    rails(tmp_path, *labels)
    assert energy.meter(tmp_path).name == name


def test_a_channel_that_is_switched_off_is_passed_over(tmp_path):
    device = rails(tmp_path, None, None)
    (device / "in2_input").unlink()
    assert energy.meter(tmp_path).name == "INA hwmon0 1"


def test_other_sensors_are_none(tmp_path):
    sensor(tmp_path, 0, "k10temp", curr1_input=1, in1_input=1)
    write(tmp_path / "hwmon" / "hwmon1", curr1_input=1, power1_input=1)
    for root in (tmp_path, tmp_path / "nothing"):
        with energy.meter(root) as meter:
            meter.restart()
            assert meter.joules() is None


def test_a_thread_samples_while_the_work_goes_on(monkeypatch):
    monkeypatch.setattr(energy, "PERIOD", 0.001)
    sampled = threading.Event()

    class Source:
        calls = 0

        def joules(self):
            self.calls += 1
            if self.calls == 5:
                sampled.set()
            return 1.0

    source = Source()
    with energy.Meter("a source", [source]) as meter:
        meter.restart()
        assert sampled.wait(60)
    calls = source.calls
    assert not meter._thread.is_alive()
    assert meter.joules() == calls  # the call of restart counts for nothing, this one counts


# ---- in a run ----


class Steady:
    """Two and a half joules a sample, and a run takes one sample an epoch."""

    def joules(self):
        return 2.5


@pytest.fixture
def measured(monkeypatch):
    monkeypatch.setattr(energy, "PERIOD", 1e6)
    monkeypatch.setattr(loop, "meter", lambda: energy.Meter("steady", [Steady()]))


def rows(folder):
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line).get("joules") for line in lines]


def test_metrics_have_the_joules_of_each_epoch(measured, command, tmp_path):
    code, out, _ = command("train", *SMALL, "--out", "run")
    assert code == 0 and rows(tmp_path) == [2.5] * 3
    assert [line for line in out.splitlines() if line.endswith(" s  2.5 J")]


def test_metrics_of_other_machines_do_not_speak_of_energy(command, monkeypatch, tmp_path):
    monkeypatch.setattr(loop, "meter", lambda: energy.meter(tmp_path))
    assert command("train", *SMALL, "--out", "run")[0] == 0
    assert "joules" not in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_an_epoch_in_two_processes_has_no_joules(measured, command, monkeypatch, tmp_path):
    steps = iter(range(100))

    def stop_in_the_second_epoch(*_):
        if next(steps) == 15:
            raise Stopped
        return 1.0

    with monkeypatch.context() as patch:
        patch.setattr(Training, "run_step", stop_in_the_second_epoch)
        assert command("train", *SMALL, "--out", "run")[0] == 130
    assert command("train", "--resume", "run")[0] == 0
    assert rows(tmp_path) == [2.5, None, 2.5]
