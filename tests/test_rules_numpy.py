"""Every function of NumPy that has a row: values as NumPy's, gradients in both modes to second order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fake_cuda
import numpy as np
import pytest
import test_rules

from eagerconv.autograd import rules
from eagerconv.autograd.tape import Op, no_grad, reachable
from eagerconv.func import hessian
from eagerconv.func.gradcheck import check_grads
from eagerconv.func.transforms import grad, jvp
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

M, N, K = rng.standard_normal((3, 3)), rng.standard_normal((2, 3, 3)), rng.standard_normal((3, 3)) + 1j * V[:3, :3]
SINGULAR = np.array([[1.0, 2.0, 0.5], [2.0, 4.0, 1.0], [0.3, -1.0, 1.7]])
TALL, WIDE = rng.standard_normal((2, 4, 3)), rng.standard_normal((2, 4))
CTALL, CWIDE = TALL + 1j * rng.standard_normal((4, 3)), WIDE + 1j * rng.standard_normal((2, 4))


class Sample(NamedTuple):
    """A call: `before` makes the first operand out of what is varied, `after` what is checked out of the results."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    before: Callable[[Any], Any]
    after: Callable[[Any], Any]


def same(x: Any) -> Any:
    return x


def of(*args: Any, before: Any = same, after: Any = same, **kwargs: Any) -> Sample:
    """Write a call."""
    return Sample(args, kwargs, before, after)


def each(*operands: Any, **kwargs: Any) -> list[Sample]:
    """Write calls of one operand."""
    return [of(x, **kwargs) for x in operands]


def adjoint(x: Any) -> Any:
    return rules.products.adjoint(x)


def hermitian(x: Any) -> Any:
    return x + adjoint(x)


def definite(x: Any) -> Any:
    return x @ adjoint(x) + np.eye(x.shape[-2])


def projections(v: Any) -> Any:
    """What does not depend on the phase of the columns of v: v_i v_i^H weighed differently."""
    return (v * np.arange(1.0, v.shape[-1] + 1)) @ adjoint(v)


def of_eig(out: Any) -> list[Any]:
    return [out[0], projections(out[1])]


def of_svd(out: Any) -> list[Any]:
    """U diag(k) Vh knows of U and Vh, and nothing of their common phases."""
    u, s, vh = out
    k = s.shape[-1]
    return [
        s,
        (u[..., :k] * np.arange(1.0, k + 1)) @ vh[..., :k, :],
        projections(u[..., :k]),
        projections(adjoint(vh[..., :k, :])),
    ]


