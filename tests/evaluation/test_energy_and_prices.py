"""Energy from counters and by estimate; prices from the user's table."""

from __future__ import annotations

import sys
import time
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

from fairground.errors import CapabilityError, DataError
from fairground.evaluation import energy
from fairground.evaluation.energy import BusyCores, Energy, Meter, Nvml, Rapl, meter
from fairground.evaluation.prices import Electricity, Price, Prices, priced, read_prices

MOST = 262_143_328_850  # what Intel's processors show


def zone(powercap: Path, path: str, name: str, microjoules: int) -> Path:
    folder = powercap / path
    folder.mkdir(parents=True)
    for file, content in (("name", name), ("energy_uj", microjoules), ("max_energy_range_uj", MOST)):
        (folder / file).write_text(f"{content}\n", encoding="ascii")
    return folder


def test_rapl_adds_packages_and_memory_and_counts_past_the_turn(tmp_path: Path) -> None:
    # As the kernel lays them out: all zones side by side, links in the real tree.
    first = zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", MOST - 1_000_000)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 7_000_000)
    within = zone(tmp_path, "intel-rapl:0:0", "core", 1_000_000)
    platform = zone(tmp_path, "intel-rapl:2", "psys", 0)
    again = zone(tmp_path, "intel-rapl-mmio:0", "package-0", 5_000_000)
    (tmp_path / "intel-rapl").mkdir()
    rapl = Rapl.find(tmp_path)
    read = rapl.start()
    for folder, microjoules in (
        (first, 8_000_000), (second, 2_000_000), (memory, 7_500_000),
        (within, 900_000_000), (platform, 900_000_000), (again, 900_000_000),
    ):  # fmt: skip
        (folder / "energy_uj").write_text(f"{microjoules}\n", encoding="ascii")
    # 3 J of the first package, 1 J to the turn and 2 J after it of the second, half a joule of memory.
    assert read() == pytest.approx(3 + 3 + 0.5)
    assert rapl.source == "RAPL counters (package-0, dram, package-1)"
    counted = meter("cpu", tmp_path)
    assert [counter.estimate for counter in counted.counters] == [False]


def test_without_readable_counters_energy_is_a_marked_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = meter("cpu", tmp_path)
    assert counted.rested(seconds=60) is counted  # an estimate has no idle power to wait for
    clock = iter((10.0, 12.5))
    monkeypatch.setattr(time, "process_time", lambda: next(clock))
    found = counted.start()()
    assert found.joules == pytest.approx(2.5 * energy.WATTS_PER_CORE)
    assert found.estimate
    assert "this machine shows no RAPL counters" in found.source
    assert "4 W for each second that a core is busy" in found.source

    package = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    monkeypatch.setattr(energy, "_microjoules", lambda zone: (_ for _ in ()).throw(PermissionError))
    assert "may not read the RAPL counters" in meter("cpu", tmp_path).counters[0].source
    monkeypatch.undo()
    (package / "energy_uj").write_text("many\n", encoding="ascii")
    with pytest.raises(CapabilityError, match="cannot be read"):
        Rapl.find(tmp_path)


def test_the_estimate_sees_this_process_work() -> None:
    read = BusyCores("estimate").start()
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    assert 0.2 * energy.WATTS_PER_CORE <= read() <= 0.4 * energy.WATTS_PER_CORE


def test_idle_power_is_measured_and_stated(tmp_path: Path) -> None:
    class Steady:
        source, estimate = "a counter", False

        def start(self):  # type: ignore[no-untyped-def]
            began = time.perf_counter()
            return lambda: 20 * (time.perf_counter() - began)

    counted = Meter([Steady()]).rested(seconds=0.05)
    assert counted.idle_w == pytest.approx(20, rel=0.05)
    found = Energy(90.0, 3.0, "a counter", False, idle_w=20.0).as_json(output_tokens=500)
    assert found["j_per_1k_tokens"] == pytest.approx(180)
    assert found["j_per_1k_tokens_above_idle"] == pytest.approx(60)
    assert found["mean_w"] == pytest.approx(30)


def test_a_counter_that_breaks_is_said() -> None:
    class Breaking:
        source, estimate = "a counter", False

        def start(self):  # type: ignore[no-untyped-def]
            return lambda: (_ for _ in ()).throw(OSError("gone"))

    with pytest.raises(CapabilityError, match="could not be read any more"):
        Meter([Breaking()]).start()()


