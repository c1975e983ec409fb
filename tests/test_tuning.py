"""Measured choices and the check against the reference: autotune, its files, check()."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from strategies import tier

import eagerconv as ec
from eagerconv import algorithms
from eagerconv.algorithms import tuning

X, W = np.ones((2, 16, 24, 24), np.float32), np.ones((16, 16, 3, 3), np.float32)


@pytest.fixture(autouse=True)
def nothing_measured():
    ec.autotune.clear()
    yield
    ec.autotune.clear()


def chosen(**options):
    return ec.explain(ec.conv2d, X, W, **options)[0].chosen


def slowed(name, seconds):
    """The table, with one algorithm made slow in truth and cheap by estimate."""
    import time

    def plan(algorithm, request):
        inner = algorithm.plan(request)

        def run(a, b):
            time.sleep(seconds)
            return inner(a, b)

        return run

    return tuple(
        replace(a, cost=lambda request: 0.0, plan=lambda request, a=a: plan(a, request)) if a.name == name else a
        for a in algorithms.TABLE["cpu"]
        if a.name in ("gemm", "direct")
    )


def test_a_measured_winner_takes_the_place_of_the_estimate(monkeypatch, capsys):
    monkeypatch.setitem(algorithms.TABLE, "cpu", slowed("gemm", 0.05))
    algorithms._planned.cache_clear()
    assert chosen() == "gemm"  # by its estimate, which lies
    expected = ec.conv2d(X, W).numpy()
    with ec.autotune(verbose=True) as tuner:
        assert np.array_equal(ec.conv2d(X, W).numpy(), expected)
        ec.conv2d(X, W)
    ((timings),) = tuner.timings.values()
    assert timings["gemm"] > 0.05 > timings["direct"]
    assert chosen() == "direct"
    assert chosen(algorithm="gemm") == "gemm"  # a forced one stays forced
    printed = capsys.readouterr().out
    assert printed.count("forward of (2 x 16 x 24 x 24)") == 1
    assert "-> direct" in printed
    monkeypatch.undo()
    algorithms._planned.cache_clear()


def test_gradients_are_tuned_too_and_slow_candidates_left_out(monkeypatch):
    w = ec.tensor(W, requires_grad=True)
    direct = next(a for a in algorithms.TABLE["cpu"] if a.name == "direct")
    others = tuple(a for a in algorithms.TABLE["cpu"] if a.name in ("gemm", "winograd"))
    monkeypatch.setitem(algorithms.TABLE, "cpu", (*others, replace(direct, cost=lambda request: 100.0)))
    algorithms._planned.cache_clear()
    with ec.autotune(seconds=0.02) as tuner:
        ec.conv2d(X, w).sum().backward()
    assert [name.split(" of ")[0] for name in tuner.timings] == ["y", "w"]
    assert all(timings["direct"] is None for timings in tuner.timings.values())
    monkeypatch.undo()
    algorithms._planned.cache_clear()


def test_choices_are_saved_and_loaded(tmp_path):
    with ec.autotune(seconds=0.01), ec.using(exclude=[name for name in algorithms.names("cpu") if tier(name)]):
        ec.conv2d(X, W)
    (choice,) = tuning.winners.values()
    ec.autotune.save(tmp_path / "choices.json")
    ec.autotune.clear()
    assert ec.autotune.load(tmp_path / "choices.json") == 1
    assert list(tuning.winners.values()) == [choice]
    stored = json.loads((tmp_path / "choices.json").read_text())
    (tmp_path / "elsewhere.json").write_text(json.dumps({**stored, "host": ["z80", ""]}))
    ec.autotune.clear()
    assert ec.autotune.load(tmp_path / "elsewhere.json") == 0
    assert not tuning.winners


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"host": 3, "winners": {}}', '{"host": [], "winners": {"a": "winograd9"}}']
)
def test_files_of_another_kind_are_refused(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"bad\.json (is not a file that autotune\.save wrote|names algorithms)"):
        ec.autotune.load(path)


# ----- check() -----


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "float16", "int32", "bool"])
def test_check_accepts_right_results(dtype):
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(dtype) for s in ((3, 4, 9, 9), (4, 4, 3, 3)))
    with ec.check():
        y = ec.conv2d(x, w, border_mode="same", subsample=2).numpy()
        ec.conv2d_grad_wrt_inputs(y, w, x.shape, border_mode="same", subsample=2)
        ec.conv2d_grad_wrt_weights(x, y, w.shape, border_mode="same", subsample=2)


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_check_raises_where_a_kernel_is_wrong(monkeypatch, dtype):
    def broken(request, gemm=None):
        inner = {a.name: a for a in table}[gemm].plan(request)

        def run(a, b):
            result = inner(a, b)
            result[1, 2, 3, 4] += 1
            return result

        return run

    table = algorithms.TABLE["cpu"]
    monkeypatch.setitem(
        algorithms.TABLE, "cpu", tuple(replace(a, plan=lambda r, n=a.name: broken(r, n)) for a in table)
    )  # fmt: skip
    algorithms._planned.cache_clear()
    with ec.check(), pytest.raises(ec.CheckError, match=r"forward of .*at \(1, 2, 3, 4\) it gave .*1 of \d+ elements"):
        ec.conv2d(X.astype(dtype), W.astype(dtype))
    ec.conv2d(X.astype(dtype), W.astype(dtype))  # outside nothing is checked
    monkeypatch.undo()
    algorithms._planned.cache_clear()
