"""How far the values inside Winograd's forms stray from operands and results: the range in which they are safe.

Apart from cooktoom.py, which kernel sources import: what they import compiles them again when it changes.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from functools import cache
from math import prod
from typing import NamedTuple

from eagerconv.kernels_cpu.cooktoom import form, transposed
from eagerconv.record import Range, Request, range_of


class Extremes(NamedTuple):
    """What one axis does to sizes.

    growth : the most by which any value on the way is larger than the largest of max|a|, sum|b| and max|a| * sum|b|.
    loss : the most by which what is lost below the normal numbers is larger in the result, see `record.range_of`.
    """

    growth: float
    loss: float


@cache
def extremes(m: int, r: int, weights: bool) -> Extremes:
    """The extremes of F(m, r): a is the data, b the filters, or for the gradient with respect to `weights` the outputs.

    With absolute values throughout: a number of the transformed a is at most the sum of the matrix's row times max|a|, the sum
    of those of b at most the row's largest entry times sum|b|, and a result the sum over the frequencies of both times the
    output's entry. With several axes each stage is one such step on each axis, so that extremes multiply.

    The data's matrix is of whole numbers, so that nothing is lost there. A number of b is rounded once on each axis, and grows
    on the second one by an entry; products are rounded once, and then grow by the output's entries alone.
    """
    data, filters, output = form(m, r)
    second, last = (transposed(output), transposed(filters)) if weights else (filters, output)
    rows = [sum(map(abs, row)) for row in data]
    entries = [max(map(abs, row)) for row in second]
    products = list(map(operator.mul, rows, entries))
    results, losses = (max(_absolute_sum(row, values) for row in last) for values in (products, rows))
    return Extremes(max(1.0, *rows, *entries, *products, results), losses * max(1.0, *entries))


def _absolute_sum(row: tuple[float, ...], values: list[float]) -> float:
    return sum(abs(a) * b for a, b in zip(row, values, strict=True))


def range_of_forms(request: Request, forms: Iterable[tuple[int, int]]) -> Range:
    """The range of a request that is computed by one F(m, r) along each axis."""
    growths, losses = zip(*(extremes(m, r, request.slot == "w") for m, r in forms), strict=True)
    return range_of(request, prod(growths), prod(losses))