def of_qr(out: Any) -> list[Any]:
    q, r = out
    return [projections(q), abs(r) ** 2]


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
          of(S, where=MASK), of(S, axis=1, where=MASK, ddof=0.5),
          of(S, axis=1, mean=np.array([[0.1], [0.2]])), of(S, mean=np.array([[0.3]]), where=MASK)]  # fmt: skip

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
    np.floor: each(S), np.ceil: each(S), np.trunc: each(S), np.rint: each(S),
    np.heaviside: [of(S, Q), of(np.array([0, 1, -1]), Q)],
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
    np.choose: [of([0, 1, 2], [Q, S, 2.0])],
    np.bincount: [of([1, 3, 1], Q), of(np.array([1, 3, 1]), Q), of(np.array([0, 2]), weights=[1.0, 2.0], minlength=5),
                  of([1, 0, 1], S[0], 1)],
    # shapes
    np.reshape: [of(S, (3, 2)), of(S, -1), of(W, shape=(4, 6), order="F", copy=True),
                 *[of(W, (4, 6), "F")] * (np.__version__ != "2.1.0")],  # which takes the order by name alone
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
    np.lib.stride_tricks.sliding_window_view: [of(V, (2, 3)), of(W, 2, 1), of(W, (2, 2), axis=(2, 0))],
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
    # sorting
    np.sort: [of(S), of(W, 1), of(S, axis=None), of(V, 0, stable=True)],
    np.partition: [of(Q, 1), of(V, 2, after=lambda out: out[:, 2])],
    np.quantile: [of(S, 0.3), of(V, [0.1, 0.8], 1), of(W, 0.6, axis=(0, 2), keepdims=True), of(V, 0.4, method="lower"),
                  of(V, 0.4, method="higher"), of(V, 0.4, method="nearest"), of(V, 0.42, method="midpoint")],
    np.percentile: [of(S, 30), of(V, [10, 80.0], 1)],
    np.median: [of(S), of(V, 0), of(V, axis=1, keepdims=True), of(W, (0, 2)), of(EMPTY, 1)],
    np.cov: [of(V), of(V, rowvar=False, bias=True), of(Q, S[0]), of(C), of(V, ddof=0), of(Q)],
    np.corrcoef: [of(V), of(S, P, False), of(C), of(Q)],
    # differences, interpolation, convolution
    np.diff: [of(V), of(V, 2, 0), of(V, axis=0, prepend=1.0, append=P[:1, [0, 1, 2, 0, 1]])],
    np.ediff1d: [of(S), of(S, Q, 2.0)],
    np.trapezoid: [of(V), of(V, dx=0.5, axis=0), of(V, rng.standard_normal(5)), of(V, P[:1, [0, 1, 2, 0, 1]])],
    np.gradient: [of(V), of(V, 0.5), of(V, 0.5, 2.0, edge_order=2), of(V, np.array([0.0, 1, 1.5, 4, 6]), axis=1),
                  of(V, np.array([0.0, 1, 1.5, 4, 6]), axis=-1, edge_order=2)],
    np.interp: [of(np.array([-1.0, 0.3, 1.9, 7.0]), np.array([0.0, 1.0, 2.5]), Q), of(S, [-1.0, 0.0, 1.0], Q, 7.0, -7.0),
                of(S, [0.1, 0.45, 0.8], Q, period=1.5)],
    np.convolve: [of(x, y, mode) for mode in ("full", "same", "valid") for x, y in
                  ((V[0], Q), (Q, V[0]), (C[0, :2], V[1]), (Q, V[0, :2]))] + [of(Q, V[0])],
    np.correlate: [of(x, y, mode) for mode in ("full", "same", "valid") for x, y in
                   ((V[0], Q), (Q, V[0]), (V[1], C[0, :2]), (C[0, :2], V[1]))] + [of(V[0], Q)],
    np.linspace: [of(SCALAR, 2.0, 5), of(Q, S, num=3, endpoint=False, axis=-1), of(Q, 1, 4, retstep=True), of(Q, 1, 1)],
    np.logspace: [of(SCALAR, 2.0, 5), of(Q, 0, 3, base=2.0)],
    np.polyval: [of(Q, S), of([1.0, 2.0], S)],
    # products
    np.matmul: [of(S, P.T), of(Q, Q), of(W, V.T[:4]), of(C, D.T)], np.linalg.matmul: [of(S, P.T)],
    np.dot: [of(Q, Q), of(S, Q), of(S, P.T), of(W, rng.standard_normal((2, 4, 2))), of(S, 2.0), of(C, D.T)],
    np.inner: [of(S, P), of(W, V[:, :4]), of(S, 2.0), of(Q, Q), of(C, D)], np.outer: [of(S, Q), of(C, S)],
    np.linalg.outer: [of(Q, S[0]), of(C[0], D[1])], np.vdot: [of(S, P), of(C, D), of(Q, C[0])],
    np.vecdot: [of(S, Q), of(C, D), of(S, C), of(W, V[:3, :4]), of(C.T, D.T, axis=0)],
    np.linalg.vecdot: [of(S, Q), of(C.T, D.T, axis=0)],
    np.tensordot: [of(W, W, 3), of(W, V[:, :3], ([1, 2], [1, 0])), of(W, V, 1), of(W, V[:2, :3].T, ((1, 0), (0, 1))),
                   of(S, P, 0), of(C, D, axes=((0,), (0,))), of(S, [[1.0], [2.0], [3.0]], 1), of(EMPTY, S, ((1,), (1,)))],
    np.linalg.tensordot: [of(W, V, axes=1)],
    np.cross: [of(S, Q), of(C, D), of(C.T, D, axisa=0), of(S.T, P.T, axis=0), of(C, S, axisc=0)],
    np.linalg.cross: [of(S.T, P.T, axis=0)],
    np.kron: [of(S, P), of(Q, S), of(W, Q), of(C, D)],
    np.trace: [of(V), of(W, 1, 2, 0), of(C)], np.linalg.trace: [of(W), of(W, offset=1)],
    np.einsum: [of("ij,jk->ik", S, P.T), of("ij,jk", S, P.T), of("ij,kj->ki", C, D), of("i,j,k->", Q, S[0], V[0]),
                of("ij->j", V), of("ii", M), of("ii->i", M), of("iij,j->i", rng.standard_normal((3, 3, 4)), V[0, :4]),
                of("...ij,...jk->...ik", N, M), of("i...,...j", W, V[0]), of("...,...", W, V[0, :4]), of("ij,", V, 2.0),
                of("ij,ij->ij", S, P[:, :1]), of("bi,bj,k->b", S, P, Q), of(W, [0, 1, 2], V, [2, 3], [3, 1, 0]),
                of(W, [0, ..., 1], V[0, :4], [1]), of("ijk,ikl,lm->jm", W, rng.standard_normal((2, 4, 3)), M, optimize=True),
                of("abc,cd", EMPTY[..., None], S[:1])],
    # linear algebra
    np.linalg.solve: [of(M, Q), of(N, V[:3]), of(N, Q), of(K, S.T), of(M, C[0]), of(N, N[:, :, :2])],
    np.linalg.inv: each(M, N, K, np.zeros((0, 3, 3)), np.zeros((2, 0, 0))),
    np.linalg.pinv: [*each(TALL, WIDE, CWIDE), of(M, 1e-12), of(M, rtol=1e-12)],
    np.linalg.lstsq: [of(TALL[0], V[:, 0]), of(TALL[1], V[:, :2]), of(WIDE, Q[:2]), of(CTALL[0], V[:, :2])],
    np.linalg.det: each(M, N, K, SINGULAR), np.linalg.slogdet: [of(M), of(N), of(K)],
    np.linalg.cholesky: [*each(M, N, K, before=definite), of(K, before=definite, upper=True)],
    np.linalg.qr: [*each(M, TALL, WIDE), *each(K, CTALL, CWIDE, after=of_qr), of(TALL[:0]),
                   of(TALL, mode="r"), of(WIDE, "complete")],
    np.linalg.svd: [*each(M, TALL, WIDE, K, CTALL, CWIDE, after=of_svd), of(TALL, False, after=of_svd),
                    of(CWIDE, full_matrices=False, after=of_svd), of(TALL, compute_uv=False), of(TALL[:, :0])],
    np.linalg.svdvals: each(M, TALL, CWIDE),
    np.linalg.eigh: [*each(M, N, K, before=hermitian, after=of_eig), of(M, "U", before=hermitian, after=of_eig)],
    np.linalg.eigvalsh: [of(np.zeros((0, 2, 2))), *each(M, N, K, before=hermitian), of(M, UPLO="U", before=hermitian)],
    np.linalg.eig: each(M, K, definite(M) + 0.1 * K.real, after=lambda out: [out[0], abs(out[1]) ** 2]),
    np.linalg.eigvals: each(M, N[:1], K),
    np.linalg.norm: [of(S), of(W), of(C), of(Q, np.inf), of(Q, 3), of(S, 1, 1), of(C, -np.inf, 0, True), of(S, 0, 1),
                     of(W, 2, axis=-1), *(of(S, k) for k in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)),
                     of(W, "nuc", (0, 2), True), of(C, 1), of(W, axis=(2, 1))],
    np.linalg.matrix_norm: [of(W), of(W, ord=2, keepdims=True), of(C, ord="nuc")],
    np.linalg.vector_norm: [of(W), of(W, axis=(0, 2), ord=3), of(C, axis=1, ord=1, keepdims=True), of(W, axis=(0, 1))],
    np.linalg.matrix_power: [of(M, 3), of(N, 5), of(M, -2), of(M, 0), of(K, 1)],
    np.linalg.multi_dot: [of([S, M, P.T]), of([Q, M, V[:3], V[0]]), of([C, D.T])],
    np.linalg.tensorsolve: [of(rng.standard_normal((2, 3, 6)), S), of(rng.standard_normal((2, 6, 3)), S, (1,))],
    np.linalg.tensorinv: [of(rng.standard_normal((6, 2, 3)), 1), of(rng.standard_normal((2, 3, 6)))],
    # Fourier transforms
    **{f: [of(V), of(V + 1j, 7), of(V, 3, 0, "ortho"), of(C, axis=0, norm="forward")] for f in (np.fft.fft, np.fft.ifft)},
    **{f: [of(V), of(V, 7), of(V, 6, 0), of(V, 3, 0, "ortho"), of(S, axis=0, norm="forward")]
       for f in (np.fft.rfft, np.fft.ihfft)},
    **{f: [of(C), of(V), of(C, 7), of(C, 3, 0, "ortho"), of(C, 6, axis=0), of(C, norm="forward")]
       for f in (np.fft.irfft, np.fft.hfft)},
    **{f: [of(V), of(W + 1j), of(C, (3, 2), norm="ortho"), of(W, (4, 2), (2, 0))] for f in (np.fft.fft2, np.fft.ifft2)},
    **{f: [of(V), of(W), of(C), of(W, (4, 2), (2, 0), "forward"), of(W, axes=(1,))] for f in (np.fft.fftn, np.fft.ifftn)},
    np.fft.rfft2: [of(V), of(W, (4, 2), (2, 0), "ortho")], np.fft.irfft2: [of(C), of(W + 1j, (4, 2), (2, 0), "ortho")],
    np.fft.rfftn: [of(V), of(W), of(W, (4, 5), (2, 0), "forward"), of(W, axes=(1, 0))],
    np.fft.irfftn: [of(C), of(W + 1j), of(C, (3, 5), (1, 0), "forward"), of(W, axes=(1, 0))],
    np.fft.fftshift: [of(V), of(W, 1), of(C, axes=(0,))], np.fft.ifftshift: [of(V), of(W, (1, 2))],
    np.cumulative_sum: [of(Q), of(W, axis=1, include_initial=True)],
    np.cumulative_prod: [of(Q), of(W, axis=-1, include_initial=True)],
    np.unstack: [of(W), of(W, axis=-1)],
}  # fmt: skip
if hasattr(np, "matvec"):  # since NumPy 2.2
    SAMPLES |= {
        np.matvec: [of(W, V[0, :4]), of(C, D[0])],
        np.vecmat: [of(V[0, :3], W), of(C[:, 0], D)],
    }

