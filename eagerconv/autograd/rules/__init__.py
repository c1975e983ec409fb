"""The rule tables: every operation on one row, with its derivative beside it; one file for each subject.

How to read and write a row is told by `tape.Op`: the parameter names of a rule say what it is given, and whatever
broadcasts or changes dtype needs no mention. Rules use operations of these files only, so every row can be
differentiated again, and a function that is made of rows needs no row of its own. `BY_FUNCTION` finds the row, or that
function, of a function of NumPy. tests/test_rules.py checks each of them, in both modes and to second order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from eagerconv.autograd.rules import (
    calculus,
    fft,
    indexing,
    linalg,
    products,
    reductions,
    shapes,
    sorting,
    statistics,
    ufuncs,
)
from eagerconv.autograd.rules.calculus import *  # noqa: F403  # its rows
from eagerconv.autograd.rules.fft import *  # noqa: F403  # its rows
from eagerconv.autograd.rules.indexing import *  # noqa: F403  # its rows
from eagerconv.autograd.rules.linalg import *  # noqa: F403  # its rows
from eagerconv.autograd.rules.operands import Table
from eagerconv.autograd.rules.products import *  # noqa: F403  # its rows
from eagerconv.autograd.rules.reductions import *  # noqa: F403  # its rows
from eagerconv.autograd.rules.shapes import *  # noqa: F403  # its rows
from eagerconv.autograd.rules.sorting import *  # noqa: F403  # its rows
from eagerconv.autograd.rules.statistics import *  # noqa: F403  # its rows
from eagerconv.autograd.rules.ufuncs import *  # noqa: F403  # its rows
from eagerconv.autograd.tape import Op, parameters

_TABLES = (ufuncs, indexing, shapes, reductions, sorting, products, statistics, calculus, linalg, fft)


def table() -> dict[str, Op]:
    """Every row by its variable name; the tests are generated from it."""
    rows = {name: row for module in _TABLES for name, row in vars(module).items() if isinstance(row, Op)}
    return {name: row for name, row in rows.items() if not name.startswith("_")}


def functions() -> Table:
    """Every function and ufunc of NumPy that has a row, or is made of rows, with that row or function."""
    found: Table = {row.fn: row for row in table().values() if isinstance(row.fn, np.ufunc)}
    for module in _TABLES:
        found.update(module.FUNCTIONS)
    return found


def _called_as(function: Callable[..., Any], row: Op) -> Callable[..., Any]:
    """The row, called as the function of NumPy: parameters may come by position, operands by name."""
    names, arity = list(parameters(function)), len(row.rules)
    if not names:
        return row  # written in C, it takes operands by position alone

    def call(*args: Any, **kwargs: Any) -> Any:
        if len(args) != arity:
            kwargs.update(zip(names, args, strict=False))
            if missing := [name for name in names[:arity] if name not in kwargs]:
                raise TypeError(f"{row.name}: {', '.join(missing)} not given")
            args = tuple(kwargs.pop(name) for name in names[:arity])
        return row(*args, **kwargs)

    return call


# From functions and ufuncs of NumPy to what computes them with a gradient, called in the same way.
BY_FUNCTION: dict[Callable[..., Any], Callable[..., Any]] = {
    function: _called_as(function, row) if isinstance(row, Op) and not isinstance(function, np.ufunc) else row
    for function, row in functions().items()
}
