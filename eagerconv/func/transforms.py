"""Transformations of functions that users call: grad, vjp and jvp, over the one tape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from eagerconv import tree
from eagerconv.autograd import rules, tape
from eagerconv.autograd.tape import Node
from eagerconv.mistakes import answering, border, refuse_missing
from eagerconv.tensor import Tensor, asarray, cotangent

__all__ = ["grad", "jvp", "vjp"]


@answering
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
    if callable(outputs):
        raise TypeError(
            "grad: outputs must be Tensors, not a function; for the gradient of a function write func.grad(fn)(x)"
        )
    refuse_missing("grad", "outputs", outputs)
    refuse_missing("grad", "inputs", inputs)
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


def vjp(fn: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """Value of a function, and the function that pulls cotangents of its output back to its arguments.

    Parameters
    ----------
    fn : callable
        Takes the primals as Tensors and returns a Tensor, or a tree of them (dicts, lists, tuples).
    *primals : array_like, or trees of them
        The arguments. A list of numbers is an array; a list or dict of Tensors or arrays is a tree. Those that are not
        floating or complex are passed on, and get None for a gradient.
    has_aux : bool
        `fn` returns a pair: what to differentiate, and whatever else it wants to tell.

    Returns
    -------
    out : Tensor or tree of Tensors
        `fn(*primals)`, tracked only if something outside requires a gradient.
    pullback : callable
        Takes one cotangent for the output, or for each of a tuple's or list's entries, and returns one gradient per
        primal, trees for trees; may be called again and again.
    aux
        Only with `has_aux`.

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
    trace = Trace(fn, primals, has_aux)

    @border
    def pullback(*cotangents: Any) -> tuple[Any, ...]:
        seeds = trace.seeds(cotangents, "cotangents")
        record = tape.is_grad_enabled() and (trace.open or any(seed.requires_grad for seed in seeds))
        return trace.pull(seeds, create_graph=record, retain_graph=True)

    return (trace.value, pullback, trace.aux) if has_aux else (trace.value, pullback)


@border
def jvp(fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Value of a function, and its directional derivative: forward mode.

    Parameters
    ----------
    fn : callable
        Takes the primals as Tensors and returns a Tensor, or a tree of them (dicts, lists, tuples).
    primals : sequence of array_like, or of trees of them
        The arguments; a list of numbers is an array.
    tangents : sequence of array_like, or of trees of them
        One direction per primal, of its shape; None for zero.

    Returns
    -------
    out, tangent : Tensor or tree of Tensors
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
    check_directions("jvp", primals, tangents)
    return along("jvp", fn, primals, tangents)


def check_directions(caller: str, primals: Any, tangents: Any) -> None:
    """Refuse primals and tangents that are no sequences of one entry per argument."""
    for name, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, (tuple, list)):
            raise TypeError(
                f"{caller}: {name} must be a tuple or list with one entry per argument of the function, not "
                f"{type(given).__name__}; for a function of one argument write {caller}(fn, (x,), (v,))"
            )
    if len(primals) != len(tangents):
        raise ValueError(f"{caller}: one tangent per primal, that is {len(primals)}, not {len(tangents)}")


