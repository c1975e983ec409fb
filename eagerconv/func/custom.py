"""Functions that the tape sees as one operation: those with a gradient rule of the user's, and checkpoints."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from eagerconv import tree
from eagerconv.autograd import tape
from eagerconv.autograd.keeping import Kept
from eagerconv.autograd.tape import Op, defvjp, joint
from eagerconv.func.transforms import is_numbers, name_of, stand_in
from eagerconv.tensor import Tensor, asarray

__all__ = ["checkpoint", "custom_vjp"]

Fn = Callable[..., Any]


def custom_vjp(pullback: Fn, *, once: bool = False) -> Callable[[Fn], Fn]:
    """Decorate a function with a gradient rule of your own.

    Parameters
    ----------
    pullback : callable
        `pullback(g, ans, *args)` takes the cotangent, the result and the arguments of the function, and returns the
        gradient of each argument, in its form: a tuple where there are several; None means zero. Made of operations on
        Tensors, it can be differentiated again, and forward mode works too.
    once : bool
        The pullback computes on plain arrays: a second derivative, or forward mode, raises instead of being wrong.

    Returns
    -------
    callable
        The decorator. The decorated function takes Tensors, or trees of them, as positional arguments; its body is not
        recorded; it returns one Tensor, or an array.

    Raises
    ------
    TypeError
        From the function, if it returns something else; from a sweep, if the pullback returns too few gradients.
    NotImplementedError
        For a second derivative, with `once`.

    Examples
    --------
    >>> from eagerconv import func
    >>> @custom_vjp(lambda g, ans, x: g)      # the straight-through estimator: rounds, and hides it from the gradient
    ... def quantised(x):
    ...     return x.data.round()
    >>> func.grad(lambda x: quantised(x) ** 2)(1.6)
    tensor(4., dtype=float64)
    """

    def decorate(fn: Fn) -> Fn:
        def rule(g: Any, ans: Any, operands: Any, structure: Any, rest: Any) -> list[Any]:
            with tape.no_grad() if once else contextlib.nullcontext():
                found = pullback(g, ans, *_assembled(structure, operands, rest))
            grads = _gradients(name_of(fn), structure, found, rest)
            return [gradient(g, *operands, cell=[x.data]) if once and x is not None else x for x in grads]

        op = joint(name_of(fn), _from_cell, rule)
        gradient = defvjp(f"the gradient of {name_of(fn)}", _from_cell)  # has no rule, and says so when one is needed

        @functools.wraps(fn)
        def call(*args: Any) -> Any:
            operands, structure, rest = _operands(args)
            with tape.no_grad():
                out = fn(*args)
            if not isinstance(out, (Tensor, np.ndarray, np.generic, float, complex)):
                raise TypeError(f"{name_of(fn)}: expected to return a Tensor or an array, got {type(out).__name__}")
            return _recorded(op, operands, asarray(out), structure=structure, rest=_kept(rest))

        return call

    return decorate


def checkpoint(fn: Fn) -> Fn:
    """Make a function forget what it computed, and compute it again when its gradient is asked.

    A chain of n layers in blocks of sqrt(n) then needs the memory of about 2 sqrt(n) layers instead of n, for one more
    forward pass.

    Parameters
    ----------
    fn : callable
        Takes Tensors, trees of them, and other things; returns a Tensor, or a tree of them (each of which computes the
        function again). Called twice it must do the same: `numpy.random.Generator` arguments are wound back for it.

    Returns
    -------
    callable
        Of the same values and gradients, to any order and in both modes.

    Raises
    ------
    RuntimeError
        From the new function, if `fn` uses Tensors that require a gradient and are not among its arguments.

    Notes
    -----
    Chen et al., "Training deep nets with sublinear memory cost", 2016.

    Examples
    --------
    >>> from eagerconv import func
    >>> layer = checkpoint(lambda p, x: (p["w"] * x) ** 2)
    >>> func.grad(lambda p, x: layer(p, x).sum())({"w": 3.0}, np.array([1.0, 2.0]))
    {'w': tensor(30., dtype=float64)}
    """

    def rule(g: Any, operands: Any, structure: Any, rest: Any, index: int) -> list[Any]:
        inner, value = again(operands, structure, rest)
        nodes = [x._node for x in inner if x._node is not None]
        pulled = tape.backward([tree.leaves(value)[index]], [g], nodes, create_graph=tape.is_grad_enabled())
        return [None if x._node is None else pulled.get(x._node) for x in inner]

    def again(operands: Any, structure: Any, rest: Any) -> tuple[list[Tensor], Any]:
        inner = [stand_in(x) if x.requires_grad else x for x in operands]
        rest = [copy.deepcopy(x) if isinstance(x, np.random.Generator) else x for x in rest]
        args, kwargs = _assembled(structure, inner, rest)
        with tape.enable_grad():
            return inner, fn(*args, **kwargs)

    op = joint(f"checkpoint of {name_of(fn)}", _from_cell, rule)

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        operands, structure, rest = _operands((args, kwargs))
        if not tape.is_grad_enabled():
            return fn(*args, **kwargs)
        begin = _kept([copy.deepcopy(x) if isinstance(x, np.random.Generator) else x for x in rest])
        with tape.no_grad():  # the stand-ins begin a graph of their own
            inner = [stand_in(x) if x.requires_grad else x for x in operands]
        args, kwargs = _assembled(structure, inner, rest)
        outs, form = tree.flatten(fn(*args, **kwargs))
        own = {x._node for x in inner}
        if any(node.op is None and node not in own for node in tape.reachable([out._node for out in outs])):
            raise RuntimeError(
                f"checkpoint: {name_of(fn)} uses a Tensor that requires a gradient and is not among its arguments; "
                "pass it, alone or in a dict, so that it can be found when the function is computed again"
            )
        results = [_recorded(op, operands, out, structure=structure, rest=begin, index=i) for i, out in enumerate(outs)]
        return tree.unflatten(form, results)

    return call


_HERE = object()  # among the leaves without the Tensors: here was one


def _from_cell(*arrays: Any, cell: list[Any], **_: Any) -> Any:
    return cell.pop()  # the node keeps its parameters, and must not keep the result


def _recorded(op: Op, operands: list[Tensor], out: Tensor, **params: Any) -> Any:
    """The result of an operation that was computed already."""
    shared = any(np.may_share_memory(out.data, x.data) for x in operands)
    return op(*operands, cell=[out.data.copy() if shared else out.data], **params) if operands else out.detach()


def _operands(args: Any) -> tuple[list[Tensor], tree.Structure, list[Any]]:
    """The Tensors among the leaves of the arguments, the arguments' structure, and the leaves without the Tensors."""
    leaves, structure = tree.flatten(args, lambda branch: branch is not args and is_numbers(branch))
    return (
        [x for x in leaves if isinstance(x, Tensor)],
        structure,
        [_HERE if isinstance(x, Tensor) else x for x in leaves],
    )


