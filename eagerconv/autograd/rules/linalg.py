"""Linear algebra: inverses, determinants, factorisations, norms, of stacks of matrices.

Formulas: M. Giles, An extended collection of matrix derivative results for forward and reverse mode algorithmic
differentiation (2008); I. Murray, Differentiation of the Cholesky decomposition (2016); J. Townsend, Differentiating
the singular value decomposition (2016); S. Walter and L. Lehmann, Algorithmic differentiation of linear algebra
functions (2010); complex forms and gauges as PyTorch has them. A factorisation has one result on the tape, all its
factors one after another, and what users get are views of it.

Vectors of a factorisation are determined up to a sign or phase: gradients are right for losses that do not depend on that
choice. Those of equal values are determined up to a rotation. Where a loss uses none of them the gradient is right as well,
where it uses one the gradient is NaN: the rules divide a difference of cotangents by one of values, 0 by 0 even if the loss
does not depend on the rotation, and the quotient is not 0 as soon as it uses the values beside them, as any function of a
matrix does.
"""

from __future__ import annotations

import builtins
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from eagerconv.autograd.rules.indexing import getitem
from eagerconv.autograd.rules.operands import Table, kept_shape, narrow, operand, operands, reduced_axes, value, wide
from eagerconv.autograd.rules.products import adjoint, dot, matmul
from eagerconv.autograd.rules.reductions import _max, keep, max, min, prod_others, sum
from eagerconv.autograd.rules.shapes import _concatenate, moveaxis, reshape, tril, triu
from eagerconv.autograd.rules.ufuncs import _share, absolute, conj, equal, imag, isnan, real, sign, where
from eagerconv.autograd.tape import Op, defvjp

# ----- Solving -----

solve: Op = defvjp(
    "solve",
    np.linalg.solve,
    lambda g, x, y, ans: -matmul(_columns(_solve_adjoint(x, g, y), y), adjoint(_columns(ans, y))),
    lambda g, x, y: _solve_adjoint(x, g, y),
)
inv: Op = defvjp(
    "inv",
    np.linalg.inv,
    lambda g, ans: -matmul(matmul(adjoint(ans), g), adjoint(ans)),
    jvp=lambda t, ans: -matmul(matmul(ans, t), ans),
)
pinv: Op = defvjp(  # Golub and Pereyra (1973), at constant rank
    "pinv",
    lambda a, rcond=None: np.linalg.pinv(a, rcond),
    lambda g, x, ans: _pinv_pull(g, x, ans),
)
lstsq_solution = defvjp(
    "lstsq_solution",
    lambda a, b, rcond=None: np.linalg.lstsq(a, b, rcond)[0],
    lambda g, x, y: _pinv_pull(matmul(_columns(g, y), adjoint(_columns(y, y))), x, pinv(x)),
    lambda g, x: matmul(adjoint(pinv(x)), g),
)

# ----- Determinants -----

det: Op = defvjp("det", np.linalg.det, lambda g, x, ans: g[..., None, None] * adjoint(_det_slope(x, ans)))
adjugate: Op = defvjp("adjugate", lambda a: _adjugate(a), lambda g, x: _adjugate_pull(g, x))
slogdet_factors: Op = defvjp(
    "slogdet_factors", lambda a: _joined(np.linalg.slogdet(a), 0), lambda g, x, ans: _slogdet_pull(g, x, ans)
)

# ----- Factorisations -----

