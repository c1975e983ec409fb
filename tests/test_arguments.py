"""Arguments and variables of the environment that are out of range: each is told at once, by its name and what came."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eagerconv as ec
from eagerconv import data, init, optim, schedule

NAN = float("nan")
RNG = np.random.default_rng(0)
X = np.arange(48.0).reshape(2, 4, 6)
W = np.ones((4, 4, 3))
ROWS = np.ones((2, 3))


def weight() -> ec.Tensor:
    return ec.tensor([1.0], requires_grad=True)


def in_interval(name: str, interval: str, *values: Any) -> list[tuple[str, Any]]:
    return [(f"{name} must be a number in {interval}, not {value!r}", value) for value in values]


# A call of one argument, what it is called in the error, the numbers it may be, and some that it may not.
NUMBERS: list[tuple[Callable[[Any], Any], str, str, tuple[Any, ...]]] = [
    (lambda v: ec.using(tolerance=v), "using: tolerance", "[0, inf]", (NAN, -1e-9, "small", True)),
    (lambda v: ec.autotune(seconds=v), "autotune: seconds", "[0, inf]", (NAN, -1, "long")),
    (lambda v: ec.batch_norm(X, eps=v), "batch_norm: eps", "[0, inf)", (NAN, -1e-5, np.inf, "1e-5")),
    (lambda v: ec.layer_norm(X, 6, eps=v), "layer_norm: eps", "[0, inf)", (NAN, -1e-5)),
    (lambda v: ec.group_norm(X, 2, eps=v), "group_norm: eps", "[0, inf)", (NAN, -1e-5)),
    (lambda v: ec.instance_norm(X, eps=v), "instance_norm: eps", "[0, inf)", (NAN, -1e-5)),
    (lambda v: ec.batch_norm(X, momentum=v), "batch_norm: momentum", "[0, 1]", (NAN, -0.1, 1.1, None)),
    (lambda v: ec.dropout(X, v, RNG), "dropout: p", "[0, 1]", (NAN, -0.1, 1.5, "half")),
    (lambda v: ec.leaky_relu(X, v), "leaky_relu: slope", "(-inf, inf)", (NAN, np.inf, "steep")),
    (lambda v: ec.elu(X, v), "elu: alpha", "(-inf, inf)", (NAN, None)),
    (lambda v: ec.softplus(X, v), "softplus: beta", "(0, inf)", (NAN, 0, -1.0)),
    (lambda v: ec.hardtanh(X, v), "hardtanh: low", "[-inf, inf]", (NAN, "low")),
    (lambda v: ec.hardtanh(X, 0, v), "hardtanh: high", "[0.0, inf]", (NAN, -1)),
    (lambda v: ec.huber_loss(X, X, v), "huber_loss: delta", "(0, inf]", (NAN, 0, -1.0)),
    (lambda v: ec.cross_entropy(ROWS, [0, 1], v), "cross_entropy: label_smoothing", "[0, 1]", (NAN, 1.1, "some")),
    (lambda v: optim.SGD([weight()], v), "lr", "[0, inf)", (NAN, -1, np.inf, "0.1")),
    (lambda v: optim.SGD([weight()], 0.1, momentum=v), "momentum", "[0, inf)", (NAN, -1)),
    (lambda v: optim.Adam([weight()], betas=(v, 0.9)), "beta1", "[0, 1)", (NAN, 1, None)),
    (lambda v: optim.Adam([weight()], betas=(0.9, v)), "beta2", "[0, 1)", (NAN, 1)),
    (lambda v: optim.Adam([weight()], eps=v), "eps", "[0, inf)", (NAN, -1)),
    (lambda v: optim.AdamW([weight()], weight_decay=v), "weight_decay", "[0, inf)", (NAN, -1, "much")),
    (lambda v: optim.RMSProp([weight()], alpha=v), "alpha", "[0, 1)", (NAN, 1.0)),
    (lambda v: optim.clip_by_norm([weight()], v), "clip_by_norm: max_norm", "(0, inf]", (NAN, 0, "1")),
    (lambda v: optim.clip_by_value([weight()], v), "clip_by_value: limit", "(0, inf]", (NAN, 0, "1")),
    (lambda v: schedule.step(v, 3), "step: lr", "[0, inf)", (NAN, -1)),
    (lambda v: schedule.step(1, 3, v), "step: factor", "[0, inf)", (NAN, -1)),
    (lambda v: schedule.exponential(v, 3, 1), "exponential: lr", "(0, inf)", (NAN, 0)),
    (lambda v: schedule.exponential(1, 3, v), "exponential: end", "(0, inf)", (NAN, 0)),
    (lambda v: schedule.cosine(v, 3), "cosine: lr", "[0, inf)", (NAN, -1, "1")),
    (lambda v: schedule.cosine(1, 3, v), "cosine: end", "[0, inf)", (NAN, -1)),
    (lambda v: schedule.warm_up(v, 3), "warm_up: schedule", "[0, inf)", (NAN, -1, None)),
    (lambda v: schedule.one_cycle(v, 3), "one_cycle: lr", "[0, inf)", (NAN, -1)),
    (lambda v: schedule.one_cycle(1, 3, v), "one_cycle: rise", "[0, 1]", (NAN, -0.1, 1.1)),
    (lambda v: schedule.one_cycle(1, 3, 0.5, v), "one_cycle: start", "[0, inf)", (NAN, -1)),
    (lambda v: schedule.one_cycle(1, 3, 0.5, 0.1, v), "one_cycle: end", "[0, inf)", (NAN, -1)),
    (lambda v: init.he_normal((2, 3), RNG, gain=v), "gain", "[0, inf)", (NAN, -1, None)),
    (lambda v: init.glorot_uniform((2, 3), RNG, gain=v), "gain", "[0, inf)", (NAN, np.inf)),
    (lambda v: init.orthogonal((2, 3), RNG, gain=v), "gain", "[0, inf)", (NAN, -1)),
    (lambda v: ec.check_grads(ec.exp, ([1.0],), eps=v), "check_grads: eps", "(0, inf)", (NAN, 0)),
    (lambda v: ec.check_grads(ec.exp, ([1.0],), rtol=v), "check_grads: rtol", "[0, inf)", (NAN, -1)),
    (lambda v: ec.check_grads(ec.exp, ([1.0],), atol=v), "check_grads: atol", "[0, inf)", (NAN, -1)),
]  # fmt: skip

# The same of ints, with the least that each may be.
INTS: list[tuple[Callable[[Any], Any], str, int]] = [
    (lambda v: ec.using(workspace=v), "using: workspace", 0),
    (lambda v: ec.group_norm(X, v), "group_norm: num_groups", 1),
    (lambda v: data.minibatches(X, v), "minibatches: size", 1),
    (lambda v: schedule.step(1, v), "step: at", 1),
    (lambda v: schedule.step(1, (3, v)), "step: at", 0),
    (lambda v: schedule.exponential(1, v, 0.1), "exponential: steps", 1),
    (lambda v: schedule.cosine(1, v), "cosine: steps", 1),
    (lambda v: schedule.warm_up(1, v), "warm_up: steps", 1),
    (lambda v: schedule.one_cycle(1, v), "one_cycle: steps", 1),
    (lambda v: init.fans((2, 3), v), "fans: num_groups", 1),
    (lambda v: init.he_uniform((2, 3), RNG, v), "fans: num_groups", 1),
    (lambda v: ec.check_grads(ec.exp, ([1.0],), order=v), "check_grads: order", 1),
    (lambda v: ec.cuda_graph(lambda: None, v), "cuda_graph: warmup", 1),
]

# Everything else: a call and what it says.
OTHERS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: ec.using("direct", require="gemm"), ValueError, "one algorithm alone can be required, not 'direct' and 'gemm'"),
    (lambda: ec.using("gemm", exclude=["fft", "gemm"]), ValueError, "'gemm' cannot be both required and excluded"),
    (lambda: ec.using(""), ValueError, "there is no algorithm ''; there are 'gemm'"),
    (lambda: ec.using(exclude="gem"), ValueError, "there is no algorithm 'gem'; there are 'gemm'"),
    (lambda: excluding_all(), ec.AlgorithmError, "gemm is excluded"),
    (lambda: ec.set_num_threads(True), ValueError, "threads must be an int from 1 to"),
    (lambda: ec.set_num_threads(NAN), ValueError, "threads must be an int from 1 to"),
    (lambda: ec.device("tpu"), ValueError, "device must be one of 'cpu', 'cuda', not 'tpu'"),
    (lambda: optim.Adam([weight()], betas=0.9), TypeError, "betas must be two numbers in [0, 1), not 0.9"),
    (lambda: optim.Adam([weight()], betas=(0.9,)), TypeError, "betas must be two numbers in [0, 1), not (0.9,)"),
    (lambda: data.minibatches(X, 2, 0), TypeError, "minibatches: rng must be a numpy.random.Generator, as"),
    (lambda: ec.dropout(X, 0.5, 0), TypeError, "dropout: rng must be a numpy.random.Generator, as"),
    (lambda: init.he_normal((2, 3), 0), TypeError, "rng must be a numpy.random.Generator, as default_rng() makes, not int"),
    (lambda: init.orthogonal((2, 3), None), TypeError, "rng must be a numpy.random.Generator"),
    (lambda: ec.group_norm(X, 3), ValueError, "group_norm: num_groups=3 must divide the 4 channels"),
]  # fmt: skip


def excluding_all() -> Any:
    with ec.using(exclude=ec.algorithms.names()):
        return ec.conv1d(X, W)


@pytest.mark.parametrize(
    ("call", "message", "value"),
    [(call, m, v) for call, name, interval, values in NUMBERS for m, v in in_interval(name, interval, *values)],
)
def test_numbers_out_of_range_are_told_by_name(call: Callable[[Any], Any], message: str, value: Any) -> None:
    with pytest.raises(ValueError if type(value) in (int, float) else TypeError, match=re.escape(message)):
        call(value)


@pytest.mark.parametrize(("call", "name", "least"), INTS)
@pytest.mark.parametrize("value", [NAN, 1.5, "2", True, -1])
def test_ints_out_of_range_are_told_by_name(call: Callable[[Any], Any], name: str, least: int, value: Any) -> None:
    message = f"{name} must be an int of at least {least}, not {value!r}"
    with pytest.raises(ValueError if type(value) is int else TypeError, match=re.escape(message)):
        call(value)


@pytest.mark.parametrize(("call", "error", "message"), OTHERS)
def test_what_else_cannot_be_is_told(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_numbers_of_other_kinds_will_do() -> None:
    expected = ec.batch_norm(X, eps=0.5)[0].numpy()
    for eps in (np.float32(0.5), np.array(0.5), ec.tensor(0.5)):
        np.testing.assert_array_equal(ec.batch_norm(X, eps=eps)[0].numpy(), expected)
    with ec.using(tolerance=np.inf, workspace=np.int64(1 << 20)):
        ec.conv1d(X, W)
    with pytest.raises(ValueError, match="not 1000000"):
        ec.elu(X, 10**400)
    assert len(data.minibatches(X, np.int64(2))) == 1


def test_schedules_reach_their_ends_and_stay_there() -> None:
    assert schedule.one_cycle(1.0, 10, rise=0.1)(0) == 1.0  # a rise of one step
    assert schedule.one_cycle(1.0, 10, rise=1.0)(10) == 1.0  # no fall
    assert schedule.one_cycle(1.0, 1)(0) == schedule.one_cycle(1.0, 1)(5)
    rate = schedule.one_cycle(1.0, 10)
    assert rate(30) == rate(9) == pytest.approx(4e-6)


# ----- Integers where results are not -----

COUNTS = np.random.default_rng(1).integers(-100, 100, (4, 3, 6))
RUNNING = {"mean": np.full(3, 0.5), "var": np.full(3, 2.5)}
FLOATING: dict[str, Callable[[Any], Any]] = {
    "batch_norm": lambda x: ec.batch_norm(x)[0],
    "batch_norm, not training": lambda x: ec.batch_norm(x, RUNNING, training=False)[0],
    "batch_norm, running": lambda x: ec.batch_norm(x, RUNNING)[1]["var"],
    "layer_norm": lambda x: ec.layer_norm(x, 6),
    "group_norm": lambda x: ec.group_norm(x, 3, np.arange(3), np.arange(3)),
    "instance_norm": ec.instance_norm,
    "dropout": lambda x: ec.dropout(x, 0.3, np.random.default_rng(0)),
    "dropout, not training": lambda x: ec.dropout(x, 0.3, np.random.default_rng(0), training=False),
    "avg_pool1d": lambda x: ec.avg_pool1d(x, 2),
    "pool_1d": lambda x: ec.pool_1d(x, 3, stride=1, pad=1, mode="average_exc_pad"),
    "adaptive_avg_pool": lambda x: ec.adaptive_avg_pool(x, (4,)),
    "adaptive_avg_pool, even": lambda x: ec.adaptive_avg_pool(x, (3,)),
    "global_avg_pool": ec.global_avg_pool,
    "mse_loss": lambda x: ec.mse_loss(x, x[::-1]),
    "l1_loss": lambda x: ec.l1_loss(x, x[::-1]),
    "huber_loss": lambda x: ec.huber_loss(x, x[::-1], 0.5),
    "kl_div": lambda x: ec.kl_div(x, x[::-1] != 0),
    "binary_cross_entropy_with_logits": lambda x: ec.binary_cross_entropy_with_logits(x, x[::-1] != 0),
    "cross_entropy": lambda x: ec.cross_entropy(x[:, :, 0], [0, 1, 2, 0], 0.1),
    "nll_loss": lambda x: ec.nll_loss(x[:, :, 0], [0, 1, 2, 0]),
    "prelu": lambda x: ec.prelu(x, 0.3),
    "gelu, tanh": lambda x: ec.gelu(x, "tanh"),
    "softplus, 2": lambda x: ec.softplus(x, 2),
    **{name: getattr(ec, name) for name in ec.functional.activations.__all__ if name not in ("relu", "prelu")},
}


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint8", "bool"])
@pytest.mark.parametrize("name", FLOATING)
def test_integers_count_as_float64_where_results_are_not_integers(name: str, dtype: str) -> None:
    x = COUNTS.astype(dtype)
    found, expected = FLOATING[name](x).numpy(), FLOATING[name](x.astype(float)).numpy()
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected)


def test_integers_beside_floats_take_their_precision() -> None:
    x = np.float32([0.25, 0.75])
    for loss in (ec.mse_loss, ec.l1_loss, ec.huber_loss, ec.binary_cross_entropy_with_logits):
        for dtype in ("bool", "uint8", "int64"):
            y = np.array([1, 0], dtype)
            assert loss(x, y).dtype == np.float32
            np.testing.assert_array_equal(loss(x, y).numpy(), loss(x, y.astype("f")).numpy())
            np.testing.assert_array_equal(loss(y, x).numpy(), loss(y.astype("f"), x).numpy())


# ----- The environment -----


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A fresh process with these variables."""
    environment = {k: v for k, v in os.environ.items() if k not in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")}
    return subprocess.run(
        [sys.executable, "-c", code], env={**environment, **variables}, capture_output=True, text=True, check=False
    )


THREADS = (
    "import eagerconv as ec; from eagerconv.kernels_cpu.threads import available_threads; print(available_threads())"
)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"NUMBA_NUM_THREADS": "garbage"},
            "NUMBA_NUM_THREADS must be an int of at least 1, not 'garbage'; set it to one",
        ),
        ({"NUMBA_NUM_THREADS": "0"}, "NUMBA_NUM_THREADS must be an int of at least 1, not '0'"),
        ({"NUMBA_NUM_THREADS": "-2"}, "NUMBA_NUM_THREADS must be an int of at least 1, not '-2'"),
        ({"NUMBA_NUM_THREADS": "2.5"}, "NUMBA_NUM_THREADS must be an int of at least 1, not '2.5'"),
        ({"EAGERCONV_ALGORITHMS": "gem"}, "EAGERCONV_ALGORITHMS='gem': there is no algorithm 'gem'; there are 'gemm'"),
        ({"EAGERCONV_ALGORITHMS": "-"}, "EAGERCONV_ALGORITHMS='-': there is no algorithm ''"),
        ({"EAGERCONV_ALGORITHMS": "gemm,fft"}, "one algorithm alone can be required, not 'fft' and 'gemm'"),
        (
            {"EAGERCONV_ALGORITHMS": "gemm,-gemm"},
            "'gemm' cannot be both required and excluded; set it to the one to use",
        ),
    ],
)
def test_variables_that_say_nothing_are_told_by_name(variables: dict[str, str], message: str) -> None:
    done = run(THREADS, **variables)
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]