def _assembled(structure: tree.Structure, operands: Sequence[Tensor], rest: Sequence[Any]) -> Any:
    tensors = iter(operands)
    return tree.unflatten(structure, [next(tensors) if x is _HERE else _given(x) for x in rest])


def _kept(rest: Sequence[Any]) -> list[Any]:
    """The leaves without the Tensors for later: their owners may write to arrays until then."""
    return [Kept(x) if isinstance(x, np.ndarray) else x for x in rest]


def _given(leaf: Any) -> Any:
    return leaf.get("an argument of checkpoint or custom_vjp") if isinstance(leaf, Kept) else leaf


def _gradients(name: str, structure: tree.Structure, found: Any, rest: Sequence[Any]) -> list[Any]:
    """One gradient per operand from what a pullback returned: one per argument, of its form, None for zero."""
    count = len(structure.children)
    given = (found,) if count == 1 and not (isinstance(found, tuple) and len(found) == 1) else found
    if not isinstance(given, (tuple, list)) or len(given) != count:
        raise TypeError(f"the pullback of {name} must return {count} gradients, one per argument")
    leaves: list[Any] = []
    for i, (child, value) in enumerate(zip(structure.children, given, strict=True)):
        leaves += [None] * child.size if value is None else tree.flatten_as(child, value, f"gradients[{i}]")
    return [None if x is None else asarray(x) for x, place in zip(leaves, rest, strict=True) if place is _HERE]