FUNCTIONS = rules.functions()
CASES = [
    pytest.param(function, sample, id=f"{function.__name__}-{i}")
    for function, samples in SAMPLES.items()
    for i, sample in enumerate(samples)
]
every_sample = pytest.mark.parametrize(("function", "sample"), CASES)


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


def call(function: Callable[..., Any], sample: Sample, values: Any) -> Any:
    """Call `function` with other values in the places of what is varied."""
    args = filled(sample.args, iter(values))
    return function(sample.before(args[0]), *args[1:], **sample.kwargs)


def test_every_function_has_samples() -> None:
    need = {f for f, row in FUNCTIONS.items() if not (isinstance(row, Op) and not row.rules)}
    assert {f.__name__ for f in need - set(SAMPLES)} == set()
    assert {f.__name__ for f in set(SAMPLES) - need} == set()


def test_documentation_names_every_function() -> None:
    page = (Path(__file__).parents[1] / "docs" / "gradients.md").read_text(encoding="utf-8")
    assert [f.__name__ for f in SAMPLES if f"`{f.__name__}`" not in page] == []


def test_every_row_is_met() -> None:
    """By a sample here, or by name in test_rules.py."""
    met = set(test_rules.SAMPLES)
    for function, sample in (case.values for case in CASES):  # type: ignore[attr-defined]
        xs = [tensor(x, requires_grad=True) for x in leaves(sample.args) if varied(x)]
        out = call(rules.BY_FUNCTION[function], sample, xs)  # type: ignore[index,arg-type]
        for node in reachable([x._node for x in leaves(out) if isinstance(x, Tensor)]):
            met.add(node.op.name if node.op is not None else "")
    assert {name for name, op in rules.table().items() if op.rules} - met == set()