def test_numbers_of_threads_that_say_something_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from eagerconv.kernels_cpu.threads import available_threads

    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    processors = available_threads()
    for text, expected in {"3": 3, " 3 ": 3, "+3": 3, "": processors}.items():
        monkeypatch.setenv("NUMBA_NUM_THREADS", text)
        assert available_threads() == expected
    monkeypatch.delenv("NUMBA_NUM_THREADS")
    for text, expected in {"1": 1, "1,2": 1, " 1 , 4": 1, "1000000": processors}.items():
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert available_threads() == expected
    for text in ("0", "-1", "garbage", "1.5", "²", ",2", "9" * 5000):  # as GNU OpenMP, which says so
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert available_threads() == processors


def test_without_numbas_compiler_kernels_that_are_missing_say_why(tmp_path: Path) -> None:
    code = "import eagerconv as ec, numpy as np; print(ec.conv1d(np.ones((1, 1, 5)), np.ones((1, 1, 3)), algorithm='direct'))"
    done = run(code, NUMBA_DISABLE_JIT="1", EAGERCONV_CACHE_DIR=str(tmp_path))
    assert done.returncode == 1
    assert (
        "direct:forward:float64 is not compiled yet, and NUMBA_DISABLE_JIT keeps Numba from compiling; unset it"
        in done.stderr
    )
    ec.conv1d(np.ones((1, 1, 5)), np.ones((1, 1, 3)), algorithm="direct")  # compiles where nobody has yet
    assert run(code, NUMBA_DISABLE_JIT="1").stdout == "tensor([[[3., 3., 3.]]], dtype=float64)\n"
