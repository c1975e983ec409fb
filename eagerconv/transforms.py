"""Transformations of functions that users call: grad, vjp and jvp, over the one tape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from eagerconv.autograd import rules, tape
from eagerconv.autograd.tape import Node
from eagerconv.tensor import Tensor, asarray, cotangent

__all__ = ["grad", "jvp", "vjp"]


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
) -> tuple[Any, ...]:
    """Gradients of the outputs with respect to the inputs, leaving every `.grad` alone.

    Parameters
    ----------
    outputs : Tensor or sequence of Tensors
        What to differentiate; the gradients of several outputs are added.
    inputs : Tensor or sequence of Tensors
        Leaves or intermediate results.
    grad_outputs : array_like or sequence of them, optional
        One cotangent per output. May be left out, or None, for outputs of a single element.
    create_graph : bool
        Record the computation, so that the gradients can be differentiated too.
    retain_graph : bool, optional
        Keep what was saved, for another sweep through the same graph. Default: `create_graph`.
    allow_unused : bool
        Return None for an input that no output depends on, instead of raising.

    Returns
    -------
    tuple of Tensors
        One gradient per input, of its shape and dtype.

    Raises
    ------
    RuntimeError
        If an input or output does not require a gradient, an input is unused, a cotangent is missing, the graph was
        used up before, or an array that is needed was changed in place.
    ValueError
        If the number or the shapes of the cotangents do not fit.

    Examples
    --------
    >>> from eagerconv.tensor import tensor
    >>> x = tensor(3.0, requires_grad=True)
    >>> (dx,) = grad(x**3, x, create_graph=True)
    >>> grad(dx, x)
    (tensor(18., dtype=float64),)
    """
    outs, ins = _listed(outputs, "outputs"), _listed(inputs, "inputs")
    given = [None] * len(outs) if grad_outputs is None else _paired(grad_outputs, outputs, outs, "grad_outputs")
    nodes: list[Node] = []
    for i, x in enumerate(ins):
        if x._node is None:
            raise RuntimeError(
                f"grad: inputs[{i}] (shape {x.shape}) does not require a gradient; "
                "make it with requires_grad=True before it is used"
            )
        nodes.append(x._node)
    seeds = [cotangent(out, g, "grad") for out, g in zip(outs, given, strict=True)]
    found = tape.backward(outs, seeds, nodes, create_graph=create_graph, retain_graph=retain_graph)
    for i, node in enumerate(nodes):
        if node not in found and not allow_unused:
            raise RuntimeError(
                f"grad: no output depends on inputs[{i}] (shape {ins[i].shape}); "
                "pass allow_unused=True to get None for it"
            )
    return tuple(found.get(node) for node in nodes)


def vjp(fn: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., tuple[Any, ...]]]:
    """Value of a function, and the function that pulls cotangents of its output back to its arguments.

    Parameters
    ----------
    fn : callable
        Takes the primals as Tensors and returns a Tensor, or a tuple of them.
    *primals : array_like
        The arguments. Those that are not floating or complex are passed on, and get None for a gradient.

    Returns
    -------
    out : Tensor or tuple of Tensors
        `fn(*primals)`, tracked only if something outside requires a gradient.
    pullback : callable
        Takes one cotangent per output and returns one gradient per primal; may be called again and again.

    Raises
    ------
    TypeError
        If `fn` returns something else than Tensors.
    ValueError
        From the pullback, if the number or the shapes of the cotangents do not fit.

    Examples
    --------
    >>> out, pullback = vjp(lambda x, y: x * y, [1.0, 2.0], [3.0, 4.0])
    >>> pullback([1.0, 1.0])
    (tensor([3., 4.], dtype=float64), tensor([1., 2.], dtype=float64))
    """
    inner, value = _trace(fn, primals)
    outs = _listed(value, "the function's output")
    outside = _depends_outside(outs, inner)

    def pullback(*cotangents: Any) -> tuple[Any, ...]:
        if len(cotangents) != len(outs):
            raise ValueError(f"pullback: one cotangent per output, that is {len(outs)}, not {len(cotangents)}")
        seeds = [_like(c, out, f"cotangents[{i}]") for i, (c, out) in enumerate(zip(cotangents, outs, strict=True))]
        record = tape.is_grad_enabled() and (outside or any(seed.requires_grad for seed in seeds))
        nodes = [x._node for x in inner if x._node is not None]
        pulled = tape.backward(outs, seeds, nodes, create_graph=record, retain_graph=True)
        grads = [None if x._node is None else _or_zeros(pulled.get(x._node), x) for x in inner]
        return tuple(_clean(g, inner) for g in grads)

    return _same_form(value, [_clean(out, inner) for out in outs]), pullback


def jvp(fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Value of a function, and its directional derivative: forward mode.

    Parameters
    ----------
    fn : callable
        Takes the primals as Tensors and returns a Tensor, or a tuple of them.
    primals : sequence of array_like
        The arguments.
    tangents : sequence of array_like
        One direction per primal, of its shape; None for zero.

    Returns
    -------
    out, tangent : Tensor or tuple of Tensors
        `fn(*primals)`, and how fast it changes along the tangents. Tracked only if something outside requires a
        gradient; then both can be differentiated again, in either mode.

    Raises
    ------
    TypeError
        If `fn` returns something else than Tensors, or a tangent is given for integers.
    ValueError
        If the number or the shapes of the tangents do not fit.

    Examples
    --------
    >>> jvp(lambda x: x * x, [3.0], [1.0])
    (tensor(9., dtype=float64), tensor(6., dtype=float64))
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise TypeError("jvp: primals and tangents must be a tuple or list, one entry per argument of the function")
    if len(primals) != len(tangents):
        raise ValueError(f"jvp: one tangent per primal, that is {len(primals)}, not {len(tangents)}")
    inner, value = _trace(fn, primals)
    outs = _listed(value, "the function's output")
    nodes, directions = [], []
    for i, (x, t) in enumerate(zip(inner, tangents, strict=True)):
        if t is None:
            continue
        if x._node is None:
            raise TypeError(f"jvp: tangents[{i}] must be None, because primals[{i}] is {x.dtype} and cannot vary")
        nodes.append(x._node)
        directions.append(_like(t, x, f"tangents[{i}]"))
    pushed = [_or_zeros(t, out) for t, out in zip(tape.forward(outs, nodes, directions), outs, strict=True)]
    return tuple(_same_form(value, [_clean(x, inner) for x in results]) for results in (outs, pushed))


def _trace(fn: Callable[..., Any], primals: Sequence[Any]) -> tuple[list[Tensor], Any]:
    """Call `fn`, recorded, on stand-ins for the primals that share their memory and (if recording) their history."""
    outer = tape.is_grad_enabled()
    inner = []
    for primal in primals:
        x = asarray(primal)
        if outer and x.requires_grad:
            x = rules.alias(x)
        else:
            x = x.detach()
            x.requires_grad = tape.inexact(x.dtype)
        inner.append(x)
    with tape.enable_grad():
        return inner, fn(*inner)


def _own_leaves(inner: Sequence[Tensor]) -> set[Node]:
    return {x._node for x in inner if x._node is not None and x._node.op is None}


def _depends_outside(outs: Sequence[Tensor], inner: Sequence[Tensor]) -> bool:
    """Whether the history of `outs` reaches a leaf other than our own stand-ins."""
    own = _own_leaves(inner)
    return any(node.op is None and node not in own for node in tape.reachable([out._node for out in outs]))


def _clean(x: Any, inner: Sequence[Tensor]) -> Any:
    """Without its history, when that ends at our stand-ins or nobody is recording."""
    if x is None or x._node is None or (tape.is_grad_enabled() and _depends_outside([x], inner)):
        return x
    return Tensor._wrap(x.data, None, x._version)


def _or_zeros(x: Tensor | None, like: Tensor) -> Tensor:
    return Tensor._wrap(np.zeros_like(like.data)) if x is None else x


def _like(value: Any, like: Tensor, name: str) -> Tensor:
    x = asarray(value)
    if x.shape != like.shape:
        raise ValueError(f"{name}: expected shape {like.shape}, got {x.shape}")
    return x if x.dtype == like.dtype else tape.fit(x, like)


def _listed(value: Any, name: str) -> list[Tensor]:
    items = list(value) if isinstance(value, (tuple, list)) else [value]
    for item in items:
        if not isinstance(item, Tensor):
            raise TypeError(f"{name}: expected a Tensor or a tuple of Tensors, got {type(item).__name__}")
    return items


def _same_form(value: Any, items: list[Any]) -> Any:
    return tuple(items) if isinstance(value, (tuple, list)) else items[0]


def _paired(given: Any, outputs: Any, outs: list[Tensor], name: str) -> list[Any]:
    """One entry of `given` per output: a single output may come with its bare cotangent."""
    single = not isinstance(outputs, (tuple, list))
    if single and not (isinstance(given, (tuple, list)) and len(given) == 1 and isinstance(given[0], Tensor)):
        return [given]
    items = list(given) if isinstance(given, (tuple, list)) else [given]
    if len(items) != len(outs):
        raise ValueError(f"{name}: one cotangent per output, that is {len(outs)}, not {len(items)}")
    return items
