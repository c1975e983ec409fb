"""Values and gradients as PyTorch's, which has the same convention for complex numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import eagerconv as ec

torch = pytest.importorskip("torch")

rng = np.random.default_rng(0)
P = rng.uniform(0.5, 2, (3, 4))
S = rng.standard_normal((3, 4))
U = rng.uniform(-0.9, 0.9, (3, 4))
C, D = (rng.standard_normal((3, 4)) + 1j * rng.standard_normal((3, 4)) for _ in range(2))
M = rng.standard_normal((2, 4, 4))
K = M + 1j * rng.standard_normal((2, 4, 4))
ZERO = S * (rng.uniform(size=(3, 4)) > 0.4)

# One name in both libraries.
ELEMENTWISE: dict[str, list[tuple[Any, ...]]] = {
    "exp": [(S,), (C,)], "expm1": [(S,), (C,)], "log": [(P,), (C,)], "log1p": [(P,), (C,)],
    "log2": [(P,), (C,)], "log10": [(P,), (C,)], "sqrt": [(P,), (C,)], "square": [(S,), (C,)],
    "reciprocal": [(P,), (C,)], "sin": [(S,), (C,)], "cos": [(S,), (C,)], "tan": [(U,), (C,)], "asin": [(U,), (C,)],
    "acos": [(U,), (C,)], "atan": [(S,), (C,)], "sinh": [(S,), (C,)], "cosh": [(S,), (C,)], "tanh": [(S,), (C,)],
    "asinh": [(S,), (C,)], "acosh": [(P + 1,), (C,)], "atanh": [(U,), (C,)], "abs": [(S,), (C,), (ZERO,)],
    "sign": [(S,)], "floor": [(S,)], "real": [(C,)], "imag": [(C,)], "conj": [(C,)],
    "add": [(S, C)], "subtract": [(C, S)], "multiply": [(S, P), (C, D), (S, C)], "divide": [(S, P), (C, D), (C, P)],
    "pow": [(P, S), (C, D), (C, S)], "hypot": [(S, P)], "atan2": [(S, P)], "logaddexp": [(S, P)],
    "maximum": [(S, P), (S, S)], "minimum": [(S, P), (S, S)], "copysign": [(S, -P)],
}  # fmt: skip


def definite(x: Any) -> Any:
    return x @ x.swapaxes(-1, -2).conj() + 3 * np.eye(x.shape[-1])


def projections(xp: Any, v: Any) -> Any:
    """What does not depend on the phase of the columns of v."""
    return (v * xp.asarray(np.arange(1.0, v.shape[-1] + 1))) @ xp.conj(v).mT


def both(results: Any) -> Any:
    """The sum of |results|^2, each with its own weight."""
    total: Any = 0.0
    for i, x in enumerate(results):
        total = total + (i + 1) * (abs(x) ** 2 * (1 + i)).sum()
    return total


# The same call for both: the first argument is the library, and NumPy's functions stand in for names that ours lacks.
CALLS: dict[str, tuple[Callable[..., Any], list[tuple[Any, ...]]]] = {
    "exp2": (lambda xp, x: (np if xp is ec else xp).exp2(x), [(S,), (C,)]),
    "sinc": (lambda xp, x: (np if xp is ec else xp).sinc(x), [(S,), (ZERO,)]),
    "fmax": (lambda xp, x, y: (np if xp is ec else xp).fmax(x, y), [(S, P)]),
    "fmin": (lambda xp, x, y: (np if xp is ec else xp).fmin(x, y), [(S, P)]),
    "sum": (lambda xp, x: xp.sum(x, axis=1), [(S,), (C,)]),
    "mean": (lambda xp, x: xp.mean(x, axis=0, keepdims=True), [(S,), (C,)]),
    "prod": (lambda xp, x: xp.prod(x, axis=1), [(S,), (C,), (ZERO,)]),
    "var": (lambda xp, x: xp.var(x, axis=1, correction=1), [(S,)]),
    "std": (lambda xp, x: xp.std(x, axis=1, correction=0), [(S,)]),
    "amax": (lambda xp, x: xp.max(x) if xp is ec else xp.amax(x, dim=(0, 1)), [(S,), (np.ones((2, 2)),)]),
    "cumsum": (lambda xp, x: (xp.cumulative_sum if xp is ec else xp.cumsum)(x, axis=1), [(S,), (C,)]),
    "cumprod": (lambda xp, x: (xp.cumulative_prod if xp is ec else xp.cumprod)(x, axis=1), [(S,), (C,), (ZERO,)]),
    "diff": (lambda xp, x: xp.diff(x, axis=0), [(S,), (C,)]),
    "flip": (lambda xp, x: (np if xp is ec else xp).flip(x, (0,)), [(S,)]),
    "roll": (lambda xp, x: (np if xp is ec else xp).roll(x, (1, 2), (0, 1)), [(S,)]),
    "tile": (lambda xp, x: xp.tile(x, (2, 1, 3)), [(S,)]),
    "tril": (lambda xp, x: xp.tril(x), [(S,), (C,)]),
    "sort": (lambda xp, x: xp.sort(x, axis=1) if xp is ec else xp.sort(x, dim=1).values, [(S,)]),
    "kron": (lambda xp, x, y: np.kron(x, y) if xp is ec else xp.kron(x, y), [(S, P), (C, D)]),
    "cross": (lambda xp, x, y: xp.linalg.cross(x, y, **({"axis": 0} if xp is ec else {"dim": 0})), [(S, P), (C, D)]),
    "vecdot": (lambda xp, x, y: xp.linalg.vecdot(x, y), [(S, P), (C, D)]),
    "tensordot": (lambda xp, x, y: (np if xp is ec else xp).tensordot(x, y, ([0, 1], [0, 1])), [(S, P), (C, D)]),
    "einsum": (lambda xp, x, y: (np if xp is ec else xp).einsum("ij,kj->ik", x, y), [(S, P), (C, D)]),
    "einsum diagonal": (lambda xp, x: (np if xp is ec else xp).einsum("bii->i", x), [(M,), (K,)]),
    "matrix_power": (lambda xp, x: xp.linalg.matrix_power(x, 3), [(M,), (K,)]),
    "inv": (lambda xp, x: xp.linalg.inv(x), [(M,), (K,)]),
    "pinv": (lambda xp, x: xp.linalg.pinv(x), [(S,), (C,), (M,)]),
    "solve": (lambda xp, x, y: xp.linalg.solve(x, y), [(M, P.T), (K, C.T)]),
    "det": (lambda xp, x: xp.linalg.det(x), [(M,), (K,)]),
    "slogdet": (lambda xp, x: xp.linalg.slogdet(x)[1], [(M,), (K,)]),
    "slogdet, sign": (lambda xp, x: xp.linalg.slogdet(x)[0], [(K,)]),
    "cholesky": (lambda xp, x: both([xp.linalg.cholesky(x)]), [(definite(M),), (definite(K),)]),
    "qr, tall": (lambda xp, x: both(map(xp.real, xp.linalg.qr(x))), [(S.T,), (M,)]),
    "qr, wide": (lambda xp, x: both(xp.linalg.qr(x, mode="reduced")[1:]), [(S,), (C,)]),
    "svd, values": (lambda xp, x: xp.linalg.svdvals(x), [(S,), (C,)]),
    "svd": (lambda xp, x: projections(xp, xp.linalg.svd(x, full_matrices=False)[0]), [(S,), (C,), (M,), (K,), (S.T,)]),
    "svd, rows": (
        lambda xp, x: projections(xp, xp.conj(xp.linalg.svd(x, full_matrices=False)[2]).mT), [(S,), (C,), (S.T,)]
    ),
    "eigh": (lambda xp, x: both(xp.linalg.eigh(x)), [(definite(M),), (definite(K),)]),
    "eigh, vectors": (lambda xp, x: projections(xp, xp.linalg.eigh(x)[1]), [(definite(M),), (definite(K),)]),
    "eigvalsh": (lambda xp, x: xp.linalg.eigvalsh(x), [(definite(M),), (definite(K),)]),
    "norm": (lambda xp, x: xp.linalg.vector_norm(x), [(S,), (C,), (0 * S,)]),
    "norm, 1": (lambda xp, x: xp.linalg.vector_norm(x, ord=1), [(S,), (C,)]),
    "norm, 3": (lambda xp, x: xp.linalg.vector_norm(x, ord=3), [(S,), (C,)]),
    "norm, inf": (lambda xp, x: xp.linalg.vector_norm(x, ord=np.inf), [(S,), (C,)]),
    "norm, nuclear": (lambda xp, x: xp.linalg.matrix_norm(x, ord="nuc"), [(S,), (K,)]),
    "norm, spectral": (lambda xp, x: xp.linalg.matrix_norm(x, ord=2), [(S,), (K,)]),
    "norm, columns": (lambda xp, x: xp.linalg.matrix_norm(x, ord=1), [(S,), (K,)]),
    "fft": (lambda xp, x: xp.fft.fft(x, n=6), [(S,), (C,)]),
    "ifft": (lambda xp, x: xp.fft.ifft(x, n=3, norm="ortho"), [(S,), (C,)]),
    "rfft": (lambda xp, x: xp.fft.rfft(x, norm="forward"), [(S,), (S[:, :3],)]),
    "irfft": (lambda xp, x: xp.fft.irfft(x), [(C,)]),
    "irfft, odd": (lambda xp, x: xp.fft.irfft(x, n=5), [(C,)]),
    "hfft": (lambda xp, x: xp.fft.hfft(x), [(C,)]),
    "ihfft": (lambda xp, x: xp.fft.ihfft(x), [(S,)]),
    "fftn": (lambda xp, x: xp.fft.fftn(x), [(S,), (C,)]),
    "rfftn": (lambda xp, x: xp.fft.rfftn(x), [(S,)]),
    "irfftn": (lambda xp, x: xp.fft.irfftn(x), [(C,)]),
    "fftshift": (lambda xp, x: xp.fft.fftshift(x), [(S,)]),
}  # fmt: skip

ALL = [
    (name, lambda xp, *xs, name=name: getattr(xp, name)(*xs), args)
    for name, cases in ELEMENTWISE.items()
    for args in cases
]
ALL += [(name, function, args) for name, (function, cases) in CALLS.items() for args in cases]


@pytest.mark.parametrize(
    ("function", "args"),
    [pytest.param(function, args, id=f"{name}-{'-'.join(a.dtype.kind for a in args)}") for name, function, args in ALL],
)
def test_as_pytorch(function: Any, args: tuple[Any, ...]) -> None:
    ours = [ec.tensor(a, requires_grad=True) for a in args]
    theirs = [torch.tensor(a, requires_grad=True) for a in args]
    out, reference = function(ec, *ours), function(torch, *theirs)
    np.testing.assert_allclose(out.detach().numpy(), reference.detach().resolve_conj().numpy(), rtol=1e-9, atol=1e-10)
    g = np.random.default_rng(1).standard_normal(out.shape).astype(out.dtype)
    if g.dtype.kind == "c":
        g = g * (1 - 0.5j)
    out.backward(g)
    reference.backward(torch.tensor(g))
    for a, b in zip(ours, theirs, strict=True):
        assert a.grad is not None
        np.testing.assert_allclose(a.grad.numpy(), b.grad.resolve_conj().numpy(), rtol=1e-8, atol=1e-9)