def along(caller: str, fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """What `jvp` returns, for a `caller` by which errors call it."""
    trace = Trace(fn, primals)
    return trace.value, trace.push(trace.directions(tangents, caller))


class Trace:
    """One recorded call of a function, which can be swept in both directions, again and again.

    The function is given stand-ins for its arguments that share their memory and (when recording) their history.
    """

    def __init__(self, fn: Callable[..., Any], primals: Sequence[Any], has_aux: bool = False) -> None:
        primals = tuple(primals)
        leaves, self.structure = tree.flatten(primals, lambda branch: branch is not primals and is_numbers(branch))
        self.inner = [stand_in(leaf) for leaf in leaves]
        with tape.enable_grad():
            result = fn(*tree.unflatten(self.structure, self.inner))
        if has_aux and not (isinstance(result, (tuple, list)) and len(result) == 2):
            raise TypeError("with has_aux=True the function must return a pair: what to differentiate, and the rest")
        value, aux = result if has_aux else (result, None)
        self.many = type(value) in (tuple, list)
        self.outs, self.form = tree.flatten(value)
        for out in self.outs:
            if not isinstance(out, Tensor):
                raise TypeError(
                    f"the function's output: expected a Tensor or a tree of Tensors, got {type(out).__name__}"
                )
        self.open = self._depends_outside(self.outs)
        self.value = tree.unflatten(self.form, [self._clean(out) for out in self.outs])
        self.aux = tree.map(lambda x: self._clean(x) if isinstance(x, Tensor) else x, aux)

    def seeds(self, given: Sequence[Any], name: str) -> list[Tensor]:
        """Cotangents as given, one or one per entry of a tuple, for each output."""
        count = len(self.form.children) if self.many else 1
        if len(given) != count:
            raise ValueError(f"pullback: one cotangent per output, that is {count}, not {len(given)}")
        values = tree.flatten_as(self.form, given if self.many else given[0], name)
        return [_like(c, out, f"{name}[{i}]") for i, (c, out) in enumerate(zip(values, self.outs, strict=True))]

    def pull(self, seeds: Sequence[Tensor], create_graph: bool, retain_graph: bool) -> tuple[Any, ...]:
        """Gradients of the arguments, in their form; None for integers."""
        nodes = [x._node for x in self.inner if x._node is not None]
        pulled = tape.backward(self.outs, seeds, nodes, create_graph=create_graph, retain_graph=retain_graph)
        grads = [None if x._node is None else self._clean(_or_zeros(pulled.get(x._node), x)) for x in self.inner]
        return cast(tuple[Any, ...], tree.unflatten(self.structure, grads))

    def directions(self, given: Sequence[Any], caller: str) -> list[Tensor | None]:
        """Tangents as given, one for each leaf of the arguments."""
        whole = [
            [None] * child.size if t is None else tree.flatten_as(child, t, f"{caller}: tangents[{i}]")
            for i, (child, t) in enumerate(zip(self.structure.children, given, strict=True))
        ]
        found: list[Tensor | None] = []
        for i, (x, t) in enumerate(zip(self.inner, [t for part in whole for t in part], strict=True)):
            if t is not None and x._node is None:
                raise TypeError(
                    f"{caller}: tangents[{i}] must be None, because primals[{i}] is {x.dtype} and cannot vary"
                )
            found.append(None if t is None else _like(t, x, f"{caller}: tangents[{i}]"))
        return found

    def push(self, directions: Sequence[Tensor | None]) -> Any:
        """The tangents of the outputs, in their form."""
        moving = [
            (x._node, t) for x, t in zip(self.inner, directions, strict=True) if x._node is not None and t is not None
        ]
        found = tape.forward(self.outs, [node for node, _ in moving], [t for _, t in moving])
        pushed = [self._clean(_or_zeros(t, out)) for t, out in zip(found, self.outs, strict=True)]
        return tree.unflatten(self.form, pushed)

    def _depends_outside(self, outs: Sequence[Tensor]) -> bool:
        """Whether the history of `outs` reaches a leaf other than our own stand-ins."""
        own = {x._node for x in self.inner if x._node is not None and x._node.op is None}
        return any(node.op is None and node not in own for node in tape.reachable([out._node for out in outs]))

    def _clean(self, x: Tensor) -> Tensor:
        """Without its history, when that ends at our stand-ins or nobody is recording."""
        if x._node is None or (tape.is_grad_enabled() and self._depends_outside([x])):
            return x
        return Tensor._wrap(x.data, None, x._version)


def is_numbers(value: Any) -> bool:
    """Whether a list or tuple holds plain numbers alone: then it is an array, as everywhere, and no tree."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(v, (int, float, complex, np.generic)) or is_numbers(v) for v in value)
    return False


def stand_in(value: Any) -> Tensor:
    """A Tensor in the place of an argument, that shares its memory and (when recording) its history."""
    x = asarray(value)
    if tape.is_grad_enabled() and x.requires_grad:
        return cast(Tensor, rules.alias(x))
    x = x.detach()
    x.requires_grad = tape.inexact(x.dtype)
    return x


def name_of(fn: Callable[..., Any]) -> str:
    """What messages call a function."""
    return str(getattr(fn, "__name__", type(fn).__name__))


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


def _paired(given: Any, outputs: Any, outs: list[Tensor], name: str) -> list[Any]:
    """One entry of `given` per output: a single output may come with its bare cotangent."""
    single = not isinstance(outputs, (tuple, list))
    if single and not (isinstance(given, (tuple, list)) and len(given) == 1 and isinstance(given[0], Tensor)):
        return [given]
    items = list(given) if isinstance(given, (tuple, list)) else [given]
    if len(items) != len(outs):
        raise ValueError(f"{name}: one cotangent per output, that is {len(outs)}, not {len(items)}")
    return items
