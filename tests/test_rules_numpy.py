"""Every function of NumPy that has a row: values as NumPy's, gradients in both modes to second order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from eagerconv.autograd import rules
from eagerconv.autograd.tape import Op
from eagerconv.gradcheck import check_grads
from eagerconv.tensor import Tensor, tensor

rng = np.random.default_rng(0)
P, Q = rng.uniform(0.5, 2, (2, 3)), rng.uniform(0.5, 2, (3,))  # positive
S = np.array([[-1.3, 0.4, 2.1], [0.7, -0.2, -1.7]])  # signs differ, no two are equal, none near an integer
U = S / 2.5  # within (-1, 1)
C, D = (rng.standard_normal((2, 3)) + 1j * rng.standard_normal((2, 3)) for _ in range(2))
V = rng.standard_normal((4, 5))
W = rng.standard_normal((2, 3, 4))
NAN = np.array([[1.0, np.nan, 3.0], [np.nan, 5.0, -6.0]])
MASK = np.array([[True, False, True], [False, True, True]])
EMPTY, SCALAR = np.zeros((0, 3)), np.array(0.7)

Sample = tuple[tuple[Any, ...], dict[str, Any]]


def of(*args: Any, **kwargs: Any) -> Sample:
    """Write a call."""
    return args, kwargs


def each(*operands: Any, **kwargs: Any) -> list[Sample]:
    """Write calls of one operand."""
    return [((x,), kwargs) for x in operands]


REDUCTION = [
    of(S),
    of(S, 0),
    of(S, axis=(-1, 0)),
    of(W, axis=(0, -1), keepdims=True),
    of(SCALAR),
    of(np.zeros((2, 0)), 0),
]
EXTREMUM = [of(S), of(S, 0), of(W, (0, 2)), of(W, axis=-1, keepdims=True), of(S, 1, initial=0.1), of(SCALAR),
            of(S, 0, initial=-0.5, where=MASK), of(EMPTY, initial=1.0), of(EMPTY, 0, initial=1.0)]  # fmt: skip
SPREAD = [of(S), of(S, 0), of(W, (0, 2), ddof=1), of(W, axis=-1, keepdims=True), of(C), of(C, 1, None, None, 1, True),
          of(S, where=MASK), of(S, axis=1, where=MASK, ddof=0.5)]  # fmt: skip

# Calls of each function, away from kinks and poles. Floating arrays in them are varied, numbers and lists stay.
SAMPLES: dict[Callable[..., Any], list[Sample]] = {
    # ufuncs
    np.add: [of(P, Q), of(C, Q), of(P, 2.0), of(Q[:, None], Q[:0]), of([1, 2, 3], P)],
    np.subtract: [of(P, Q), of(Q, C), of(2.0, P)],
    np.multiply: [of(P, Q), of(C, Q), of(C, D), of(P, 2j)],
    np.divide: [of(P, Q), of(C, Q), of(Q, C), of(2, P)],
    np.negative: each(P, C), np.positive: each(P, C), np.reciprocal: each(P, C), np.square: each(S, C),
    np.sqrt: each(P, C), np.cbrt: each(P, -P),
    np.power: [of(P, Q), of(S, 3), of(P, -1.5), of(2.0, S), of(S, 0), of(C, 2), of(C, D)],
    np.float_power: [of(P, Q), of(S, 3), of(C, 2)],
    np.hypot: [of(S, Q), of(3.0, S)], np.remainder: [of(S, Q), of(S, -0.6)], np.fmod: [of(S, Q), of(S, -0.6)],
    np.floor_divide: [of(S, Q)],
    np.exp: each(S, C), np.exp2: each(S, C), np.expm1: each(S, C), np.log: each(P, C), np.log2: each(P, C),
    np.log10: each(P, C), np.log1p: each(P, C), np.logaddexp: [of(S, Q)], np.logaddexp2: [of(S, Q)],
    np.sin: each(S, C), np.cos: each(S, C), np.tan: each(U, C), np.arcsin: each(U, C), np.arccos: each(U, C),
    np.arctan: each(S, C), np.arctan2: [of(S, Q), of(S, -1.0)],
    np.sinh: each(S, C), np.cosh: each(S, C), np.tanh: each(S, C), np.arcsinh: each(S, C),
    np.arccosh: each(P + 1, C), np.arctanh: each(U, C), np.sinc: each(S, U / 4, np.zeros(2)),
    np.deg2rad: each(S), np.radians: each(S), np.rad2deg: each(S), np.degrees: each(S),
    np.maximum: [of(S, Q), of(S, 0.1)], np.minimum: [of(S, Q), of(0.1, S)],
    np.fmax: [of(S, Q), of(S, 0.1), of(S, np.nan)], np.fmin: [of(S, Q), of(0.1, S), of(np.nan, S)],
    np.absolute: each(S, C), np.fabs: each(S), np.sign: each(S, C), np.copysign: [of(S, -Q), of(-2.0, S)],
    np.floor: each(S), np.ceil: each(S), np.trunc: each(S), np.rint: each(S), np.heaviside: [of(S, Q)],
    np.ldexp: [of(S, np.array([1, -2, 3]))], np.conjugate: each(C, S),
    # elementwise functions
    np.angle: [of(C), of(C, deg=True)], np.around: [of(S), of(S, 1)], np.round: [of(S), of(S, decimals=1)],
    np.clip: [of(S, -0.5, 0.6), of(S, -Q, Q / 2), of(S, None, 0.6), of(S, a_min=-0.5, a_max=None)],
    np.divmod: [of(S, Q)], np.fix: each(S), np.imag: each(C), np.modf: each(S), np.real: each(C, S),
    np.nan_to_num: [of(S), of(NAN, nan=7.0)], np.real_if_close: each(C, P), np.unwrap: each(3 * S),
    np.where: [of(MASK, P, Q), of(MASK, C, 1.0)],
    # indexing
    np.take: [of(V, [2, 0, 0]), of(V, np.array([[1, 1], [3, -1]]), 0), of(V, 2, axis=1), of(V, [7, -9], 1, mode="wrap"),
              of(V, [7, -9], 1, mode="clip")],
    np.take_along_axis: [of(V, np.array([[0, 2], [1, 1], [4, 0], [3, 2]]), 1), of(V, np.array([3, 3, 5]), None),
                         of(V, np.array([[1]]), 0)],
    np.compress: [of([True, False, True], V, 0), of([False, True], V)], np.extract: [of(MASK, S)],
    np.delete: [of(V, 1, 0), of(V, [1, 3], 1), of(V, slice(2))], np.resize: [of(S, (3, 4)), of(S, 2)],
    np.select: [of([MASK, S > 0], [S, P], 2.0)],
    # shapes
    np.reshape: [of(S, (3, 2)), of(S, -1), of(W, (4, 6), "F"), of(W, shape=(4, 6), order="F", copy=True)],
    np.ravel: [of(S), of(W, "F")],
    np.transpose: [of(S), of(W, (1, -1, 0))], np.moveaxis: [of(W, 0, -1), of(W, (0, 2), (1, 0))],
    np.swapaxes: [of(W, 0, -1)], np.rollaxis: [of(W, 2), of(W, 0, 3), of(W, -1, -2)],
    np.matrix_transpose: each(W), np.linalg.matrix_transpose: each(W),
    np.flip: [of(W), of(W, 1), of(W, axis=(0, -1))], np.fliplr: each(W), np.flipud: each(W),
    np.roll: [of(W, 2), of(W, -1, 1), of(W, (1, 2), (0, -1)), of(W, shift=1, axis=(0, 2))],
    np.rot90: [of(S), of(W, 3, (1, 2)), of(W, k=2)],
    np.repeat: [of(S, 2), of(S, 3, 1), of(S, [1, 0, 2], -1), of(S, repeats=(2, 1), axis=0)],
    np.tile: [of(S, 2), of(S, (3, 1, 2)), of(W, (2, 1)), of(SCALAR, 3)],
    np.broadcast_to: [of(Q, (2, 3)), of(S[:, :1], shape=(4, 2, 3))], np.broadcast_arrays: [of(S, Q), of(S, 2.0)],
    np.meshgrid: [of(Q, S[0, :2]), of(Q, S[0, :2], W[0, 0], indexing="ij"), of(Q, S[0], sparse=True), of(Q)],
    np.expand_dims: [of(S, 1), of(S, axis=(0, -1))], np.squeeze: [of(S[:, None, :, None]), of(S[:, None], 1)],
    np.atleast_1d: [of(SCALAR), of(SCALAR, S)], np.atleast_2d: [of(SCALAR), of(Q)], np.atleast_3d: [of(Q), of(S), of(W)],
    np.concatenate: [of((S, C)), of((S, Q[:2, None], S), 1), of([S, [[1, 2, 3]]], axis=-2), of((S, Q), None)],
    np.stack: [of((S, C, S)), of([S, P], -1), of([S, P], axis=1)], np.hstack: [of((S, S)), of((Q, [1.0, 2.0]))],
    np.vstack: [of((S, Q)), of((Q, Q))], np.dstack: [of((S, P)), of((Q, Q))], np.column_stack: [of((Q, S.T, Q))],
    np.append: [of(S, Q), of(S, P, 1)], np.block: [of([[S, P], [np.ones((1, 3)), Q[None]]]), of([Q, 2.0])],
    np.split: [of(V, 2), of(V, [1, 3], 1)], np.array_split: [of(V, 3), of(V, 2, axis=1)],
    np.hsplit: [of(W, 3), of(Q, [1])], np.vsplit: [of(W, 2)], np.dsplit: [of(W, 2)],
    np.diagonal: [of(V), of(W, 1, 2, 0), of(V, offset=-2)], np.linalg.diagonal: [of(W), of(W, offset=1)],
    np.diag: [of(V, 1), of(Q), of(Q, -2)], np.diagflat: [of(S, 1)],
    np.tril: [of(V), of(W, -1)], np.triu: [of(V), of(W, k=1)],
    np.pad: [of(S, 1), of(S, ((1, 0), (2, 3)), constant_values=4.0), of(S, ((1, 0), (2, 2)), "reflect"),
             of(S, 2, mode="symmetric"), of(S, (1, 2), mode="edge"), of(S, 1, mode="wrap")],
    np.copy: each(S, C), np.astype: [of(S, np.complex128), of(C, np.complex128, copy=False)],
    # reductions
    np.sum: [*REDUCTION, of(C), of(S, 0, np.complex128), of(S, 1, where=MASK, initial=2.0), of(S, 0, None, None, True)],
    np.prod: [*REDUCTION, of(C, 1), of(S * MASK), of(W * [0, 1, 2, 3], (0, 2)), of(S, 1, where=MASK, initial=2.0)],
    np.mean: [*REDUCTION[:-1], of(C, 0), of(S, 1, where=MASK), of(S, where=MASK, keepdims=True)],
    np.var: SPREAD, np.std: SPREAD, np.max: EXTREMUM, np.min: EXTREMUM, np.amax: EXTREMUM, np.amin: EXTREMUM,
    np.ptp: [of(S), of(W, 1), of(W, axis=-1, keepdims=True)],
    np.average: [of(S), of(S, 1, Q), of(S, weights=P), of(W, (0, 1), weights=P), of(S, 0, P[:, 0], True)],
    np.nansum: [of(NAN), of(NAN, 1)], np.nanprod: [of(NAN), of(NAN, 0, keepdims=True)],
    np.nanmean: [of(NAN), of(NAN, 1)], np.nanvar: [of(NAN), of(NAN, 1, ddof=1)], np.nanstd: [of(NAN)],
    np.nanmax: [of(NAN), of(NAN, 1)], np.nanmin: [of(NAN), of(NAN, axis=0, keepdims=True)],
    np.cumsum: [of(S), of(W, 1), of(W, axis=-1), of(C, 0), of(SCALAR)],
    np.cumprod: [of(S), of(W, 1), of(W, axis=-1), of(C, 0), of(S * MASK, 1), of(S * MASK)],
    np.nancumsum: [of(NAN, 1)], np.nancumprod: [of(NAN)],
    # products
    np.matmul: [of(S, P.T), of(Q, Q), of(W, V.T[:4]), of(C, D.T)],
    getattr(np, "cumulative_sum", None): [of(Q), of(W, axis=1, include_initial=True)],
    getattr(np, "cumulative_prod", None): [of(Q), of(W, axis=-1, include_initial=True)],
    getattr(np, "unstack", None): [of(W), of(W, axis=-1)],
}  # fmt: skip

FUNCTIONS = rules.functions()
CASES = [
    pytest.param(function, args, kwargs, id=f"{function.__name__}-{i}")
    for function, samples in SAMPLES.items()
    if function is not None
    for i, (args, kwargs) in enumerate(samples)
]
every_sample = pytest.mark.parametrize(("function", "args", "kwargs"), CASES)


def varied(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind in "fc" and bool(np.isfinite(x).all())


def leaves(x: Any) -> Iterator[Any]:
    """The arrays and tensors in nested lists and tuples, and nothing else."""
    if isinstance(x, (list, tuple)):
        for part in x:
            yield from leaves(part)
    elif isinstance(x, (np.ndarray, np.generic, Tensor)):
        yield x


def filled(x: Any, values: Iterator[Any]) -> Any:
    """The same nesting, with other values in the places of what is varied."""
    if isinstance(x, (list, tuple)):
        return type(x)(filled(part, values) for part in x)
    return next(values) if varied(x) else x


def call(function: Callable[..., Any], args: Any, kwargs: Any, values: Any) -> Any:
    return rules.BY_FUNCTION[function](*filled(args, iter(values)), **kwargs)


def joined(out: Any) -> Any:
    """All results in one vector, so that one gradient sees all of them."""
    parts = [rules.reshape(x, shape=(-1,)) for x in leaves(out) if x.dtype.kind in "fc"]
    return parts[0] if len(parts) == 1 else rules.BY_FUNCTION[np.concatenate](parts)


def test_every_function_has_samples() -> None:
    missing = {
        f.__name__ for f, row in FUNCTIONS.items() if f not in SAMPLES and not (isinstance(row, Op) and not row.rules)
    }
    assert missing == set()
    assert {f.__name__ for f in SAMPLES if f is not None and f not in FUNCTIONS} == set()


@every_sample
def test_values_are_those_of_numpy(function: Any, args: Any, kwargs: Any) -> None:
    expected = function(*args, **kwargs)
    out = call(function, args, kwargs, [tensor(x, requires_grad=True) for x in leaves(args) if varied(x)])
    if isinstance(expected, (list, tuple)):
        assert isinstance(out, type(expected)) or isinstance(expected, tuple)
    got, known = list(leaves(out)), list(leaves(expected))
    assert len(got) == len(known)
    for a, b in zip(got, known, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(getattr(a, "data", a), b, rtol=1e-14, atol=1e-15)


@every_sample
def test_gradients(function: Any, args: Any, kwargs: Any) -> None:
    xs = [x for x in leaves(args) if varied(x)]
    if xs:
        check_grads(lambda *values: joined(call(function, args, kwargs, values)), xs)


@every_sample
def test_each_operand_alone(function: Any, args: Any, kwargs: Any) -> None:
    """Just what the rule of one operand names is saved when only that one is tracked; it must be enough."""
    xs = [x for x in leaves(args) if varied(x)]
    for i, x in enumerate(xs if len(xs) > 1 else []):
        check_grads(lambda v, i=i: joined(call(function, args, kwargs, [*xs[:i], v, *xs[i + 1 :]])), [x], order=1)


@every_sample
def test_single_precision_stays(function: Any, args: Any, kwargs: Any) -> None:
    single = {"float64": "float32", "complex128": "complex64"}
    arrays = [x.astype(single[x.dtype.name]) for x in leaves(args) if varied(x)]
    xs = [tensor(x, requires_grad=True) for x in arrays]
    out = call(function, args, kwargs, xs)
    expected = [x.dtype for x in leaves(function(*filled(args, iter(arrays)), **kwargs))]
    assert [x.dtype for x in leaves(out)] == expected
    if xs and (total := joined(out)).requires_grad:
        total.backward(np.ones(total.shape))
        assert all(x.grad is None or (x.grad.shape, x.grad.dtype) == (x.shape, x.dtype) for x in xs)
