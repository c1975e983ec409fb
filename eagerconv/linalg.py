"""Linear algebra: products, decompositions, solutions, norms, under the names of the array API standard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from eagerconv.tensor import Axis, Tensor, asarray
from eagerconv.wrapping import apply, documented

__all__ = [
    "EigResult", "EighResult", "QRResult", "SVDResult", "SlogdetResult",
    "cholesky", "cross", "det", "diagonal", "eig", "eigh", "eigvals", "eigvalsh", "inv", "matmul", "matrix_norm",
    "matrix_power", "matrix_rank", "matrix_transpose", "outer", "pinv", "qr", "slogdet", "solve", "svd", "svdvals", "tensordot",
    "trace", "vecdot", "vector_norm",
]  # fmt: skip

_MATRIX = "array_like, shape (..., m, n)\n    A matrix, or a stack of them."
_SQUARE = "array_like, shape (..., n, n)\n    A square matrix, or a stack of them."
_HERMITIAN = "array_like, shape (..., n, n)\n    Symmetric or Hermitian; only the lower triangle is looked at."
_VECTORS = "int\n    The axis of the vectors."


class EigResult(NamedTuple):
    """What `eig` gives."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class EighResult(NamedTuple):
    """What `eigh` gives."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class QRResult(NamedTuple):
    """What `qr` gives."""

    Q: Tensor
    R: Tensor


class SlogdetResult(NamedTuple):
    """What `slogdet` gives."""

    sign: Tensor
    logabsdet: Tensor


class SVDResult(NamedTuple):
    """What `svd` gives."""

    U: Tensor
    S: Tensor
    Vh: Tensor


# ----- Products -----


@documented(
    x1="array_like, shape (..., m, k) or (k,)\n    Left factor.",
    x2="array_like, shape (..., k, n) or (k,)\n    Right factor.",
    returns="Tensor, shape (..., m, n)\n    Without m or n where that factor has a single axis.",
)
def matmul(x1: Any, x2: Any, /) -> Tensor:
    """Matrix product over the last two axes, as `x1 @ x2`; axes before them broadcast.

    >>> matmul([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0])
    tensor([3., 7.], dtype=float64)
    """
    return asarray(x1) @ asarray(x2)


@documented(
    axes="int or pair of sequences of ints\n    How many last axes of x1 and first of x2, or which of each, are summed over."
)
def tensordot(x1: Any, x2: Any, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """Sum of products over pairs of axes.

    >>> tensordot([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0], axes=1)
    tensor([3., 7.], dtype=float64)
    """
    return cast(Tensor, apply(np.tensordot, asarray(x1), asarray(x2), axes=axes))


@documented(
    subscripts="str\n    Letters for the axes of each operand, and of the result after `->`.",
    operands="array_like\n    As many as there are groups of letters.",
)
def einsum(subscripts: str, /, *operands: Any) -> Tensor:
    """Sums of products by the summation convention of Einstein.

    >>> einsum("ij,j->i", [[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0])
    tensor([3., 7.], dtype=float64)
    """
    return cast(Tensor, apply(np.einsum, subscripts, *[asarray(x) for x in operands]))


@documented(axis=_VECTORS)
def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Tensor:
    """Scalar products of vectors, those of x1 conjugate.

    >>> vecdot([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0])
    tensor([3., 7.], dtype=float64)
    """
    return cast(Tensor, apply(np.linalg.vecdot, asarray(x1), asarray(x2), axis=axis))


@documented(x1="array_like, shape (m,)\n    A vector.", x2="array_like, shape (n,)\n    Another.")
def outer(x1: Any, x2: Any, /) -> Tensor:
    """All products of the elements of two vectors.

    >>> outer([1, 2], [3, 4])
    tensor([[3, 4],
            [6, 8]], dtype=int64)
    """
    return cast(Tensor, apply(np.linalg.outer, asarray(x1), asarray(x2)))


@documented(axis="int\n    The axis of the vectors, of length three.")
def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Tensor:
    """Vector products in space.

    >>> cross([1, 0, 0], [0, 1, 0])
    tensor([0, 0, 1], dtype=int64)
    """
    return cast(Tensor, apply(np.linalg.cross, asarray(x1), asarray(x2), axis=axis))


@documented(x=_SQUARE, n="int\n    The exponent; a negative one inverts.")
def matrix_power(x: Any, n: int, /) -> Tensor:
    """Multiply a matrix with itself.

    >>> matrix_power([[1, 1], [0, 1]], 3)
    tensor([[1, 3],
            [0, 1]], dtype=int64)
    """
    return cast(Tensor, apply(np.linalg.matrix_power, asarray(x), n))


# ----- Parts -----


@documented(x=_MATRIX)
def matrix_transpose(x: Any, /) -> Tensor:
    """Exchange the last two axes; a view.

    >>> matrix_transpose([[1, 2], [3, 4]])
    tensor([[1, 3],
            [2, 4]], dtype=int64)
    """
    return asarray(x).mT


@documented(x=_MATRIX)
def diagonal(x: Any, /, *, offset: int = 0) -> Tensor:
    """The diagonal of the last two axes.

    >>> diagonal([[1, 2], [3, 4]])
    tensor([1, 4], dtype=int64)
    """
    return cast(Tensor, apply(np.linalg.diagonal, asarray(x), offset=offset))


@documented(x=_MATRIX)
def trace(x: Any, /, *, offset: int = 0, dtype: npt.DTypeLike | None = None) -> Tensor:
    """The sum of the diagonal of the last two axes.

    >>> trace([[1, 2], [3, 4]])
    tensor(5, dtype=int64)
    """
    return cast(Tensor, apply(np.linalg.trace, asarray(x), offset=offset, dtype=dtype))


# ----- Solutions -----


@documented(
    x1="array_like, shape (..., n, n)\n    The matrix.",
    x2="array_like, shape (n,) or (..., n, k)\n    One right-hand side, or the columns of a matrix.",
)
def solve(x1: Any, x2: Any, /) -> Tensor:
    """Solve x1 @ x = x2 for x.

    >>> solve([[2.0, 0.0], [0.0, 4.0]], [2.0, 2.0])
    tensor([1. , 0.5], dtype=float64)
    """
    return cast(Tensor, apply(np.linalg.solve, asarray(x1), asarray(x2)))


@documented(x=_SQUARE)
def inv(x: Any, /) -> Tensor:
    """The inverse.

    >>> inv([[2.0, 0.0], [0.0, 4.0]])
    tensor([[0.5 , 0.  ],
            [0.  , 0.25]], dtype=float64)
    """
    return cast(Tensor, apply(np.linalg.inv, asarray(x)))


@documented(x=_MATRIX)
def pinv(x: Any, /, *, rtol: Any = None) -> Tensor:
    """The pseudo-inverse, of Moore and Penrose.

    >>> pinv([[2.0], [0.0]])
    tensor([[0.5, 0. ]], dtype=float64)
    """
    return cast(Tensor, apply(np.linalg.pinv, asarray(x), **({} if rtol is None else {"rtol": rtol})))


@documented(x=_SQUARE)
def det(x: Any, /) -> Tensor:
    """The determinant.

    >>> det([[2.0, 0.0], [0.0, 4.0]])
    tensor(8., dtype=float64)
    """
    return cast(Tensor, apply(np.linalg.det, asarray(x)))


@documented(x=_SQUARE, returns="(sign, logabsdet), each a Tensor")
def slogdet(x: Any, /) -> SlogdetResult:
    """Sign, and logarithm of the absolute value, of the determinant, which may be out of range itself.

    >>> slogdet([[1e200, 0.0], [0.0, 1e200]]).logabsdet
    tensor(921.0340372, dtype=float64)
    """
    return SlogdetResult(*apply(np.linalg.slogdet, asarray(x)))


@documented(x=_MATRIX)
def matrix_rank(x: Any, /, *, rtol: Any = None) -> Tensor:
    """The number of singular values that are not zero.

    >>> matrix_rank([[1.0, 2.0], [2.0, 4.0]])
    tensor(1, dtype=int64)
    """
    return cast(Tensor, apply(np.linalg.matrix_rank, asarray(x), **({} if rtol is None else {"rtol": rtol})))


# ----- Decompositions -----


@documented(x=_HERMITIAN, upper="bool\n    Give the upper factor, and look at the upper triangle.")
def cholesky(x: Any, /, *, upper: bool = False) -> Tensor:
    """The lower triangular L with L @ L.mT.conj() = x, for a positive definite x.

    >>> cholesky([[4.0, 0.0], [0.0, 9.0]])
    tensor([[2., 0.],
            [0., 3.]], dtype=float64)
    """
    return cast(Tensor, apply(np.linalg.cholesky, asarray(x), **({"upper": True} if upper else {})))


@documented(
    x=_MATRIX,
    mode='{"reduced", "complete"}\n    Q with min(m, n) columns, or square.',
    returns="(Q, R), each a Tensor",
)
def qr(x: Any, /, *, mode: str = "reduced") -> QRResult:
    """Columns that are orthonormal, and the upper triangular factor with Q @ R = x.

    >>> qr([[2.0, 0.0], [0.0, 3.0]]).R.shape
    (2, 2)
    """
    return QRResult(*apply(np.linalg.qr, asarray(x), mode=mode))


@documented(
    x=_MATRIX, full_matrices="bool\n    Square U and Vh, else min(m, n) columns and rows.", returns="(U, S, Vh)"
)
def svd(x: Any, /, *, full_matrices: bool = True) -> SVDResult:
    """Singular value decomposition, (U * S) @ Vh = x, largest singular values first.

    >>> svd([[3.0, 0.0], [0.0, 4.0]]).S
    tensor([4., 3.], dtype=float64)
    """
    return SVDResult(*apply(np.linalg.svd, asarray(x), full_matrices=full_matrices))


@documented(x=_MATRIX)
def svdvals(x: Any, /) -> Tensor:
    """Singular values, largest first.

    >>> svdvals([[3.0, 0.0], [0.0, 4.0]])
    tensor([4., 3.], dtype=float64)
    """
    return cast(Tensor, apply(np.linalg.svdvals, asarray(x)))


@documented(
    x=_SQUARE, returns="(eigenvalues, eigenvectors), each a complex Tensor\n    In no order; vectors in columns."
)
def eig(x: Any, /) -> EigResult:
    """Eigenvalues and eigenvectors of any square matrix.

    >>> eig([[0.0, 1.0], [-1.0, 0.0]]).eigenvalues
    tensor([0.+1.j, 0.-1.j], dtype=complex128)
    """
    return EigResult(*(_complex(part) for part in apply(np.linalg.eig, asarray(x))))


@documented(x=_SQUARE, returns="complex Tensor\n    In no order.")
def eigvals(x: Any, /) -> Tensor:
    """Eigenvalues of any square matrix.

    >>> eigvals([[2.0, 1.0], [0.0, 3.0]])
    tensor([2.+0.j, 3.+0.j], dtype=complex128)
    """
    return _complex(apply(np.linalg.eigvals, asarray(x)))


def _complex(x: Any) -> Tensor:
    """NumPy gives real numbers where no eigenvalue is complex: the dtype should not depend on the values."""
    return cast(Tensor, x.astype(np.result_type(x.dtype, np.complex64)))


@documented(x=_HERMITIAN, returns="(eigenvalues, eigenvectors), each a Tensor\n    Smallest first; vectors in columns.")
def eigh(x: Any, /) -> EighResult:
    """Eigenvalues and eigenvectors of a symmetric or Hermitian matrix.

    >>> eigh([[2.0, 0.0], [0.0, 1.0]]).eigenvalues
    tensor([1., 2.], dtype=float64)
    """
    return EighResult(*apply(np.linalg.eigh, asarray(x)))


@documented(x=_HERMITIAN)
def eigvalsh(x: Any, /) -> Tensor:
    """Eigenvalues of a symmetric or Hermitian matrix, smallest first.

    >>> eigvalsh([[2.0, 0.0], [0.0, 1.0]])
    tensor([1., 2.], dtype=float64)
    """
    return cast(Tensor, apply(np.linalg.eigvalsh, asarray(x)))


# ----- Norms -----


@documented(
    x=_MATRIX,
    ord='{"fro", "nuc", 1, -1, 2, -2, inf, -inf}\n    Root of the sum of squares, sum of the singular values, largest or '
    "smallest\n    column sum (1), singular value (2) or row sum (inf).",
)
def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Tensor:
    """Norm of a matrix, over the last two axes.

    >>> matrix_norm([[3.0, 0.0], [0.0, 4.0]])
    tensor(5., dtype=float64)
    """
    return cast(Tensor, apply(np.linalg.matrix_norm, asarray(x), keepdims=keepdims, ord=ord))


@documented(
    ord="float\n    The p of the p-norm; inf and -inf: largest and smallest absolute value; 0: how many are not zero."
)
def vector_norm(x: Any, /, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """Norm of vectors along the given axes, or of all elements.

    >>> vector_norm([3.0, 4.0])
    tensor(5., dtype=float64)
    """
    return cast(Tensor, apply(np.linalg.vector_norm, asarray(x), axis=axis, keepdims=keepdims, ord=ord))
