"""Transformations of functions into functions: gradients, Jacobians, Hessians, checkpoints, rules of one's own.

Arguments and results are Tensors or trees of them (dicts, lists, tuples; see `tree`). Transformations nest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from eagerconv import tree
from eagerconv.autograd import rules, tape
from eagerconv.func.custom import checkpoint, custom_vjp
from eagerconv.func.transforms import Trace, along, check_directions, jvp, name_of, vjp
from eagerconv.mistakes import border
from eagerconv.tensor import Tensor

__all__ = [
    "checkpoint", "custom_vjp", "grad", "hessian", "hvp", "jacobian", "jvp", "value_and_grad", "vjp",
]  # fmt: skip

Fn = Callable[..., Any]
Argnums = int | tuple[int, ...]


def value_and_grad(fn: Fn, argnums: Argnums = 0, has_aux: bool = False) -> Fn:
    """Make the function that computes a scalar function and its gradient.

    Parameters
    ----------
    fn : callable
        Returns a Tensor of one element; with `has_aux` a pair of it and whatever else it wants to tell.
    argnums : int or tuple of ints
        The positional arguments to differentiate in: array_like or trees. The others are passed on as they are.
    has_aux : bool
        Whether `fn` returns such a pair.

    Returns
    -------
    callable
        Takes what `fn` takes and returns (value, gradient), or ((value, aux), gradient). The gradient has the form of
        the argument; for a tuple `argnums`, it is a tuple. Tracked only if something outside requires a gradient.

    Raises
    ------
    TypeError
        From the new function, if there is no such argument or `fn` does not return a Tensor.
    ValueError
        From the new function, if the result has more than one element.

    Examples
    --------
    >>> step = value_and_grad(lambda p, x: ((p["w"] * x + p["b"]) ** 2).sum())
    >>> step({"w": 2.0, "b": 1.0}, np.array([1.0, 2.0]))
    (tensor(34., dtype=float64), {'w': tensor(26., dtype=float64), 'b': tensor(16., dtype=float64)})
    """

    @border
    @functools.wraps(fn)
    def evaluate(*args: Any, **kwargs: Any) -> Any:
        trace = _trace(fn, argnums, args, kwargs, has_aux)
        if len(trace.outs) != 1 or trace.outs[0].size != 1:
            shapes = [out.shape for out in trace.outs]
            raise ValueError(f"{name_of(fn)} must return one number to have a gradient; it returned shapes {shapes}")
        seed = Tensor._wrap(np.ones_like(trace.outs[0].data))
        record = tape.is_grad_enabled() and trace.open
        gradient = _selected(argnums, trace.pull([seed], create_graph=record, retain_graph=record))
        return ((trace.value, trace.aux), gradient) if has_aux else (trace.value, gradient)

    return evaluate


def grad(fn: Fn, argnums: Argnums = 0, has_aux: bool = False) -> Fn:
    """Make the function that computes the gradient of a scalar function; parameters as for `value_and_grad`.

    Returns
    -------
    callable
        Takes what `fn` takes and returns the gradient, or (gradient, aux).

    Examples
    --------
    >>> cube = lambda x: x**3
    >>> grad(grad(cube))(2.0)
    tensor(12., dtype=float64)
    """
    both = value_and_grad(fn, argnums, has_aux)

    @border
    @functools.wraps(fn)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, found = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def jacobian(fn: Fn, argnums: Argnums = 0, mode: str | None = None) -> Fn:
    """Make the function that computes the Jacobian of a function, from one recorded call.

    Parameters
    ----------
    fn : callable
        Returns a Tensor, or a tree of them.
    argnums : int or tuple of ints
        The positional arguments to differentiate in: array_like or trees, floating or complex.
    mode : {None, "rev", "fwd"}
        Row by row in reverse mode, column by column in forward mode; None takes whichever has fewer of them.

    Returns
    -------
    callable
        Takes what `fn` takes. Entry J[o, i] = d out[o] / d x[i], of shape out.shape + x.shape; a tree of results gives
        a tree, and a tree of arguments gives a tree in each of its leaves.

    Raises
    ------
    ValueError
        For an unknown mode.

    Notes
    -----
    For complex arguments the function must be holomorphic.

    Examples
    --------
    >>> jacobian(lambda x: x * x)([1.0, 2.0])
    tensor([[2., 0.],
            [0., 4.]], dtype=float64)
    """
    if mode not in (None, "rev", "fwd"):
        raise ValueError(f"jacobian: mode must be 'rev', 'fwd' or None, not {mode!r}")

    @border
    @functools.wraps(fn)
    def evaluate(*args: Any, **kwargs: Any) -> Any:
        trace = _trace(fn, argnums, args, kwargs)
        size_in, size_out = (sum(x.size for x in xs) for xs in (trace.inner, trace.outs))
        rows = _by_rows if mode == "rev" or (mode is None and size_out <= size_in) else _by_columns
        blocks = [
            _selected(argnums, tree.unflatten(trace.structure, row)) for row in rows(trace)
        ]  # one per output leaf, in the form of the arguments
        return tree.unflatten(trace.form, blocks)

    return evaluate


def _by_rows(trace: Trace) -> list[list[Any]]:
    """Blocks [output][argument] of the Jacobian: each unit cotangent gives a row of every block."""
    table = []
    record = tape.is_grad_enabled() and trace.open
    for k, out in enumerate(trace.outs):
        rows = []
        for unit in _units(out):
            seeds = [unit if j == k else Tensor._wrap(np.zeros_like(o.data)) for j, o in enumerate(trace.outs)]
            grads = trace.pull(seeds, create_graph=record, retain_graph=True)
            rows.append([g.conjugate() for g in tree.flatten_as(trace.structure, grads)])
        table.append([_stacked([row[i] for row in rows], out.shape + x.shape, 0) for i, x in enumerate(trace.inner)])
    return table


def _by_columns(trace: Trace) -> list[list[Any]]:
    """The same blocks: each unit tangent gives a column of every block."""
    columns = []
    for k, x in enumerate(trace.inner):
        pushed = [trace.push([unit if j == k else None for j in range(len(trace.inner))]) for unit in _units(x)]
        parts = [tree.flatten_as(trace.form, p) for p in pushed]
        columns.append(
            [_stacked([part[i] for part in parts], out.shape + x.shape, -1) for i, out in enumerate(trace.outs)]
        )
    return [[column[i] for column in columns] for i in range(len(trace.outs))]


def _units(like: Tensor) -> Any:
    for index in np.ndindex(like.shape):
        unit = np.zeros_like(like.data)
        unit[index] = 1
        yield Tensor._wrap(unit)


def _stacked(parts: Sequence[Tensor], shape: tuple[int, ...], axis: int) -> Tensor:
    if not parts:
        return Tensor._wrap(np.zeros(shape))
    return cast(Tensor, rules.stack(*parts, axis=axis % (parts[0].ndim + 1))).reshape(shape)


def hessian(fn: Fn, argnums: Argnums = 0) -> Fn:
    """Make the function that computes the second derivatives of a scalar function: the Jacobian of its gradient.

    Returns
    -------
    callable
        Takes what `fn` takes. H[i, j] has shape x.shape + x.shape; for a tree, a tree of trees.

    Examples
    --------
    >>> hessian(lambda x: (x**3).sum())([1.0, 2.0])
    tensor([[ 6.,  0.],
            [ 0., 12.]], dtype=float64)
    """
    return jacobian(grad(fn, argnums), argnums)


@border
def hvp(fn: Fn, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, ...]:
    """Product of the Hessian of a scalar function with a direction, at the cost of a few calls of the function.

    Parameters
    ----------
    fn : callable
        Returns a Tensor of one element.
    primals, tangents : sequences of array_like, or of trees of them
        The arguments, and one direction for each (None for zero).

    Returns
    -------
    tuple
        One product per argument, in its form.

    Notes
    -----
    Forward mode over reverse mode: Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6 (1994).

    Examples
    --------
    >>> hvp(lambda x: (x**3).sum(), [[1.0, 2.0]], [[1.0, 1.0]])
    (tensor([ 6., 12.], dtype=float64),)
    """
    check_directions("hvp", primals, tangents)
    gradient = grad(fn, tuple(range(len(primals))))
    return cast(tuple[Any, ...], along("hvp", gradient, primals, tangents)[1])


def _trace(fn: Fn, argnums: Argnums, args: tuple[Any, ...], kwargs: dict[str, Any], has_aux: bool = False) -> Trace:
    """Record `fn` as a function of the chosen arguments alone."""
    chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if any(not -len(args) <= i < len(args) for i in chosen):
        raise TypeError(
            f"{name_of(fn)} was called with {len(args)} positional arguments: there is no argnums={argnums}"
        )
    places = [i % len(args) for i in chosen]

    def of_chosen(*values: Any) -> Any:
        whole = list(args)
        for i, value in zip(places, values, strict=True):
            whole[i] = value
        return fn(*whole, **kwargs)

    return Trace(of_chosen, [args[i] for i in places], has_aux)


def _selected(argnums: Argnums, values: tuple[Any, ...]) -> Any:
    return values[0] if isinstance(argnums, int) else values