cholesky_factor: Op = defvjp("cholesky_factor", np.linalg.cholesky, lambda g, ans: _cholesky_pull(g, ans))
qr_factors: Op = defvjp(
    "qr_factors",
    lambda a, mode="reduced": _joined(np.linalg.qr(a, mode), 2),
    lambda g, x, ans, mode: _qr_pull(g, x, ans, mode),
)
svd_factors: Op = defvjp(
    "svd_factors",
    lambda a, full_matrices=True: _joined(np.linalg.svd(a, full_matrices), 2, 1, 2),
    lambda g, ans, like, full_matrices: _svd_pull(g, ans, like, full_matrices),
)
svdvals: Op = defvjp(
    "svdvals",
    lambda a: np.linalg.svd(a, compute_uv=False),
    lambda g, x: _middle(svd(x, full_matrices=False), g),
)
eigh_factors: Op = defvjp(
    "eigh_factors", lambda a, UPLO="L": _joined(np.linalg.eigh(a, UPLO), 1, 2), lambda g, ans: _eigh_pull(g, ans)
)
eigvalsh: Op = defvjp("eigvalsh", np.linalg.eigvalsh, lambda g, x, UPLO: _eigvalsh_pull(g, x, UPLO))
eig_factors: Op = defvjp("eig_factors", lambda a: _joined(np.linalg.eig(a), 1, 2), lambda g, ans: _eig_pull(g, ans))
eigvals: Op = defvjp("eigvals", np.linalg.eigvals, lambda g, x: _eigvals_pull(g, x))

# ----- Norms -----

norm2: Op = defvjp(  # over all given axes, 0 at 0
    "norm2",
    lambda x, axis=None, keepdims=False: _norm2(x, axis, keepdims),
    lambda g, x, ans, like, axis: keep(g, like, axis) * _share(x, keep(ans, like, axis)),
    jvp=lambda t, x, ans, like, axis, keepdims: sum(
        real(conj(_share(x, keep(ans, like, axis))) * t), axis=axis, keepdims=keepdims
    ),
)


class SlogdetResult(NamedTuple):
    """The sign of a determinant and the logarithm of its absolute value."""

    sign: Any
    logabsdet: Any


class QRResult(NamedTuple):
    """Orthonormal columns and a right triangle."""

    Q: Any
    R: Any


class SVDResult(NamedTuple):
    """Left singular vectors, singular values, right singular vectors as conjugated rows."""

    U: Any
    S: Any
    Vh: Any


class EighResult(NamedTuple):
    """Real eigenvalues in ascending order, and orthonormal eigenvectors as columns."""

    eigenvalues: Any
    eigenvectors: Any


class EigResult(NamedTuple):
    """Eigenvalues, and eigenvectors of length one as columns."""

    eigenvalues: Any
    eigenvectors: Any


def slogdet(a: Any) -> SlogdetResult:
    """The sign and the logarithm of the absolute value of determinants."""
    both = slogdet_factors(a)
    return SlogdetResult(both[..., 0], real(both[..., 1]))


def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    """The triangle L with L L^H = A, or its adjoint U with U^H U = A."""
    return adjoint(cholesky_factor(adjoint(a))) if upper else cholesky_factor(a)


def qr(a: Any, mode: str = "reduced") -> Any:
    """A = Q R, with orthonormal columns in Q and a right triangle R."""
    if mode not in ("reduced", "complete", "r"):
        raise NotImplementedError(f"qr has a derivative for the modes 'reduced', 'complete' and 'r', not for {mode!r}")
    q, r = _qr_parts(qr_factors(a, mode="complete" if mode == "complete" else "reduced"), a.shape, mode)
    return r if mode == "r" else QRResult(q, r)


def svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    """A = U diag(S) Vh, with orthonormal columns in U and rows in Vh."""
    if hermitian:
        raise NotImplementedError("svd has a derivative without hermitian=True; use eigh for Hermitian matrices")
    if not compute_uv:
        return svdvals(a)
    return SVDResult(*_svd_parts(svd_factors(a, full_matrices=full_matrices), a.shape, full_matrices))


def eigh(a: Any, UPLO: str = "L") -> EighResult:
    """A = V diag(w) V^H of a Hermitian matrix, of which one triangle is read."""
    return EighResult(*_eig_parts(eigh_factors(a, UPLO=UPLO), hermitian=True))