@every_sample
def test_values_are_those_of_numpy(function: Any, sample: Sample) -> None:
    xs = [x for x in leaves(sample.args) if varied(x)]
    expected = call(function, sample, xs)
    out = call(rules.BY_FUNCTION[function], sample, [tensor(x, requires_grad=True) for x in xs])
    assert isinstance(out, tuple) == isinstance(expected, tuple)
    got, known = list(leaves(out)), list(leaves(expected))
    assert len(got) == len(known)
    for a, b in zip(got, known, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(getattr(a, "data", a), b, rtol=1e-13, atol=1e-14)


@every_sample
def test_numpy_itself_finds_the_row(function: Any, sample: Sample) -> None:
    xs = [x for x in leaves(sample.args) if varied(x)]
    if not xs:
        return
    tracked = [tensor(x, requires_grad=True) for x in xs]
    out, same = call(function, sample, tracked), call(rules.BY_FUNCTION[function], sample, tracked)
    for a, b in zip(leaves(out), leaves(same), strict=True):
        if isinstance(b, Tensor) and b.requires_grad:
            assert isinstance(a, Tensor)
            assert [node.op for node in reachable([a._node])] == [node.op for node in reachable([b._node])]


LOOK_AT_VALUES = {"bincount", "choose", "extract"}
"""The size of the result is among the values, or what is refused."""
CHOOSE_BY_VALUES = {"prod", "cumprod", "cumulative_prod", "det", "median", "quantile", "percentile", "svd"}
"""The formula depends on whether there is a zero, a NaN, or a cotangent."""


@every_sample
def test_arrays_of_a_device_stay_there(place: Any, function: Any, sample: Sample) -> None:
    """Forward and backward; the stand-in for a GPU's array refuses to meet arrays of the CPU, and tells who looked at values.

    A look makes the host wait for the card, and can't be recorded.
    """

    def moved(x: Any) -> Any:
        if isinstance(x, (list, tuple)):
            return type(x)(map(moved, x))
        return tensor(x, requires_grad=varied(x), device="cuda") if isinstance(x, np.ndarray) else x

    if not any(map(varied, leaves(sample.args))):
        return
    args = moved((sample.before(sample.args[0]), *sample.args[1:]))
    keywords = {name: moved(x) for name, x in sample.kwargs.items()}
    fake_cuda.traffic.clear()
    out = function(*args, **keywords)
    for part in leaves(out):
        assert part.device == "cuda"
        if part.requires_grad:
            part.backward((part * 0).detach(), retain_graph=True)
    assert all(x.grad is None or x.grad.device == "cuda" for x in leaves(args))
    if function.__name__ not in LOOK_AT_VALUES | CHOOSE_BY_VALUES:
        assert [what for what in fake_cuda.traffic if what != "copied to the card"] == []


@every_sample
def test_gradients(function: Any, sample: Sample) -> None:
    xs = [x for x in leaves(sample.args) if varied(x)]
    if xs:
        row = rules.BY_FUNCTION[function]
        check_grads(lambda *values: sample.after(call(row, sample, values)), xs)


@every_sample
def test_each_operand_alone(function: Any, sample: Sample) -> None:
    """Just what the rule of one operand names is saved when only that one is tracked; it must be enough."""
    xs = [x for x in leaves(sample.args) if varied(x)]
    row = rules.BY_FUNCTION[function]
    for i, x in enumerate(xs if len(xs) > 1 else []):

        def one(v: Any, i: int = i) -> Any:
            return sample.after(call(row, sample, [*xs[:i], v, *xs[i + 1 :]]))

        check_grads(one, [x], order=1)


@every_sample
def test_single_precision_stays(function: Any, sample: Sample) -> None:
    single = {"float64": "float32", "complex128": "complex64"}
    arrays = [x.astype(single[x.dtype.name]) for x in leaves(sample.args) if varied(x)]
    xs = [tensor(x, requires_grad=True) for x in arrays]
    out = call(rules.BY_FUNCTION[function], sample, xs)
    assert [x.dtype for x in leaves(out)] == [x.dtype for x in leaves(call(function, sample, arrays))]
    for part in leaves(out):
        if isinstance(part, Tensor) and part.requires_grad:
            part.backward(np.ones(part.shape), retain_graph=True)
    assert all(x.grad is None or (x.grad.shape, x.grad.dtype) == (x.shape, x.dtype) for x in xs)


# ----- Places where there is no derivative, or a formula would say 0/0 -----


def gradient(function: Callable[..., Any], *args: Any) -> Any:
    """The gradient of the sum of what NumPy's function gives, with respect to the first argument."""
    x = tensor(args[0], requires_grad=True)
    return grad(rules.sum(rules.BY_FUNCTION[function](x, *args[1:])), x)[0].tolist()


def test_ties_and_kinks() -> None:
    assert gradient(np.fmax, [1.0, np.nan, 2.0], [1.0, 0.0, np.nan]) == [0.5, 0, 1]
    assert gradient(np.fmin, [1.0, np.nan, 2.0], [1.0, 0.0, np.nan]) == [0.5, 0, 1]
    assert gradient(np.clip, [-1.0, 0.0, 1.0, 2.0], 0.0, 1.0) == [0, 1, 1, 0]
    assert gradient(np.ptp, [1.0, 1.0, 4.0]) == [-0.5, -0.5, 1]
    assert gradient(np.nanmax, [1.0, np.nan, 1.0]) == [0.5, 0, 0.5]
    assert gradient(np.nan_to_num, [np.nan, np.inf, 1.0]) == [0, 0, 1]
    assert gradient(np.copysign, [-2.0, 0.0, 2.0], 1.0) == [-1, 0, 1]
    assert gradient(np.median, [3.0, 1.0, 2.0, 4.0]) == [0.5, 0, 0.5, 0]


def test_zeros_are_no_poles() -> None:
    assert gradient(np.linalg.norm, [0.0, 0.0]) == [0, 0]
    assert gradient(np.hypot, [0.0, 3.0], [0.0, 4.0]) == [0, 0.6]
    assert gradient(np.std, [2.0, 2.0]) == [0, 0]
    assert gradient(np.prod, [0.0, 3.0, 2.0]) == [6, 0, 0]
    assert gradient(np.cumprod, [2.0, 0.0, 3.0]) == [1, 8, 0]
    assert gradient(np.sinc, [0.0]) == [0]
    np.testing.assert_allclose(gradient(np.linalg.det, [[1.0, 2.0], [2.0, 4.0]]), [[4, -2], [-2, 1]], atol=1e-12)
    assert gradient(np.angle, [2.0j]) == [-0.5]


@pytest.mark.parametrize("size", [1e25, 1e-25])
def test_the_angle_of_any_size_has_a_slope(size: float) -> None:
    np.testing.assert_allclose(
        gradient(np.arctan2, np.float32([3 * size]), np.float32([4 * size])), [0.16 / size], 1e-6
    )


FACTORS: list[tuple[Any, Any]] = [
    (np.linalg.eigh, lambda w, v: (w, v, v)),
    (np.linalg.eig, lambda w, v: (w, v, v)),
    (np.linalg.svd, lambda u, s, vh: (s, u, rules.products.adjoint(vh))),
]


@pytest.mark.parametrize(("function", "parts"), FACTORS)
def test_values_that_are_equal_have_a_gradient(function: Any, parts: Any) -> None:
    """The sum of the squares of the values of x is that of its elements."""
    x = tensor(np.eye(3) * 2, requires_grad=True)
    values, _, _ = parts(*rules.BY_FUNCTION[function](x))
    np.testing.assert_allclose(grad(rules.sum(rules.real(values * values)), x)[0].data, 4 * np.eye(3), atol=1e-12)
    assert gradient(np.linalg.svdvals, np.eye(2)) == [[1, 0], [0, 1]]


@pytest.mark.parametrize(("function", "parts"), [row for row in FACTORS if row[0] is not np.linalg.eig])  # in no order
def test_vectors_beside_equal_values_have_a_gradient(function: Any, parts: Any) -> None:
    """Of the values 5, 2, 2 the first is alone, and so is what belongs to it: f(x) = (first left vector)[1]^2 at diag + e."""
    at = np.diag([5.0, 2.0, 2.0]) if function is not np.linalg.eigh else np.diag([1.0, 2.0, 2.0])

    def projection(x: Any) -> Any:
        _, left, right = parts(*function(x))
        return np.real(left[1, 0] * np.conjugate(right[0, 0]))

    x = tensor(at, requires_grad=True)
    (found,) = grad(projection(x), x)
    step = 1e-6
    for i, j in ((0, 1), (1, 0), (2, 1)):
        moved = [at.copy(), at.copy()]
        for sign, m in zip((1, -1), moved, strict=True):
            m[i, j] += sign * step
            if function is np.linalg.eigh:
                m[j, i] = m[i, j]
        change = (projection(moved[0]) - projection(moved[1])) / (2 * step)
        ours = found.data[i, j] + (found.data[j, i] if function is np.linalg.eigh else 0)
        np.testing.assert_allclose(np.real(ours), change, atol=1e-6)


@pytest.mark.parametrize(("function", "parts"), FACTORS)
def test_vectors_of_equal_values_have_none(function: Any, parts: Any) -> None:
    """The exponential of a matrix has a gradient, which is 0 by 0 in the rule of its factors: NaN, not a wrong number."""
    x = tensor(np.eye(2), requires_grad=True)
    values, left, right = parts(*function(x))
    assert np.isnan(grad(np.real(((left * np.exp(values)) @ right.conj().T)[0, 1]), x)[0].data).any()

    def vectors(x: Any) -> Any:
        return parts(*function(x))[1]

    assert np.isnan(jvp(vectors, [np.eye(2)], [np.array([[0.0, 1.0], [1.0, 0.0]])])[1].data).any()


def test_vectors_that_complete_a_basis_have_none() -> None:
    x = tensor(TALL[0], requires_grad=True)
    u, s, _ = rules.BY_FUNCTION[np.linalg.svd](x)
    assert np.isnan(grad(abs(u[0, 3]), x, retain_graph=True)[0].data).all()
    assert np.isfinite(grad(abs(u[0, 2]) + rules.sum(s), x)[0].data).all()


@pytest.mark.parametrize(
    "values", [(0.0, 0.0), (3.0, 0.0, 0.0), (2.0, 3.0, 0.0, 0.0), (2.0, 3.0, 0.0), (1.0, 1e-9, 1e-9)]
)
def test_second_derivatives_of_determinants_of_any_rank(values: tuple[float, ...]) -> None:
    """Against the polynomial: the sum over permutations, differentiated term by term."""
    q, r = (np.linalg.qr(rng.standard_normal((len(values),) * 2))[0] for _ in range(2))
    x = q * values @ r
    expected = np.zeros(x.shape * 2)
    for order in itertools.permutations(range(len(values))):
        sign = np.linalg.det(np.eye(len(values))[list(order)])
        for i, j in itertools.permutations(range(len(values)), 2):
            expected[i, order[i], j, order[j]] += sign * math.prod(
                x[k, order[k]] for k in range(len(values)) if k not in (i, j)
            )
    np.testing.assert_allclose(hessian(np.linalg.det)(x).data, expected, atol=1e-7)


def test_slopes_at_zero_and_of_single_numbers() -> None:
    for p in (3, 1.5, 0.5, -1, -2, 4, 1, 0, np.inf, -np.inf):
        assert gradient(np.linalg.norm, [0.0, 0.0], p) == [0, 0]
    assert gradient(np.linalg.norm, [0.0, -2.0], 3) == pytest.approx([0, -1])
    assert gradient(np.linalg.norm, [np.inf, 0.0, 1.0], 0) == [0, 0, 0]
    assert gradient(np.nanvar, [np.nan, 2.0]) == gradient(np.nanstd, [np.nan, 2.0]) == [0, 0]
    assert gradient(np.angle, [0j, 2j]) == [0, -0.5]
    assert gradient(np.arctan2, [0.0], [0.0]) == [0]
    assert gradient(np.sum, 2.0, 0) == 1


def test_kinks_have_no_second_derivative() -> None:
    """0, as a subgradient that stays: the true one is infinite, and a formula that cuts only the divisor gives 1."""
    for function in (np.linalg.norm, lambda x: np.hypot(x[0], x[1]), lambda x: np.arctan2(x[0], x[1])):
        assert hessian(function)(np.zeros(2)).tolist() == [[0, 0], [0, 0]]
    assert hessian(np.std)(np.ones(2)).tolist() == [[0, 0], [0, 0]]


def test_products_that_leave_the_range_have_slopes_that_do_not() -> None:
    tiny = [1e-200, 1e-200, 3.0]
    np.testing.assert_allclose(gradient(np.prod, tiny), [3e-200, 3e-200, 0.0], rtol=1e-15)
    np.testing.assert_allclose(gradient(np.cumprod, tiny), [1.0, 4e-200, 0.0], rtol=1e-15)


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_plain_zero_divides_as_an_array_of_zeros() -> None:
    assert gradient(np.divide, [3.0], 0) == gradient(np.divide, [3.0], np.array(0.0)) == [np.inf]
    assert gradient(np.divide, [3.0], -0.0) == [-np.inf]


@pytest.mark.filterwarnings("ignore:Degrees of freedom", "ignore:invalid value", "ignore:divide by zero")
def test_no_degrees_of_freedom_make_nan() -> None:
    for function in (np.var, np.std):
        assert np.isnan(gradient(function, [1.0], None, None, None, 1)).all()
        assert np.isnan(gradient(function, [1.0, 2.0], None, None, None, 3)).all()
    assert np.isnan(np.cov(tensor([[1.0]])).data).all()


def test_nan_that_wins_has_the_gradient() -> None:
    nan = np.nan
    assert gradient(np.max, [1.0, nan, 2.0, nan]) == gradient(np.min, [1.0, nan, 2.0, nan]) == [0, 0.5, 0, 0.5]
    for function in (np.maximum, np.minimum):
        assert gradient(function, [1.0, nan, nan], [nan, 1.0, nan]) == [0, 1, 0.5]
    for function in (np.fmax, np.fmin):
        assert gradient(function, [1.0, nan, nan], [nan, 1.0, nan]) == [1, 0, 0.5]


def test_a_mean_that_is_given_has_a_gradient() -> None:
    x, m = tensor([1.0, 2.0], requires_grad=True), tensor([0.5], requires_grad=True)
    gx, gm = grad(np.var(x, mean=m), [x, m])  # type: ignore[call-overload]
    assert (gx.tolist(), gm.tolist()) == ([0.5, 1.5], [-2.0])


def test_crossed_limits_leave_the_upper_one() -> None:
    x, low, high = (tensor(v, requires_grad=True) for v in ([0.0, 1.5, 3.0, 5.0], 4.0, 2.0))
    gx, glow, ghigh = grad(rules.sum(np.clip(x, low, high)), [x, low, high])  # type: ignore[call-overload]
    assert (gx.tolist(), glow.item(), ghigh.item()) == ([0, 0, 0, 0], 0, 4)


def test_einsum_keeps_the_other_operands_alone() -> None:
    x, y = tensor(S, requires_grad=True), tensor(P.T)
    assert set(rules.BY_FUNCTION[np.einsum]("ij,jk", x, y)._node.saved) == {1}
    assert rules.BY_FUNCTION[np.einsum]("ij->j", x)._node.saved == {}


def test_equal_indices_add_up() -> None:
    assert gradient(np.take, [1.0, 2.0, 3.0], [2, 0, 2]) == [1, 0, 2]
    assert gradient(np.resize, [1.0, 2.0], (3,)) == [2, 1]


# ----- Memory: what shares it is known to, and nothing is changed in secret -----


def test_result_in_the_same_memory_is_a_view() -> None:
    h = tensor([1.0, 2.0], requires_grad=True) * 1
    y = (h * h).sum()
    with no_grad():
        np.astype(h, np.float64, copy=False)[0] = 5
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_results_of_their_own_memory() -> None:
    x = tensor([1.0, 2.0])
    for out in (np.pad(x, 0, mode="edge"), np.astype(x, np.float64), np.tile(x, 1), np.nan_to_num(x)):
        assert not np.shares_memory(out.data, x.data)  # type: ignore[attr-defined]


def test_change_in_place_is_refused() -> None:
    with pytest.raises(RuntimeError, match="copy=False"):
        np.nan_to_num(tensor([np.nan]), copy=False)
