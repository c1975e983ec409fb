"""NumPy's functions and ufuncs, and SciPy's, on traced objects: the row of the tables where there is one, else the value.

`call` is what `__array_function__` asks for, `call_ufunc` what `__array_ufunc__` asks for. A function that no row knows, or
one called with an argument that its row does not know, is computed on the arrays. If that took an operand off the tape,
the result carries a node without a rule, which raises, naming the function, when a gradient is asked through it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np

from eagerconv import devices
from eagerconv.autograd import rules, tape, views
from eagerconv.autograd.rules import special
from eagerconv.autograd.tape import Node, Op, Traced

__all__ = ["call", "call_ufunc", "lost", "numeric", "plain", "row"]

ROWS: Mapping[Any, Callable[..., Any]] = rules.BY_FUNCTION

# Functions that write to their first argument.
_WRITING = {np.copyto, np.fill_diagonal, np.place, np.put, np.put_along_axis, np.putmask}

# Functions that look at the shape and dtype of their first argument alone.
_SHAPED_LIKE = {np.empty_like, np.full_like, np.ones_like, np.zeros_like}

# What a ufunc's method is called as a function; its default axis is the first.
_METHODS: dict[tuple[np.ufunc, str], Callable[..., Any]] = {
    (np.add, "reduce"): np.sum,
    (np.multiply, "reduce"): np.prod,
    (np.maximum, "reduce"): np.max,
    (np.minimum, "reduce"): np.min,
    (np.logical_and, "reduce"): np.all,
    (np.logical_or, "reduce"): np.any,
    (np.add, "accumulate"): np.cumsum,
    (np.multiply, "accumulate"): np.cumprod,
}


def call(function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], kind: type[Traced]) -> Any:
    """What the NumPy function gives for these arguments, its arrays as objects of the class `kind`."""
    out = kwargs.get("out")
    if out is not None or function in _WRITING:
        return _write(function, args, kwargs, out, kind, lambda rest: call(function, args, rest, kind))
    known = ROWS.get(function) or special.row(function)
    if known is not None:
        try:
            return _wrap(known(*args, **kwargs), kind)
        except (TypeError, NotImplementedError, IndexError):
            pass  # an argument that the row does not know; where it is wrong NumPy says so itself
    return _call_without_rule(function, args, kwargs, kind)


def call_ufunc(
    ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any], kind: type[Traced]
) -> Any:
    """What a ufunc, or one of its methods, gives: a row of the tables, or composed of rows."""
    if method == "__call__" and not kwargs:
        return row(ufunc)(*inputs)
    if method == "at":
        if _records(inputs):
            raise RuntimeError(
                f"numpy.{ufunc.__name__}.at writes to its argument, which the tape does not see; where no index repeats write "
                f"x[index] = numpy.{ufunc.__name__}(x[index], values); to add where some do, "
                "x + (index[:, None] == numpy.arange(len(x))).T.astype(x.dtype) @ values"
            )
        return _write(ufunc.at, inputs, kwargs, None, kind, lambda rest: None)
    out = kwargs.get("out")
    if out is None:
        return _call_method(ufunc, method, inputs, kwargs, kind, None)
    function = getattr(ufunc, method)

    def compute(rest: dict[str, Any]) -> Any:
        return _call_method(ufunc, method, inputs, rest, kind, out[0])

    return _write(function, inputs, kwargs, out, kind, compute)


def row(function: Callable[..., Any]) -> Callable[..., Any]:
    """The row of a function, or one without a rule: to call it with operands in their places."""
    return ROWS.get(function) or special.row(function) or functools.partial(_call_ruleless, function)


def plain(value: Any) -> Any:
    """The same argument with arrays for the traced objects in it, sequences and slices searched too."""
    if isinstance(value, Traced):
        return value.data
    if isinstance(value, (list, tuple)):
        return _rebuilt(value, [plain(part) for part in value])
    if isinstance(value, slice):
        return slice(plain(value.start), plain(value.stop), plain(value.step))
    return value


def numeric(dtype: Any) -> bool:
    """Whether a tensor can hold elements of this dtype."""
    return dtype.kind in "biufc" or tape.inexact(dtype)


def lost(what: str) -> RuntimeError:
    """The error of giving a tracked object to something that knows nothing of the tape."""
    return tape.LostHistory(
        f"a tensor that requires a gradient was given to {what}, which would lose its history; use a function of "
        "eagerconv or NumPy on the tensor, or x.detach() if the history is not wanted, or the block `with no_grad():`"
    )


# ----- No row: the value, and a node that says so -----


@functools.lru_cache(maxsize=1024)  # not all there are: users make ufuncs too
def _ruleless(function: Callable[..., Any]) -> Op:
    module = getattr(function, "__module__", None) or "numpy"
    return tape.defvjp(".".join([*module.split(".")[1:], function.__name__]), function)


def _call_ruleless(function: Callable[..., Any], *operands: Any) -> Any:
    kind = next((type(x) for x in operands if isinstance(x, Traced)), None)
    return function(*operands) if kind is None else _call_without_rule(function, operands, {}, kind)


def _call_without_rule(
    function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], kind: type[Traced]
) -> Any:
    result = function(*plain(tuple(args)), **{name: plain(value) for name, value in kwargs.items()})
    traced = list(_traced((*args[function in _SHAPED_LIKE :], *kwargs.values())))
    parents = tuple(x._node for x in traced if x._node is not None) if tape.is_grad_enabled() else ()

    def place(x: Traced) -> None:
        """Give a result its node, and make it a view of the operand whose memory it shows."""
        if parents and tape.inexact(x.data.dtype):
            x._node = Node(_ruleless(function), {}, parents, {}, x.data)
        for base in traced:
            if np.may_share_memory(x.data, base.data):
                x._version = base._version
                views.add(x, base, _ruleless(function), {}, attached=x._node is not None or base._node is None)
                break

    wrapped = _wrap(result, kind, place)
    for x in _traced((wrapped,)):
        tape.tell(_ruleless(function), traced, x)
    return wrapped


def _traced(values: Any) -> Iterator[Traced]:
    for value in values:
        if isinstance(value, Traced):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _traced(value)


def _wrap(result: Any, kind: type[Traced], place: Callable[[Traced], None] | None = None) -> Any:
    """Arrays and NumPy's scalars as traced objects, each given to `place`; the rest as it is."""
    if isinstance(result, Traced):
        return result
    if isinstance(result, (list, tuple)):
        return _rebuilt(result, [_wrap(part, kind, place) for part in result])
    if isinstance(result, np.generic):
        result = np.asarray(result)
    if devices.of(result) is None or not numeric(result.dtype):
        return result
    wrapped = kind._wrap(result)
    if place is not None:
        place(wrapped)
    return wrapped