def eig(a: Any) -> EigResult:
    """A V = V diag(w)."""
    return EigResult(*_eig_parts(eig_factors(a), hermitian=False))


def _eigvalsh(a: Any, UPLO: str = "L") -> Any:
    return eigvalsh(a, UPLO=UPLO)


def _pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    if hermitian:  # NumPy looks at the lower triangle alone
        a = tril(a, k=0) + adjoint(tril(a, k=-1))
    return pinv(a, rcond=rcond if rtol is None else rtol)


def lstsq(a: Any, b: Any, rcond: Any = None) -> tuple[Any, Any, int, Any]:
    """The x with the smallest |A x - b|, the sums of squared residuals, the rank, and the singular values of A."""
    a, b = operands(a, b)
    x = lstsq_solution(a, b, rcond=rcond)
    _, residuals, rank, _ = np.linalg.lstsq(value(a), value(b), rcond)
    left = _columns(matmul(a, x) - b, b)
    return x, sum(real(conj(left) * left), axis=0) if residuals.size else residuals, rank, svdvals(a)


def tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    """The x with tensordot(a, x, x.ndim) = b."""
    a, b = operands(a, b)
    if axes is not None:
        last = range(a.ndim - len(axes), a.ndim)
        a = moveaxis(a, tuple(axes), tuple(last))
    shape = a.shape[b.ndim - a.ndim :]
    return reshape(solve(reshape(a, shape=(b.size, -1)), reshape(b, shape=(-1,))), shape=shape)


def tensorinv(a: Any, ind: int = 2) -> Any:
    """The inverse of tensordot(a, x, ind)."""
    rows = math.prod(a.shape[ind:])
    return reshape(inv(reshape(a, shape=(rows, -1))), shape=(*a.shape[ind:], *a.shape[:ind]))


def matrix_power(a: Any, n: int) -> Any:
    """A times itself, n times; the inverse for negative n."""
    if n < 0:
        a, n = inv(a), -n
    if n == 0:
        return 0 * a + _eye(a)
    if n == 3:
        return matmul(matmul(a, a), a)
    result = None
    while n:  # by the binary digits of n
        if n % 2:
            result = a if result is None else matmul(result, a)
        n //= 2
        a = matmul(a, a) if n else a
    return result


