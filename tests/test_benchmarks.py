"""The benchmarks of networks and of what stands between convolutions run, and see what differs. Nothing here is timed."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from processes import script

import eagerconv as ec
from benchmarks import harness, networks, peak, pointwise
from benchmarks.libraries import Ours
from benchmarks.models import Layers, Network
from benchmarks.operations import OPERATIONS, Operation


def tiny(f: Layers, x: object) -> object:
    """A layer of most kinds."""
    x = f.lib.relu6(f.conv_bn(x, 4, 3))
    x = f.lib.max_pool(f.conv(x, 4, 3, rectified=True), 2, 2)
    x = f.lib.silu(f.group_norm(f.upconv(x, 4, 2, 2), 2))
    x = f.lib.concat([f.lib.gelu(x), f.lib.avg_pool(f.conv(x, 4, 1), 1)])
    return f.linear(f.layer_norm(f.lib.mean(x)), 3)


TINY = Network("tiny", tiny, (4, 2, 6, 6), (2, 2, 4, 4))


class Wrong(Ours):
    """A library that errs a little, in one gradient."""

    name = "wrong"

    def relu6(self, x):
        return ec.hardtanh(x, 0.0, 6.0) + 1e-6 * (x - x.detach())


@pytest.fixture(autouse=True)
def _small(monkeypatch, tmp_path):
    for module in (harness, networks, pointwise):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(networks, "NETWORKS", (TINY,))
    monkeypatch.setitem(networks.LIBRARIES, Wrong.name, Wrong)


@pytest.mark.parametrize("name", sorted(p.stem for p in Path(harness.__file__).parent.glob("[!_]*.py")))
def test_every_benchmark_finds_what_it_imports(name):
    importlib.import_module(f"benchmarks.{name}")


def test_the_machines_limit_can_be_measured():
    assert peak.peak(calls=2) > 0  # the code compiles and runs; how fast is the machine's affair


def test_networks_are_measured_and_saved(tmp_path, capsys):
    networks.main(["--quick", "--alone", "--no-peak", "--save"])
    assert "tiny" in capsys.readouterr().out
    [written] = tmp_path.glob("*-networks.json")
    [record] = json.loads(written.read_text())["networks"]
    assert record["network"] == "tiny"
    assert record["shape"] == list(TINY.small)
    assert record["step"]["eagerconv"] > 0
    assert record["inference"]["eagerconv"] > 0


def test_a_network_is_the_same_in_both_modes_and_twice():
    models = [networks.Model(Ours(), TINY, TINY.small, np.float64) for _ in range(2)]
    assert models[0].step() == models[1].step()
    np.testing.assert_array_equal(models[0].infer().numpy(), models[1].infer().numpy())


def test_a_wrong_gradient_stops_the_benchmark():
    networks.agree(TINY, ["eagerconv"])
    with pytest.raises(SystemExit, match="tiny, wrong: gradient"):
        networks.agree(TINY, ["eagerconv", "wrong"])


def test_ratios_take_the_best_mode():
    record = {
        "network": "tiny", "shape": (2,), "difference": 0.0, "peak": {"eagerconv": 3.0},
        "step": {"eagerconv": 2.0, "PyTorch": 4.0, "channels-last": 3.0},
        "inference": {"eagerconv": 1.0, "PyTorch": 0.5, "channels-last": 0.75, networks.ONNX: 0.25},
    }  # fmt: skip
    table = networks.table([record])
    assert table.rows == [["tiny", "2", 2e3, 4e3, 3e3, 1.5, 1e3, 5e2, 7.5e2, 2.5e2, 0.5, 3.0]]
    told = " ".join(table.notes)
    assert "step: 1.50" in told
    assert "inference: 0.50" in told
    assert "ONNX Runtime / eagerconv: 0.25" in told


SMALL = {"small": (2, 32, 8, 32), "wider": (2, 64, 8, 16)}


@pytest.mark.parametrize("group", OPERATIONS)
def test_every_operation_is_what_its_formula_says(group):
    for operation in OPERATIONS[group]:
        if operation.same:
            for shape in SMALL.values():
                arrays = operation.inputs(np.random.default_rng(0), shape)
                assert "eagerconv" in pointwise.errors(operation, arrays, peers=False)


def test_operations_are_measured_and_saved(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(pointwise, "IMAGES", SMALL)
    pointwise.main(["--quick", "--alone", "--only", "sigmoid", "--save"])
    assert "sigmoid" in capsys.readouterr().out
    [written] = tmp_path.glob("*-pointwise.json")
    records = json.loads(written.read_text())["operations"]["activations"]
    assert [record["operation"] for record in records] == ["sigmoid"] * 2 + ["log_sigmoid"] * 2
    assert all(record["forward"]["eagerconv"] > 0 for record in records)
    assert all(record["forward + backward"]["eagerconv"] > 0 for record in records)


def test_an_operation_that_errs_stops_the_benchmark():
    off = Operation("off", lambda x: x * (1 + 1e-4), lambda pt, x: x, lambda x: x)
    with pytest.raises(SystemExit, match=r"off, forward: eagerconv is off by 1\.0e-04 in float64"):
        pointwise.errors(off, [np.ones(3, np.float32)], peers=False)
    single = Operation("single", lambda x: x * (1.0001 if x.dtype == np.float32 else 1), off.theirs, lambda x: x)
    with pytest.raises(SystemExit, match=r"single, forward, eagerconv: relative error 1\.0e-04"):
        pointwise.errors(single, [np.ones(3, np.float32)], peers=False)


def test_errors_are_counted_in_units_of_the_last_place():
    true = np.array([1.0, 1.5, -3.0])
    assert pointwise.ulps((true + np.array([0, 2.0**-23, 2.0**-21])).astype(np.float32), true) == 2


def test_ratios_of_operations_and_their_means():
    record = {"operation": "f", "size": "s", "errors": {}, "forward": {"eagerconv": 1.0, "PyTorch": 0.5}}
    records = [record | {"forward + backward": {"eagerconv": 1.0, "PyTorch": 4.0}}]
    assert pointwise.ratio(records[0], "forward") == 0.5
    assert pointwise.means(records) == "forward 0.50, slower: f, s (0.50). forward + backward 4.00, slower: none"
    assert pointwise.table("t", records).rows[0] == ["f", "s", 1e3, None, 5e2, 0.5, 1e3, 4e3, 4.0, None, None]


@pytest.mark.skipif(not networks.tells_peaks(), reason="Linux alone tells a process's peak of memory")
def test_the_peak_of_a_step_has_its_parameters_and_what_is_kept():
    # In a process of its own: freed memory of other tests would be taken again.
    [told] = script("""
        from benchmarks import networks
        from benchmarks.models import Network
        wide = Network("wide", lambda f, x: f.linear(f.linear(x, 4000), 3000), (2, 10), (2, 10))
        networks.NETWORKS = (wide,)
        networks.print_peak("wide", "eagerconv", quick=False)
    """)
    matrix = 4000 * 3000 * 4 / 1e6  # parameters, gradients and velocities are three
    assert 3 * matrix < float(told) < 7 * matrix