def _records(values: Any) -> bool:
    """Whether what is done to these values has to be recorded."""
    return tape.is_grad_enabled() and any(x._node is not None for x in _traced(values))


def _rebuilt(like: Any, parts: list[Any]) -> Any:
    """The parts in a sequence of the same kind: a list, tuple or named tuple."""
    return type(like)(*parts) if hasattr(like, "_fields") else type(like)(parts)


# ----- Ufuncs with arguments, and their methods -----


def _call_method(
    ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any], kind: type[Traced], base: Any
) -> Any:
    if method == "__call__" and "where" in kwargs:
        where = plain(kwargs.pop("where"))
        if where is not True:
            return _call_where(ufunc, inputs, where, kwargs, kind, base)
    if method == "__call__":
        return call(ufunc, inputs, kwargs, kind)
    if method == "outer" and not kwargs:
        x, y = inputs
        shape = (*np.shape(x), *(1,) * np.ndim(y))
        return _call_method(ufunc, "__call__", (call(np.reshape, (x,), {"shape": shape}, kind), y), {}, kind, None)
    function = _METHODS.get((ufunc, method))
    if function is None:
        return _call_without_rule(getattr(ufunc, method), inputs, kwargs, kind)
    names = ("axis", "dtype", "out", "keepdims", "initial", "where")
    arguments = {"axis": 0} | dict(zip(names, inputs[1:], strict=False)) | kwargs
    return call(function, inputs[:1], arguments, kind)


def _call_where(
    ufunc: np.ufunc, inputs: tuple[Any, ...], where: Any, kwargs: dict[str, Any], kind: type[Traced], base: Any
) -> Any:
    """The ufunc at the places of the mask, the base (default: zeros) elsewhere.

    The operands are picked out by the mask before the ufunc sees them, so what lies outside of it cannot turn a gradient
    into NaN.
    """
    shape = np.broadcast_shapes(np.shape(where), *(np.shape(x) for x in inputs))
    mask = np.broadcast_to(where, shape)
    picked = [x if np.ndim(x) == 0 else rules.getitem(rules.broadcast_to(x, shape=shape), index=mask) for x in inputs]
    values = _call_method(ufunc, "__call__", tuple(picked), kwargs, kind, None)
    if not isinstance(values, Traced) or ufunc.nout > 1:
        raise TypeError(f"{ufunc.__name__}: where= is for ufuncs of a single result")
    if base is None:
        base = kind._wrap(np.zeros_like(values.data, shape=shape))
    return rules.setitem(base, values, index=mask)


# ----- Writing -----


def _write(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    out: Any,
    kind: type[Traced],
    compute: Callable[[dict[str, Any]], Any],
) -> Any:
    """Call a function that writes to `out`, one or a tuple, or (None) to its first argument.

    Where nothing has to be recorded it writes to the memory; else `compute`, given the other arguments, makes a new
    result, which a tensor takes over as in an in-place change and an array cannot take.
    """
    outs = out if isinstance(out, tuple) else args[:1] if out is None else (out,)
    given = (*args, *kwargs.values())
    if not _records(given):
        result = function(*plain(tuple(args)), **{name: plain(value) for name, value in kwargs.items()})
        for x in _traced(outs):
            x._version[0] += 1
        if out is None or len(outs) == 1:
            return None if out is None else outs[0]
        return tuple(_wrap(r, kind) if o is None else o for o, r in zip(outs, result, strict=True))
    if out is None:
        raise RuntimeError(
            f"{function.__name__} writes to its argument, which the tape does not see; "
            "use x[index] = value, or make the change in the block `with no_grad():`"
        )
    result = compute({name: value for name, value in kwargs.items() if name != "out"})
    if len(outs) > 1 or not isinstance(outs[0], Traced):
        raise lost("out= of an array" if len(outs) == 1 else f"out= of {function.__name__}")
    return cast(Any, outs[0])._assign(result)
