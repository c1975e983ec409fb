"""Matrices of fast convolution: F(m, r) computes m outputs of an r-tap filter with m + r - 1 multiplications.

y = A^T [(G g) * (B^T d)] for d of length m + r - 1 and y[j] = sum over k of d[j + k] g[k]: the Cook-Toom construction,
transposed. Two polynomials are multiplied through their values at m + r - 1 points (one of them infinity); the
transposition of that bilinear algorithm computes correlations.

Source: A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", arXiv 1509.09308; S. Winograd,
"Arithmetic complexity of computations", 1980.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache
from typing import NamedTuple

Matrix = tuple[tuple[float, ...], ...]


class Form(NamedTuple):
    """The three matrices of one F(m, r): data B^T (n, n), filter G (n, r), output A^T (m, n), n = m + r - 1."""

    data: Matrix
    filter: Matrix
    output: Matrix


HALF = Fraction(1, 2)
POINTS: dict[tuple[int, int], tuple[int | Fraction, ...]] = {
    (2, 3): (0, 1, -1),
    (4, 3): (0, 1, -1, 2, -2),
    (4, 2): (0, 1, -1, 2),
    (4, 4): (0, 1, -1, HALF, -HALF, 2),
    (4, 5): (0, 1, -1, 2, -2, HALF, -HALF),
    (1, 1): (),
    (2, 2): (0, 1),
    (2, 4): (0, 1, -1, 2),
    (2, 5): (0, 1, -1, 2, -2),
    (3, 6): (0, 1, -1, 2, -2, HALF, -HALF),
    (4, 7): (0, 1, -1, 2, -2, HALF, -HALF, Fraction(3, 2), Fraction(-3, 2)),
}
"""Where the polynomials are evaluated, infinity left out; small points keep the rounding errors small."""


@cache
def form(m: int, r: int) -> Form:
    """The matrices of F(m, r), computed exactly and rounded once."""
    points = [Fraction(p) for p in POINTS[m, r]]
    n = m + r - 1
    evaluate = _vandermonde(points, n)
    interpolate = _inverse(evaluate)
    data = [[interpolate[j][i] for j in range(n)] for i in range(n)]  # the transpose of interpolation
    filters = _vandermonde(points, r)
    outputs = _vandermonde(points, m)
    for i in range(n):  # move a scale from the data into the filter, so that the data matrix has small whole entries
        scale = math.lcm(*(v.denominator for v in data[i]))
        data[i] = [v * scale for v in data[i]]
        filters[i] = [v / scale for v in filters[i]]
    return Form(_rounded(data), _rounded(filters), _rounded([[outputs[i][j] for i in range(n)] for j in range(m)]))


def _vandermonde(points: list[Fraction], columns: int) -> list[list[Fraction]]:
    """Powers of each point, and the row of infinity, which sees the leading coefficient alone."""
    rows = [[p**j for j in range(columns)] for p in points]
    return [*rows, [Fraction(int(j == columns - 1)) for j in range(columns)]]


def _inverse(matrix: list[list[Fraction]]) -> list[list[Fraction]]:
    """Gauss-Jordan elimination."""
    n = len(matrix)
    rows = [[*row, *(Fraction(int(i == j)) for j in range(n))] for i, row in enumerate(matrix)]
    for c in range(n):
        pivot = next(i for i in range(c, n) if rows[i][c] != 0)
        rows[c], rows[pivot] = rows[pivot], rows[c]
        rows[c] = [v / rows[c][c] for v in rows[c]]
        for i in range(n):
            if i != c:
                rows[i] = [a - rows[i][c] * b for a, b in zip(rows[i], rows[c], strict=True)]
    return [row[n:] for row in rows]


def transposed(matrix: Matrix) -> Matrix:
    """The transpose."""
    return tuple(zip(*matrix, strict=True))


def _rounded(matrix: list[list[Fraction]]) -> Matrix:
    return tuple(tuple(float(v) for v in row) for row in matrix)