def multi_dot(arrays: Sequence[Any], *, out: None = None) -> Any:
    """A product of matrices, in the order that takes the fewest multiplications."""
    xs = operands(*arrays)
    if len(xs) == 2:
        return dot(*xs)
    first, last = xs[0].ndim == 1, xs[-1].ndim == 1
    xs[0] = xs[0][None] if first else xs[0]
    xs[-1] = xs[-1][:, None] if last else xs[-1]
    sizes = [xs[0].shape[0], *(x.shape[1] for x in xs)]

    @functools.cache
    def best(i: int, j: int) -> tuple[float, int]:
        """Cost of the product of xs[i] to xs[j], and where to cut it."""
        if i == j:
            return 0, i
        costs = [(best(i, k)[0] + best(k + 1, j)[0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j)]
        return sorted(costs)[0]

    def product(i: int, j: int) -> Any:
        k = best(i, j)[1]
        return xs[i] if i == j else matmul(product(i, k), product(k + 1, j))

    result = product(0, len(xs) - 1)
    result = result[0] if first else result
    return result[..., 0] if last else result


def vector_norm(x: Any, /, *, axis: Any = None, ord: Any = 2, keepdims: bool = False) -> Any:
    """(sum |x|^p)^(1/p) over all given axes."""
    if ord in (None, 2):
        return norm2(x, axis=axis, keepdims=keepdims)
    if narrow(x.dtype):  # powers and their sums
        return vector_norm(wide(x), axis=axis, ord=ord, keepdims=keepdims).astype(x.dtype)
    if ord > 0 and ord % 2 == 0 and x.dtype.kind != "c":  # smooth at 0
        return _root(sum(x**ord, axis=axis, keepdims=keepdims), 1 / ord)
    size = absolute(x)
    if ord in (np.inf, -np.inf):
        return (_largest if ord > 0 else min)(size, axis=axis, keepdims=keepdims)
    if ord == 0:  # how many are not 0, NaN among them
        return sum(sign(where(isnan(size), 1, size)), axis=axis, keepdims=keepdims)
    if ord == 1:
        return sum(size, axis=axis, keepdims=keepdims)
    return _root(sum(_power(size, ord), axis=axis, keepdims=keepdims), 1 / ord)


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    """The norm of matrices in the last two axes."""
    return norm(x, ord, (-2, -1), keepdims)


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """The norm of vectors along one axis, or of matrices in two."""
    if axis is None and (ord is None or x.ndim not in (1, 2)):
        if ord is not None:
            raise ValueError(f"norm: ord={ord} needs axis= for an array of shape {x.shape}")
        return norm2(x, axis=None, keepdims=keepdims)
    axes = reduced_axes(x, axis)
    if len(axes) == 1:
        return vector_norm(x, axis=axes[0], ord=ord, keepdims=keepdims)
    if len(axes) != 2:
        raise ValueError(f"norm: axis must be one axis or two, got {axis}")
    if ord in (None, "fro", "f"):
        return norm2(x, axis=axes, keepdims=keepdims)
    a = moveaxis(x, axes, (-2, -1))
    if ord == "nuc":
        out = sum(svdvals(a), axis=-1)
    elif ord in (2, -2):
        out = (_largest if ord > 0 else min)(svdvals(a), axis=-1)
    elif ord in (1, -1, np.inf, -np.inf):  # sums of columns for 1, of rows for infinity
        sums = sum(absolute(a), axis=-2 if abs(ord) == 1 else -1)
        out = (_largest if ord > 0 else min)(sums, axis=-1)
    else:
        raise ValueError(f"norm: ord={ord!r} is no norm of matrices; use 'fro', 'nuc', 1, -1, 2, -2, inf or -inf")
    return reshape(out, shape=kept_shape(x, axes)) if keepdims else out


FUNCTIONS: Table = {
    np.linalg.cholesky: cholesky, np.linalg.det: det, np.linalg.eig: eig, np.linalg.eigh: eigh,
    np.linalg.eigvals: eigvals, np.linalg.eigvalsh: _eigvalsh, np.linalg.inv: inv, np.linalg.lstsq: lstsq,
    np.linalg.matrix_norm: matrix_norm, np.linalg.matrix_power: matrix_power, np.linalg.multi_dot: multi_dot,
    np.linalg.norm: norm, np.linalg.pinv: _pinv, np.linalg.qr: qr, np.linalg.slogdet: slogdet,
    np.linalg.solve: solve, np.linalg.svd: svd, np.linalg.svdvals: svdvals, np.linalg.tensorinv: tensorinv,
    np.linalg.tensorsolve: tensorsolve, np.linalg.vector_norm: vector_norm,
}  # fmt: skip

# ----- Several results in one -----


def _joined(results: Sequence[Any], *core: int) -> Any:
    """Results one after another: each has its last `core` axes (the last count serves the rest) made one."""
    ndims = [*core, *core[-1:] * (len(results) - len(core))]
    flat = [
        x.reshape(*x.shape[: x.ndim - n], math.prod(x.shape[x.ndim - n :])) for x, n in zip(results, ndims, strict=True)
    ]
    return np.concatenate(flat, axis=-1)


def _parted(joined: Any, *shapes: tuple[int, ...]) -> list[Any]:
    """The results again, as views, by the shapes of their core axes."""
    batch, start, parts = joined.shape[:-1], 0, []
    for shape in shapes:
        stop = start + math.prod(shape)
        parts.append(reshape(getitem(joined, index=(..., slice(start, stop))), shape=(*batch, *shape)))
        start = stop
    return parts


def _qr_parts(joined: Any, shape: tuple[int, ...], mode: str) -> list[Any]:
    m, n = shape[-2:]
    k = m if mode == "complete" else builtins.min(m, n)
    return _parted(joined, (m, k), (k, n))


def _svd_parts(joined: Any, shape: tuple[int, ...], full_matrices: bool) -> tuple[Any, Any, Any]:
    m, n = shape[-2:]
    k = builtins.min(m, n)
    u, s, vh = _parted(joined, (m, m if full_matrices else k), (k,), (n if full_matrices else k, n))
    return u, real(s), vh


def _eig_parts(joined: Any, hermitian: bool) -> tuple[Any, Any]:
    n = (math.isqrt(4 * joined.shape[-1] + 1) - 1) // 2  # n + n * n elements
    w, v = _parted(joined, (n,), (n, n))
    return real(w) if hermitian else w, v


# ----- Parts of rules: adjoint(a) is a^H, and a * w[..., None, :] is a diag(w) -----


def _eye(like: Any) -> Any:
    like = value(like)
    return np.identity(
        like.shape[-1], dtype=like.dtype, like=like
    )  # not `eye`, which passes on what CuPy's does not know


def _diagonal(a: Any) -> Any:
    """The diagonals of square matrices, as vectors."""
    return sum(a * _eye(a), axis=-1)


def _columns(b: Any, like: Any) -> Any:
    """The right-hand side as matrices; NumPy takes it for one vector if it has one axis."""
    return b[..., None] if np.ndim(value(like)) == 1 else b


def _solve_adjoint(a: Any, g: Any, b: Any) -> Any:
    out = solve(adjoint(operand(a)), _columns(g, b))
    return out[..., 0] if np.ndim(value(b)) == 1 else out


def _pinv_pull(g: Any, a: Any, p: Any) -> Any:
    """DP = -P dA P + P P^H dA^H (1 - A P) + (1 - P A) dA^H P^H P."""
    ph, gh = adjoint(p), adjoint(g)
    out = -matmul(matmul(ph, g), ph)
    left = matmul(gh, matmul(p, ph))  # (..., m, n): (1 - A P) g^H P P^H
    right = matmul(matmul(ph, p), gh)  # P^H P g^H (1 - P A)
    return out + left - matmul(a, matmul(p, left)) + right - matmul(matmul(right, p), a)


def _largest(size: Any, axis: Any, keepdims: bool = False) -> Any:
    """The largest of numbers that are not negative, 0 where there are none."""
    return max(size, axis=axis, keepdims=keepdims) if size.size else _max(size, axis, keepdims=keepdims, initial=0)


def _power(size: Any, ord: float) -> Any:
    """Powers of absolute values, whose slope is 0 at 0."""
    none = equal(size, 0)
    return where(none, 0.0 if ord > 0 else np.inf, where(none, 1, size) ** ord)


def _root(total: Any, exponent: float) -> Any:
    """A root of a sum of powers, whose slope is 0 where the root is."""
    none = equal(total, 0 if exponent > 0 else np.inf)
    return where(none, 0, where(none, 1, total) ** exponent)


def _det_slope(a: Any, ans: Any) -> Any:
    """The adjugate det(A) inv(A), as such only if A is far from singular: its derivatives divide by the determinant again."""
    if not (value(ans) == 0).any():
        inverse = inv(a)
        cond = np.linalg.norm(value(a), 1, (-2, -1)) * np.linalg.norm(value(inverse), 1, (-2, -1))
        if (cond < np.finfo(a.dtype).eps ** -0.5).all():
            return ans[..., None, None] * inverse
    return adjugate(a)


def _adjugate(a: Any) -> Any:
    """The adjugate of U S V^H is det(U V^H) V adj(S) U^H, and each entry of adj(S) is the product of all others of S."""
    u, s, vh = np.linalg.svd(a)
    return np.linalg.det(u @ vh)[..., None, None] * ((adjoint(vh) * prod_others(s, -1)[..., None, :]) @ adjoint(u))


def _adjugate_pull(g: Any, a: Any) -> Any:
    """In the basis of the singular vectors, with P[i, j] the product of all singular values but the i-th and j-th.

    d adj[i, j] = -P[i, j] dA[i, j] for i != j, and d adj[i, i] is the sum over k != i of P[i, k] dA[k, k].
    """
    u, s, vh = svd(a)
    eye = _eye(s)
    two_less = prod_others(where(eye, 1, s[..., None, :]), -1) * (1 - eye)  # (..., n, n)
    turn = det(matmul(u, vh))[..., None, None]
    turned = conj(turn) * matmul(matmul(vh, g), u)
    core = matmul(two_less, _diagonal(turned)[..., None]) * eye - two_less * turned
    return matmul(matmul(u, core), vh)


def _slogdet_pull(g: Any, a: Any, ans: Any) -> Any:
    """D log det = d log|det| + i d(angle) = tr(A^-1 dA), and d sign = i sign d(angle)."""
    turn, size = g[..., 0], real(g[..., 1])
    if a.dtype.kind == "c":
        size = size + 1j * imag(conj(ans[..., 0]) * turn)
    return size[..., None, None] * adjoint(inv(a))


def _cholesky_pull(g: Any, ans: Any) -> Any:
    """L^-H phi(L^H g) L^-1, Hermitian; phi takes the lower triangle and half the diagonal."""
    lh = adjoint(ans)
    p = matmul(lh, g)
    p = tril(p, k=0) - 0.5 * p * _eye(p)
    s = solve(lh, adjoint(solve(lh, adjoint(p))))
    return 0.5 * (s + adjoint(s))


def _qr_pull(g: Any, a: Any, ans: Any, mode: str) -> Any:
    m, n = a.shape[-2:]
    if mode == "complete" and m > n:
        raise NotImplementedError("qr in mode 'complete' has no derivative for more rows than columns; use 'reduced'")
    (q, r), (gq, gr) = _qr_parts(ans, a.shape, mode), _qr_parts(g, a.shape, mode)
    if m >= n:
        return _qr_tall(gq, gr, q, r)
    # A = [X | Y]: X = Q U as above, and Q^H Y is the rest of R.
    gq = gq + matmul(a[..., m:], adjoint(gr[..., m:]))
    return _concatenate([_qr_tall(gq, gr[..., :m], q, r[..., :m]), matmul(q, gr[..., m:])], -1)


def _qr_tall(gq: Any, gr: Any, q: Any, r: Any) -> Any:
    t = triu(matmul(gr, adjoint(r)) - matmul(adjoint(q), gq), k=0)
    s = t + adjoint(t) - real(t) * _eye(t)
    return adjoint(solve(r, adjoint(gq + matmul(q, s))))


def _middle(factors: Any, g: Any) -> Any:
    """U diag(g) Vh."""
    return matmul(factors[0] * g[..., None, :], factors[2])


def _svd_pull(g: Any, ans: Any, like: Any, full_matrices: bool) -> Any:
    """U ([skew(U^H gU) S + S skew(V^H gV)] / E + gS) Vh, E[i, j] = s[j]^2 - s[i]^2, and what leaves these spaces."""
    m, n = like.shape[-2:]
    k = builtins.min(m, n)
    u, s, vh = _svd_parts(ans, like.shape, full_matrices)
    gu, gs, gvh = _svd_parts(g, like.shape, full_matrices)
    added = gu[..., k:], gvh[..., k:, :]
    u, gu, vh, gvh = u[..., :k], gu[..., :k], vh[..., :k, :], gvh[..., :k, :]
    row, column = s[..., None, :], s[..., :, None]
    left, right = matmul(adjoint(u), gu), matmul(vh, adjoint(gvh))
    left, right = left - adjoint(left), right - adjoint(right)
    eye = _eye(s)
    used = _used(gu) | _used(adjoint(gvh))
    gaps = _divisors((row - column) * (row + column), _pairs(used))
    core = (left * row + column * right) / gaps * (1 - eye) + gs[..., None, :] * eye
    if np.dtype(like.dtype).kind == "c":
        core = core + left * eye / (2 * _divisors(row, used[..., None, :]))
    out = matmul(matmul(u, core), vh)
    if m > k:
        away = gu / _divisors(row, _used(gu)[..., None, :])
        out = out + matmul(away - matmul(u, matmul(adjoint(u), away)), vh)
    if n > k:
        away = gvh / _divisors(column, _used(adjoint(gvh))[..., :, None])
        out = out + matmul(u, away - matmul(matmul(away, adjoint(vh)), vh))
    for part in added:  # of them any rotation will do
        if k and (value(part) != 0).any():
            out = out + math.nan * sum(part, axis=(-2, -1), keepdims=True)
    return out


def _used(g: Any) -> Any:
    """Which columns the loss depends on: those with a cotangent."""
    return (value(g) != 0).any(-2)


def _pairs(used: Any) -> Any:
    """Whether one at least of two different columns is used."""
    return (used[..., None, :] | used[..., :, None]) & ~np.identity(used.shape[-1], dtype=bool, like=used)


def _divisors(x: Any, used: Any) -> Any:
    """Divisors of what is 0 where nothing is used: there 1 instead of 0, and NaN where a vector that is undetermined is."""
    return where(equal(x, 0), np.where(used, x.dtype.type(np.nan), x.dtype.type(1)), x)


def _gaps(w: Any, g: Any) -> Any:
    """w[j] - w[i], for cotangents of their vectors."""
    return _divisors(w[..., None, :] - w[..., :, None], _pairs(_used(g)))


def _eigh_pull(g: Any, ans: Any) -> Any:
    """V (gw + skew(V^H gV) / E) V^H, Hermitian."""
    (w, v), (gw, gv) = _eig_parts(ans, True), _eig_parts(g, True)
    eye = _eye(w)
    turn = matmul(adjoint(v), gv)
    core = (turn - adjoint(turn)) / (2 * _gaps(w, gv)) * (1 - eye) + gw[..., None, :] * eye
    return matmul(matmul(v, core), adjoint(v))


def _eigvalsh_pull(g: Any, a: Any, uplo: str) -> Any:
    v = eigh(a, uplo).eigenvectors
    return matmul(v * g[..., None, :], adjoint(v))


def _eig_pull(g: Any, ans: Any) -> Any:
    """V^-H (gw + [V^H gV - V^H V Re diag(V^H gV)] / conj(E)) V^H: the second term keeps the columns of length one."""
    (w, v), (gw, gv) = _eig_parts(ans, False), _eig_parts(g, False)
    vh = adjoint(v)
    eye = _eye(w)
    core = matmul(vh, gv)
    core = core - matmul(vh, v * real(_diagonal(core))[..., None, :])
    core = core / conj(_gaps(w, gv)) * (1 - eye) + gw[..., None, :] * eye
    return solve(vh, matmul(core, vh))


def _eigvals_pull(g: Any, a: Any) -> Any:
    vh = adjoint(eig(a).eigenvectors)
    return solve(vh, g[..., :, None] * vh)


def _norm2(x: Any, axis: Any, keepdims: bool) -> Any:
    if narrow(x.dtype):
        return _norm2(wide(x), axis, keepdims).astype(x.dtype)
    if axis is None or isinstance(axis, int) or len(axis) == 2:
        return np.linalg.norm(x, axis=axis, keepdims=keepdims)
    return np.linalg.vector_norm(x, axis=axis, keepdims=keepdims)
