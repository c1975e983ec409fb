"""Every row of the rule tables: gradients in both modes to second order, values, dtypes, corner cases of rules."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from eagerconv.autograd import rules
from eagerconv.autograd.tape import Op
from eagerconv.func.gradcheck import check_grads
from eagerconv.func.transforms import grad, jvp, vjp
from eagerconv.tensor import Tensor, asarray, tensor

rng = np.random.default_rng(0)
A, B = rng.uniform(0.5, 2, (2, 3)), rng.uniform(0.5, 2, (3,))
C, D = (rng.standard_normal((2, 3)) + 1j * rng.standard_normal((2, 3)) for _ in range(2))
S = rng.standard_normal((2, 3))  # signs differ
V = rng.standard_normal((4, 5))
MASK = np.array([[True, False, True], [False, True, True]])
FANCY = (np.array([0, 1, 1, 3]), np.array([2, 0, 0, 4]))  # (1, 0) is met twice


def unary(*xs: Any) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    return [((x,), {}) for x in xs]


# Sample operands and parameters of every differentiable row, away from kinks and poles.
SAMPLES: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "add": [((A, B), {}), ((C, B), {}), ((A, 2.0), {}), ((B[:, None], B[:0]), {})],
    "subtract": [((A, B), {}), ((B, C), {}), ((2.0, A), {})],
    "multiply": [((A, B), {}), ((C, B), {}), ((B, C), {}), ((C, D), {}), ((A, 2j), {})],
    "divide": [((A, B), {}), ((C, B), {}), ((B, C), {}), ((2, A), {})],
    "negative": unary(A, C),
    "power": [((x, y), {}) for x, y in ((A, B), (S, 3), (S, 2.0), (A, -1.5), (2.0, S), (S, 0), (C, 2), (C, D))],
    "exp": unary(S, C),
    "log": unary(A, C),
    "sqrt": unary(A, C),
    "sin": unary(S, C),
    "cos": unary(S, C),
    "tanh": unary(S),
    "sigmoid": unary(S),
    "relu": unary(S),
    "gate": [((A, S), {}), ((S, B), {}), ((S, -S), {})],
    "maximum": [((A, B), {}), ((S, 0.1), {})],
    "minimum": [((A, B), {}), ((0.1, S), {})],
    "where": [((MASK, A, B), {}), ((MASK, C, 1.0), {})],
    "clip": [((S, -0.5, 0.6), {}), ((S, -B, B / 2), {})],
    "sign": unary(S),
    "floor": unary(S),
    "ceil": unary(S),
    "fraction": unary(S),
    "round": unary(S),
    "conj": unary(C),
    "real": unary(C),
    "imag": unary(C),
    "absolute": unary(S, C),
    "astype": [((A,), {"dtype": np.dtype("complex128")}), ((A,), {"dtype": np.dtype("float64")})],
    "alias": unary(A),
    "copy": unary(A),
    "sum": [((A,), p) for p in ({}, {"axis": 0}, {"axis": (-1, 0)}, {"axis": -1, "keepdims": True})] + unary(C),
    "mean": [((A,), p) for p in ({}, {"axis": 0}, {"axis": (-1,), "keepdims": True})],
    "prod": [((S,), p) for p in ({}, {"axis": 0}, {"axis": (0, 1)}, {"axis": -1, "keepdims": True})] + unary(C),
    "var": [((S,), p) for p in ({}, {"axis": 0}, {"axis": -1, "keepdims": True, "ddof": 1})] + unary(C),
    "std": [((S,), p) for p in ({}, {"axis": 0}, {"axis": -1, "keepdims": True, "ddof": 1})] + unary(C),
    "max": [((S,), p) for p in ({}, {"axis": 0}, {"axis": (0, 1)}, {"axis": -1, "keepdims": True})],
    "min": [((S,), p) for p in ({}, {"axis": 0}, {"axis": (0, 1)}, {"axis": -1, "keepdims": True})],
    "logsumexp": [((S,), p) for p in ({}, {"axis": 0}, {"axis": (0, 1)}, {"axis": -1, "keepdims": True})] + unary(C),
    "softmax": [((S,), {}), ((S,), {"axis": 0})],
    "log_softmax": [((S,), {}), ((S,), {"axis": 0})],
    "matmul": [
        ((rng.standard_normal(a), rng.standard_normal(b)), {})
        for a, b in [
            ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((5, 2, 3), (3,)), ((3,), (5, 3, 2)),
            ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)), ((5, 1, 2, 3), (6, 3, 4)), ((5, 2, 0), (0, 4)),
            ((0, 2, 3), (3, 4)),
        ]
    ] + [((C, D.T), {}), ((C, B), {}), ((B, D.T), {})],
    "adjugate": unary(rng.standard_normal((2, 3, 3)), C[:, :2]),
    "reshape": [((A,), {"shape": (3, 2)}), ((A,), {"shape": -1})],
    "transpose": [((A,), {}), ((rng.standard_normal((2, 3, 4)),), {"axes": (1, -1, 0)})],
    "expand_dims": [((A,), {"axis": 1}), ((A,), {"axis": (0, -1)})],
    "squeeze": [((A[:, None, :, None],), {}), ((A[:, None, :, None],), {"axis": 1})],
    "broadcast_to": [((B,), {"shape": (2, 3)}), ((A[:, :1],), {"shape": (4, 2, 3)})],
    "concatenate": [
        ((A, C), {"axis": 0, "bounds": (0, 2, 4)}), ((A, B[:2, None], A), {"axis": 1, "bounds": (0, 3, 4, 7)}),
    ],
    "stack": [((A, C, A), {"axis": 1})],
    "pad": [((A,), {"widths": ((1, 0), (2, 3))}), ((A,), {"widths": ((0, 0), (2, 0)), "value": 4.0})],
    "getitem": [
        ((V,), {"index": i}) for i in (1, (slice(None, None, -2), None, 2), ..., FANCY, V > 0, (slice(1, 3), [0, 0, 4]))
    ],
    "put": [
        ((B,), {"index": (slice(1, 4), 2), "shape": (4, 5)}),
        ((rng.standard_normal(4),), {"index": FANCY, "shape": (4, 5)}),
    ],
    "puts": [
        ((B, rng.standard_normal(4), B), {"indices": ((slice(1, 4), 2), FANCY, (slice(3), 2)), "shape": (4, 5)}),
        ((V, B), {"indices": (..., (slice(1, 4), 2)), "shape": (4, 5)}),
    ],
    "setitem": [
        ((V, B), {"index": (slice(1, 4), 2)}), ((V, 2.0), {"index": 0}),
        ((V, rng.standard_normal(4)), {"index": FANCY}),
        ((V, rng.standard_normal((1, 5))), {"index": slice(2)}), ((V, B[:1]), {"index": V > 0}),
        ((V, rng.standard_normal((1, 1, 5))), {"index": 1}), ((C, A), {"index": ...}),
    ],
    "write": [
        ((V, B), {"steps": ((rules.getitem, {"index": (slice(1, 4), 2)}),), "order": (1, 0)}),
        ((A, 2.0), {"steps": ((rules.transpose, {}), (rules.reshape, {"shape": (-1,)})), "order": (1, 0)}),
        ((A, A), {"steps": (), "order": (0, 1)}),
    ],
    "sliding_windows": [((V,), {"window": (2, 3), "stride": (1, 2)}), ((V,), {"window": (3,), "stride": (1,)})],
    "overlap_add": [((rng.standard_normal((3, 2, 2, 3)),), {"window": (2, 3), "stride": (1, 2), "shape": (4, 6)})],
}  # fmt: skip

TABLE = rules.table()
CASES = [
    pytest.param(TABLE[name], args, params, id=f"{name}-{i}")
    for name, samples in SAMPLES.items()
    for i, (args, params) in enumerate(samples)
    if name in TABLE
]


def test_samples_and_names() -> None:
    """test_rules_numpy.py sees to it that every row has a sample, here or there."""
    assert set(SAMPLES) <= {name for name, op in TABLE.items() if op.rules}
    assert [name for name, op in TABLE.items() if op.name != name] == []


@pytest.mark.parametrize(("op", "args", "params"), CASES)
def test_gradients_of_each_row(op: Op, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """Arrays are varied, numbers stay the plain numbers that users write."""
    moving = [i for i, a in enumerate(args) if isinstance(a, np.ndarray) and a.dtype.kind in "fc"]

    def fn(*xs: Tensor) -> Any:
        whole = list(args)
        for i, x in zip(moving, xs, strict=True):
            whole[i] = x
        return op(*whole, **params)

    check_grads(fn, [args[i] for i in moving], order=2)


@pytest.mark.parametrize(("op", "args", "params"), CASES)
def test_each_operand_alone(op: Op, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    """Just what the rule of one operand names is saved when only that one is tracked; it must be enough."""
    for i, a in enumerate(args):
        if isinstance(a, np.ndarray) and a.dtype.kind in "fc":
            check_grads(lambda x, i=i: op(*args[:i], x, *args[i + 1 :], **params), [a], order=1)


@pytest.mark.parametrize(("op", "args", "params"), [c for c in CASES if c.values[0].name != "astype"])  # type: ignore[attr-defined]
def test_single_precision_stays(op: Op, args: tuple[Any, ...], params: dict[str, Any]) -> None:
    single = {"float64": "float32", "complex128": "complex64"}
    xs = [tensor(a, single[a.dtype.name]) if isinstance(a, np.ndarray) and a.dtype.kind in "fc" else a for a in args]
    for x in xs:
        if isinstance(x, Tensor):
            x.requires_grad = True
    out = op(*xs, **params)
    assert out.dtype.name in ("float32", "complex64")
    out.backward(np.ones(out.shape))
    for x in xs:
        if isinstance(x, Tensor):
            assert x.grad is not None
            assert (x.grad.shape, x.grad.dtype) == (x.shape, x.dtype)


@pytest.mark.parametrize("name", [name for name, op in TABLE.items() if not op.rules and not name.startswith("is")])
def test_comparisons_are_not_tracked(name: str) -> None:
    x = tensor([1.0, 2.0], requires_grad=True)
    args = (x > 1, x < 2)[: TABLE[name].fn.nin] if name.startswith(("bitwise", "invert")) else (x, x)
    out = TABLE[name](*args)
    assert out.dtype == bool
    assert not out.requires_grad


def test_var() -> None:
    np.testing.assert_allclose(rules.var(asarray(A), axis=0, ddof=1).data, A.var(axis=0, ddof=1))
    np.testing.assert_allclose(rules.var(asarray(C)).data, C.var())
    check_grads(lambda x: rules.var(x, axis=-1, keepdims=True), [A])
    check_grads(rules.var, [C])


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_ties_of_two_are_split(name: str) -> None:
    x, y = tensor([1.0, 2.0], requires_grad=True), tensor([1.0, 2.0], requires_grad=True)
    gx, gy = grad(TABLE[name](x, y).sum(), [x, y])
    assert gx.tolist() == gy.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("name", ["max", "min"])
def test_ties_of_reductions_are_split(name: str) -> None:
    x = tensor([[1.0, 1.0, 1.0, 1.0]], requires_grad=True)
    assert grad(TABLE[name](x, axis=1).sum(), x)[0].tolist() == [[0.25] * 4]


def test_power_at_zero() -> None:
    x = tensor([0.0, 2.0], requires_grad=True)
    assert grad((x**0).sum(), x)[0].tolist() == [0, 0]
    assert grad((x**1).sum(), x)[0].tolist() == [1, 1]
    assert grad((x ** np.array([0.0, 2.0])).sum(), x)[0].tolist() == [0, 4]
    y = tensor([2.0, 0.5], requires_grad=True)
    assert grad((0.0**y).sum(), y)[0].tolist() == [0, 0]
    assert (x.astype("float32") ** 2).dtype == np.float32


def test_kinks() -> None:
    x = tensor([-1.0, 0.0, 1.0], requires_grad=True)
    assert grad(rules.relu(x).sum(), x)[0].tolist() == [0, 0, 1]
    assert grad(abs(x).sum(), x)[0].tolist() == [-1, 0, 1]
    assert grad(rules.clip(x, -1, 0).sum(), x)[0].tolist() == [1, 1, 0]
    z = tensor([0j, 3 + 4j], requires_grad=True)
    np.testing.assert_allclose(grad(abs(z).sum(), z)[0].data, [0, 0.6 + 0.8j])


def test_stable_functions_do_not_overflow() -> None:
    x = tensor([-1000.0, 0.0, 1000.0], requires_grad=True)
    assert rules.sigmoid(x).tolist() == [0, 0.5, 1]
    assert rules.softmax(x).tolist() == [0, 0, 1]
    assert rules.log_softmax(x).tolist() == [-2000, -1000, 0]
    assert rules.logsumexp(x).item() == 1000
    assert rules.logsumexp(tensor([-np.inf, -np.inf])).item() == -np.inf
    assert grad(rules.logsumexp(x), x)[0].tolist() == [0, 0, 1]


def test_logarithms_of_complex_sums_are_principal() -> None:
    for x in (np.array([4j, 4j]), 800 + C, C * 20):
        out = rules.logsumexp(asarray(x)).item()
        exact = np.log(np.exp(x - x.real.max()).sum())
        assert out == pytest.approx(exact + x.real.max(), rel=1e-13)
        assert abs(out.imag) <= np.pi


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_empty_axes(name: str) -> None:
    """No class has no probability, and the logarithm of the sum of nothing is -inf, as in SciPy."""
    x = tensor(np.zeros((2, 0)), requires_grad=True)
    out = TABLE[name](x, axis=-1)
    assert out.shape == ((2,) if name == "logsumexp" else (2, 0))
    assert grad(out.sum(), x)[0].shape == (2, 0)
    assert name != "logsumexp" or out.tolist() == [-np.inf, -np.inf]


def test_last_assigned_value_gets_the_gradient() -> None:
    v = tensor([1.0, 2.0, 3.0], requires_grad=True)
    x = tensor(np.zeros(2))
    x[np.array([0, 0, 1])] = v
    assert x.tolist() == [2, 3]
    assert grad(x.sum(), v)[0].tolist() == [0, 1, 1]


def test_operation_without_a_rule_names_itself() -> None:
    from eagerconv.autograd.tape import defvjp

    median = defvjp("median", lambda x: np.median(x))
    x = tensor([1.0, 2.0, 5.0], requires_grad=True)
    y = median(x)
    assert y.item() == 2
    with pytest.raises(NotImplementedError, match="median has no derivative with respect to its 1st operand"):
        y.backward()
    with pytest.raises(NotImplementedError, match="median"):
        jvp(median, [[1.0, 2.0, 5.0]], [[1.0, 0.0, 0.0]])
    with pytest.raises(NotImplementedError, match="where has no derivative with respect to its 1st operand"):
        rules.where(x, x, 0.0).sum().backward()


def test_linear_rows_are_adjoint() -> None:
    """<v, L u> = <L^H v, u> exactly, on integers."""
    ints = np.random.default_rng(1)
    for op, args, params in [
        c.values for c in CASES if c.values[0].name in ("sliding_windows", "overlap_add", "getitem", "put", "pad")
    ]:  # type: ignore[attr-defined]
        params = {k: v for k, v in params.items() if k != "value"}
        u = ints.integers(-9, 9, args[0].shape).astype(float)
        out, pullback = vjp(lambda x, op=op, params=params: op(x, **params), u)
        v = ints.integers(-9, 9, out.shape).astype(float)
        assert (pullback(v)[0].data * u).sum() == (out.data * v).sum()


TORCH_ROWS = {
    "exp": "exp", "log": "log", "sqrt": "sqrt", "sin": "sin", "cos": "cos", "tanh": "tanh", "sigmoid": "sigmoid",
    "absolute": "abs", "multiply": "mul", "divide": "div", "power": "pow", "matmul": "matmul", "maximum": "maximum",
    "minimum": "minimum", "negative": "neg",
}  # fmt: skip


@pytest.mark.parametrize("name", TORCH_ROWS)
def test_against_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    for args, params in SAMPLES[name]:
        arrays = [a for a in args if isinstance(a, np.ndarray)]
        if params or len(arrays) != len(args) or len({a.dtype for a in arrays}) != 1:
            continue
        ours = [tensor(a, requires_grad=True) for a in arrays]
        theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
        out, ref = TABLE[name](*ours), getattr(torch, TORCH_ROWS[name])(*theirs)
        v = np.random.default_rng(2).standard_normal(out.shape).astype(out.dtype) * (
            1 + 1j if out.dtype.kind == "c" else 1
        )
        np.testing.assert_allclose(out.numpy(), ref.detach().numpy(), rtol=1e-12)
        out.backward(v)
        ref.backward(torch.tensor(v))
        for a, b in itertools.zip_longest(ours, theirs):
            assert a.grad is not None
            np.testing.assert_allclose(a.grad.data, b.grad.numpy(), rtol=1e-10, atol=1e-14)