def test_nvml_counts_the_gpu_that_is_visible(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[object] = []
    millijoules = iter((0, 1000, 5500))
    fake = SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda number: asked.append(number) or "gpu",
        nvmlDeviceGetHandleByUUID=lambda name: asked.append(name) or "gpu",
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(millijoules),
        nvmlDeviceGetName=lambda handle: "A GPU",
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-abc")
    gpu = Nvml.find("cuda")
    assert gpu.start()() == pytest.approx(4.5)
    millijoules = iter((0, 0))
    Nvml.find("cuda:1")
    assert asked == [3, "GPU-abc"]
    with pytest.raises(CapabilityError, match="cannot be read"):
        Nvml.find("cuda:2")
    # The processor beside the GPU is an estimate here, so the sum is one too.
    counted = meter("cuda", tmp_path)
    assert [counter.estimate for counter in counted.counters] == [False, True]


def test_the_real_nvml_has_the_names_that_are_called() -> None:
    pynvml = pytest.importorskip("pynvml")
    for name in ("Init", "DeviceGetHandleByIndex", "DeviceGetHandleByUUID", "DeviceGetTotalEnergyConsumption"):
        assert callable(getattr(pynvml, f"nvml{name}"))
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        with pytest.raises(CapabilityError, match="counter cannot be read"):
            meter("cuda")


def test_another_machines_energy_is_not_known() -> None:
    with pytest.raises(CapabilityError, match="runs on a server"):
        meter(None)


TABLE = """
[prices."openai:big@https://host/v1"]
input = 0.15
output = 0.6
currency = "USD"
since = 2026-01-15

[prices.small]
input = 1
output = 2
currency = "EUR"

[electricity]
per_kwh = 0.36
currency = "EUR"
"""


def test_a_table_of_prices_is_read(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(TABLE, encoding="utf-8")
    assert read_prices(path) == Prices(
        "prices.toml",
        {"openai:big@https://host/v1": Price(0.15, 0.6, "USD", date(2026, 1, 15)), "small": Price(1, 2, "EUR")},
        Electricity(0.36, "EUR"),
    )


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("input = 0.15", "input = -0.15", 3, "'input' must be a number of at least 0"),
        ("input = 0.15", 'input = "cheap"', 3, "'input' must be a number"),
        ("input = 0.15", "input = nan", 3, "'input' must be a number"),
        ("input = 0.15", "input = true", 3, "'input' must be a number"),
        ("output = 0.6\n", "\n", 2, "'output' must be a number"),
        ('currency = "USD"', 'currency = "dollars"', 5, "three capital letters"),
        ("since = 2026-01-15", 'since = "January"', 6, "must be a date"),
        ("since = 2026-01-15", "until = 2026-01-15", 6, "'until' is not known"),
        ("per_kwh = 0.36", "per_mwh = 360", 14, "'per_mwh' is not known"),
        ("[electricity]", "[gas]", 13, "'gas' is not known"),
        ("input = 1", "input = ", 9, "not TOML"),
        ('[prices.small]', "[prices]\nsmall = 1\n[other]", 9, "a price is a table"),
    ],
)  # fmt: skip
def test_a_malformed_price_is_named_by_file_and_line(tmp_path: Path, old: str, new: str, line: int, said: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(TABLE.replace(old, new, 1), encoding="utf-8")
    if "[other]" in new:
        path.write_text("\n[prices]\nsmall = 1\n", encoding="utf-8")
        line = 3
    with pytest.raises(DataError, match=said) as caught:
        read_prices(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")


def test_a_price_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_prices(tmp_path / "none.toml")


def leaderboard() -> dict:
    def model(name: str, **more: object) -> dict:
        return {"model": name, "parameters": 5, "metrics": {}, "notes": [], **more}

    load = {"requests": 5, "prompt_tokens": {"mean": 130.0}, "output_tokens": {"mean": 64.0}}
    here = {"1": {**load, "energy": {"j_per_1k_tokens": 500.0, "estimate": True}}}
    return {
        "run": {"id": "x"},
        "models": [
            model("openai:big@https://host/v1", response_time={"1": load}),
            model("small (5-shot)", response_time=here),
            model("here", response_time=here),
            model("openai:dear@https://host/v1", response_time={"1": load}),
            {**model("uniform"), "parameters": 0},
        ],
    }


def test_what_a_run_costs(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(TABLE, encoding="utf-8")
    before = leaderboard()
    big, small, here, dear, uniform = priced(before, read_prices(path))["models"]
    assert before == leaderboard()
    assert big["metrics"]["price_per_mtok"]["output"] == big["metrics"]["price_per_mtok"]["value"] == 0.6
    assert big["metrics"]["price_per_mtok"]["since"] == "2026-01-15"
    # 1,000 requests read 130,000 tokens and write 64,000.
    assert big["cost_per_1k_requests"]["value"] == pytest.approx(0.13 * 0.15 + 0.064 * 0.6)
    assert small["cost_per_1k_requests"]["value"] == pytest.approx(0.13 * 1 + 0.064 * 2)
    # 500 J for 1,000 tokens are 500 kJ = 0.1389 kWh for a million.
    assert here["metrics"]["price_per_mtok"]["value"] == pytest.approx(500_000 / 3.6e6 * 0.36)
    assert here["metrics"]["price_per_mtok"]["estimate"]
    assert here["cost_per_1k_requests"]["value"] == pytest.approx(0.064 * 0.05)
    assert here["cost_per_1k_requests"]["estimate"]
    assert "price_per_mtok" not in dear["metrics"]
    assert dear["notes"] == ["Its price is not known: prices.toml has none for it."]
    assert uniform == before["models"][4]
    assert priced(before, None) == before
