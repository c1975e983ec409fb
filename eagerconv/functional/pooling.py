"""Pooling over windows of the last axes, in Theano's vocabulary and in the names known from other libraries."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias, cast

import numpy as np

from eagerconv import geometry
from eagerconv.autograd import rules
from eagerconv.dtypes import widened
from eagerconv.functional.windows import Windows, max_windows, numbered, sum_windows, winners
from eagerconv.spec import Shape
from eagerconv.tensor import Tensor, asarray
from eagerconv.wrapping import floating

__all__ = [
    "adaptive_avg_pool", "adaptive_max_pool", "avg_pool1d", "avg_pool2d", "avg_pool3d", "global_avg_pool",
    "global_max_pool", "max_pool1d", "max_pool2d", "max_pool3d", "max_unpool1d", "max_unpool2d", "max_unpool3d", "pool",
    "pool_1d", "pool_2d", "pool_3d",
]  # fmt: skip

Ints: TypeAlias = int | Sequence[int]
Pads: TypeAlias = int | str | Sequence[int | tuple[int, int]]
MODES = ("max", "sum", "average_inc_pad", "average_exc_pad")


# ----- What users call -----


def pool_2d(
    input: Any,
    ws: Ints,
    ignore_border: bool = True,
    stride: Ints | None = None,
    pad: Pads = 0,
    mode: str = "max",
    *,
    dilation: Ints = 1,
) -> Tensor:
    """Reduce windows of the last two axes to one number each.

    Parameters
    ----------
    input : array_like, shape (..., rows, columns)
        Any number of axes before the pooled ones.
    ws : int or one int per pooled axis
        Window size.
    ignore_border : bool
        True: only whole windows, floor((size + pads - extent) / stride) + 1 of them, none where none fits. False: also a
        last one that sticks out, cut off at the border (other libraries' ceil mode), if it begins in front of the padding
        behind.
    stride : int or one int per pooled axis, optional
        Distance between windows; default: the window size, so that they do not overlap.
    pad : int, "same", "same_lower", "valid", or one entry per pooled axis
        Elements added on both sides, or a pair (before, after) for one axis: fewer than a window spans. They never win.
        "same" makes ceil(size / stride) windows, with an odd element of padding behind ("same_lower": before); "valid" is 0.
    mode : {"max", "sum", "average_inc_pad", "average_exc_pad"}
        What to compute. The averages divide by the number of elements in the window, with or without padding; those of
        integers and booleans are float64, their sums have the dtype of `sum`.
    dilation : int or one int per pooled axis
        Distance between the elements of a window, which spans an extent of (ws - 1) * dilation + 1.

    Returns
    -------
    Tensor, shape (..., rows', columns')
        In mode "max" the gradient of a window goes to its first largest element, row by row. 16-bit floats are added in
        float32.

    Raises
    ------
    TypeError
        If `ws`, `stride`, `dilation` or `pad` is not integer, or the input is complex in mode "max".
    ValueError
        If a window would see padding alone, or for a number out of range or an unknown mode.

    Notes
    -----
    Source: `theano.tensor.signal.pool.pool_2d`; `dilation`, and more padding than that, are ours.

    Examples
    --------
    >>> pool_2d([[1.0, 2.0, 0.0], [3.0, 4.0, 5.0]], (2, 2))
    tensor([[4.]], dtype=float64)
    >>> pool_2d([[1.0, 2.0, 0.0], [3.0, 4.0, 5.0]], (2, 2), ignore_border=False)
    tensor([[4., 5.]], dtype=float64)
    >>> pool_2d([[1.0, 2.0, 0.0], [3.0, 4.0, 5.0]], 2, stride=1, pad="same", mode="average_exc_pad")
    tensor([[2.5 , 2.75, 2.5 ],
            [3.5 , 4.5 , 5.  ]], dtype=float64)
    """
    return _pool("pool_2d", 2, input, ws, ignore_border, stride, pad, mode, dilation)


def pool_1d(
    input: Any,
    ws: Ints,
    ignore_border: bool = True,
    stride: Ints | None = None,
    pad: Pads = 0,
    mode: str = "max",
    *,
    dilation: Ints = 1,
) -> Tensor:
    """Reduce windows of the last axis to one number each; parameters as for `pool_2d`.

    Examples
    --------
    >>> pool_1d([1.0, 3.0, 2.0, 4.0], 2, mode="sum")
    tensor([4., 6.], dtype=float64)
    """
    return _pool("pool_1d", 1, input, ws, ignore_border, stride, pad, mode, dilation)


def pool_3d(
    input: Any,
    ws: Ints,
    ignore_border: bool = True,
    stride: Ints | None = None,
    pad: Pads = 0,
    mode: str = "max",
    *,
    dilation: Ints = 1,
) -> Tensor:
    """Reduce windows of the last three axes to one number each; parameters as for `pool_2d`.

    Examples
    --------
    >>> pool_3d(np.arange(8.0).reshape(2, 2, 2), 2)
    tensor([[[7.]]], dtype=float64)
    """
    return _pool("pool_3d", 3, input, ws, ignore_border, stride, pad, mode, dilation)


def pool(
    input: Any,
    ws: Sequence[int],
    ignore_border: bool = True,
    stride: Ints | None = None,
    pad: Pads = 0,
    mode: str = "max",
    *,
    dilation: Ints = 1,
) -> Tensor:
    """Reduce windows of as many of the last axes as `ws` has entries; parameters as for `pool_2d`.

    Examples
    --------
    >>> pool(np.arange(16.0).reshape(2, 2, 2, 2), (2, 2, 2, 2), mode="sum")
    tensor([[[[120.]]]], dtype=float64)
    """
    if not isinstance(ws, (tuple, list)) or not ws:
        raise TypeError(f"pool: ws must be a tuple with one int per pooled axis, not {ws!r}")
    return _pool("pool", len(ws), input, tuple(ws), ignore_border, stride, pad, mode, dilation)


def max_pool1d(
    input: Any,
    ws: Ints,
    stride: Ints | None = None,
    pad: Pads = 0,
    *,
    ignore_border: bool = True,
    dilation: Ints = 1,
    return_indices: bool = False,
) -> Any:
    """Largest element of each window of the last axis: `pool_1d` in mode "max"; parameters as for `max_pool2d`.

    Examples
    --------
    >>> max_pool1d([1.0, 3.0, 2.0, 4.0], 2)
    tensor([3., 4.], dtype=float64)
    """
    return _max_pool("max_pool1d", 1, input, ws, ignore_border, stride, pad, dilation, return_indices)


def max_pool2d(
    input: Any,
    ws: Ints,
    stride: Ints | None = None,
    pad: Pads = 0,
    *,
    ignore_border: bool = True,
    dilation: Ints = 1,
    return_indices: bool = False,
) -> Any:
    """Largest element of each window of the last two axes: `pool_2d` in mode "max".

    Parameters
    ----------
    input, ws, stride, pad, ignore_border, dilation
        As for `pool_2d`.
    return_indices : bool
        Return also where the largest elements are.

    Returns
    -------
    Tensor, shape (..., rows', columns')
        With `return_indices` a pair of these: the second one are ints, the places of the first largest elements in their
        planes (row * columns + column), as `max_unpool2d` takes them.

    Raises
    ------
    TypeError, ValueError
        As `pool_2d` does.

    Examples
    --------
    >>> max_pool2d([[1.0, 2.0], [3.0, 4.0]], 2)
    tensor([[4.]], dtype=float64)
    >>> values, indices = max_pool2d([[1.0, 2.0], [3.0, 4.0]], 2, return_indices=True)
    >>> indices.tolist()
    [[3]]
    """
    return _max_pool("max_pool2d", 2, input, ws, ignore_border, stride, pad, dilation, return_indices)


def max_pool3d(
    input: Any,
    ws: Ints,
    stride: Ints | None = None,
    pad: Pads = 0,
    *,
    ignore_border: bool = True,
    dilation: Ints = 1,
    return_indices: bool = False,
) -> Any:
    """Largest element of each window of the last three axes: `pool_3d` in mode "max"; parameters as for `max_pool2d`.

    Examples
    --------
    >>> max_pool3d(np.arange(8.0).reshape(2, 2, 2), 2)
    tensor([[[7.]]], dtype=float64)
    """
    return _max_pool("max_pool3d", 3, input, ws, ignore_border, stride, pad, dilation, return_indices)


def max_unpool1d(
    input: Any,
    indices: Any,
    ws: Ints,
    stride: Ints | None = None,
    pad: Pads = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Put the results of `max_pool1d` back where they came from; parameters as for `max_unpool2d`.

    Examples
    --------
    >>> max_unpool1d(*max_pool1d([1.0, 3.0, 4.0, 2.0], 2, return_indices=True), 2)
    tensor([0., 3., 4., 0.], dtype=float64)
    """
    return _unpool("max_unpool1d", 1, input, indices, ws, stride, pad, output_size)


def max_unpool2d(
    input: Any,
    indices: Any,
    ws: Ints,
    stride: Ints | None = None,
    pad: Pads = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Put the results of `max_pool2d` back where they came from, with zeros elsewhere.

    Parameters
    ----------
    input : array_like, shape (..., rows', columns')
        Numbers, one per window.
    indices : array_like of ints, of the same shape
        Their places in the flattened plane, as `max_pool2d(..., return_indices=True)` gives them. Where two are the same the
        last one stays.
    ws, stride, pad
        Of the windows, as for `max_pool2d`.
    output_size : ints, one per axis, optional
        Size of a plane of the result; default: (windows - 1) * stride + ws - pads, the smallest one that had so many windows.

    Returns
    -------
    Tensor, shape (..., rows, columns)

    Raises
    ------
    TypeError
        If `indices` or a size is not integer.
    ValueError
        If the shapes of input and indices differ, or an index lies outside of the plane.

    Notes
    -----
    Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014; as in PyTorch.

    Examples
    --------
    >>> values, indices = max_pool2d([[1.0, 2.0], [4.0, 3.0]], 2, return_indices=True)
    >>> max_unpool2d(values, indices, 2)
    tensor([[0., 0.],
            [4., 0.]], dtype=float64)
    """
    return _unpool("max_unpool2d", 2, input, indices, ws, stride, pad, output_size)


def max_unpool3d(
    input: Any,
    indices: Any,
    ws: Ints,
    stride: Ints | None = None,
    pad: Pads = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Put the results of `max_pool3d` back where they came from; parameters as for `max_unpool2d`.

    Examples
    --------
    >>> max_unpool3d([[[5.0]]], [[[6]]], 2)
    tensor([[[0., 0.],
             [0., 0.]],
    <BLANKLINE>
            [[0., 0.],
             [5., 0.]]], dtype=float64)
    """
    return _unpool("max_unpool3d", 3, input, indices, ws, stride, pad, output_size)


def avg_pool1d(
    input: Any,
    ws: Ints,
    stride: Ints | None = None,
    pad: Pads = 0,
    *,
    ignore_border: bool = True,
    dilation: Ints = 1,
    include_pad: bool = True,
) -> Tensor:
    """Mean of each window of the last axis; parameters as for `avg_pool2d`.

    Examples
    --------
    >>> avg_pool1d([1.0, 3.0, 2.0, 4.0], 2)
    tensor([2., 3.], dtype=float64)
    """
    return _pool("avg_pool1d", 1, input, ws, ignore_border, stride, pad, _average(include_pad), dilation)


def avg_pool2d(
    input: Any,
    ws: Ints,
    stride: Ints | None = None,
    pad: Pads = 0,
    *,
    ignore_border: bool = True,
    dilation: Ints = 1,
    include_pad: bool = True,
) -> Tensor:
    """Mean of each window of the last two axes: `pool_2d` in mode "average_inc_pad" or "average_exc_pad".

    Parameters
    ----------
    input, ws, stride, pad, ignore_border, dilation
        As for `pool_2d`.
    include_pad : bool
        Count the padding among the elements of a window.

    Returns
    -------
    Tensor, shape (..., rows', columns')

    Raises
    ------
    TypeError, ValueError
        As `pool_2d` does.

    Examples
    --------
    >>> avg_pool2d([[1.0, 2.0], [3.0, 4.0]], 2)
    tensor([[2.5]], dtype=float64)
    >>> avg_pool2d([[1.0, 2.0], [3.0, 4.0]], 2, pad=1, include_pad=False)
    tensor([[1., 2.],
            [3., 4.]], dtype=float64)
    """
    return _pool("avg_pool2d", 2, input, ws, ignore_border, stride, pad, _average(include_pad), dilation)


def avg_pool3d(
    input: Any,
    ws: Ints,
    stride: Ints | None = None,
    pad: Pads = 0,
    *,
    ignore_border: bool = True,
    dilation: Ints = 1,
    include_pad: bool = True,
) -> Tensor:
    """Mean of each window of the last three axes; parameters as for `avg_pool2d`.

    Examples
    --------
    >>> avg_pool3d(np.arange(8.0).reshape(2, 2, 2), 2)
    tensor([[[3.5]]], dtype=float64)
    """
    return _pool("avg_pool3d", 3, input, ws, ignore_border, stride, pad, _average(include_pad), dilation)


def global_avg_pool(input: Any, keepdims: bool = False) -> Tensor:
    """Mean over space: (N, C, ...) -> (N, C), or (N, C, 1, ...) with `keepdims`.

    Examples
    --------
    >>> global_avg_pool([[[1.0, 2.0], [3.0, 5.0]]])
    tensor([[1.5, 4. ]], dtype=float64)
    """
    x = asarray(input)
    return x.mean(axis=_space("global_avg_pool", x), keepdims=keepdims)


def global_max_pool(input: Any, keepdims: bool = False) -> Tensor:
    """Largest element over space: (N, C, ...) -> (N, C), or (N, C, 1, ...) with `keepdims`; ties share the gradient.

    Examples
    --------
    >>> global_max_pool([[[1.0, 2.0], [3.0, 5.0]]])
    tensor([[2., 5.]], dtype=float64)
    """
    x = asarray(input)
    return x.max(axis=_space("global_max_pool", x), keepdims=keepdims)


def adaptive_avg_pool(input: Any, output_size: tuple[int, ...]) -> Tensor:
    """Mean of windows that share out the last axes into a given number each.

    Parameters
    ----------
    input : array_like, shape (..., *sizes)
        One size per entry of `output_size`.
    output_size : tuple of ints
        How many windows per axis: window o of m reaches from floor(o n / m) to ceil((o + 1) n / m), as in PyTorch. They
        may overlap by one element.

    Returns
    -------
    Tensor, shape (..., *output_size)

    Raises
    ------
    TypeError
        If `output_size` is not a tuple of ints.
    ValueError
        If the input has fewer axes, or an axis is empty.

    Examples
    --------
    >>> adaptive_avg_pool([1.0, 2.0, 3.0, 4.0, 5.0], (2,))
    tensor([2., 4.], dtype=float64)
    """
    return cast(Tensor, _adaptive("adaptive_avg_pool", input, output_size, "average_exc_pad"))


def adaptive_max_pool(input: Any, output_size: tuple[int, ...], *, return_indices: bool = False) -> Any:
    """Largest element of the windows of `adaptive_avg_pool`; the gradient goes to the first, row by row.

    With `return_indices` it comes in a pair with its place in its plane, which is flattened, as for `max_pool2d`.

    Examples
    --------
    >>> adaptive_max_pool([1.0, 2.0, 3.0, 4.0, 5.0], (2,))
    tensor([3., 5.], dtype=float64)
    """
    return _adaptive("adaptive_max_pool", input, output_size, "max", return_indices)


def _space(name: str, x: Tensor) -> tuple[int, ...]:
    if x.ndim < 3:
        raise ValueError(f"{name}: the input must have shape (N, C, ...) with spatial axes, got {x.shape}")
    return tuple(range(2, x.ndim))


# ----- Their common body -----


def _pool(
    name: str,
    nd: int,
    input: Any,
    ws: Ints,
    ignore_border: bool,
    stride: Ints | None,
    pad: Pads,
    mode: str,
    dilation: Ints,
) -> Tensor:
    x = asarray(input)
    if mode not in MODES:
        raise ValueError(f"{name}: mode must be one of {MODES}, not {mode!r}")
    return _reduced(name, x, _windows(name, x, nd, ws, ignore_border, stride, pad, dilation), mode)


def _max_pool(
    name: str,
    nd: int,
    input: Any,
    ws: Ints,
    ignore_border: bool,
    stride: Ints | None,
    pad: Pads,
    dilation: Ints,
    return_indices: bool,
) -> Any:
    x = asarray(input)
    w = _windows(name, x, nd, ws, ignore_border, stride, pad, dilation)
    values = _reduced(name, x, w, "max")
    return (values, Tensor._wrap(winners(x.data, w))) if return_indices else values


def _adaptive(name: str, input: Any, output_size: Any, mode: str, return_indices: bool = False) -> Any:
    x = asarray(input)
    if not isinstance(output_size, (tuple, list)) or not output_size:
        raise TypeError(f"{name}: output_size must be a tuple with one int per pooled axis, not {output_size!r}")
    nd = len(output_size)
    out = _per_axis(name, "output_size", output_size, nd, 1)
    size = x.shape[x.ndim - nd :] if x.ndim >= nd else ()
    if not size or not all(size):
        raise ValueError(f"{name}: the input must have {nd} pooled axes that are not empty, got shape {x.shape}")
    common = [math.gcd(n, m) for n, m in zip(size, out, strict=True)]
    stride = tuple(n // c for n, c in zip(size, common, strict=True))
    share = tuple(m // c for m, c in zip(out, common, strict=True))
    ones, none = (1,) * nd, (0,) * nd
    w = Windows(size, stride, stride, ones, share, none, none, out)
    values = _reduced(name, x, w, mode)
    return (values, Tensor._wrap(winners(x.data, w))) if return_indices else values


def _reduced(name: str, x: Tensor, w: Windows, mode: str) -> Tensor:
    if mode == "max":
        if x.dtype.kind == "c":
            raise TypeError(f"{name}: complex numbers have no largest one; use another mode than 'max'")
        return cast(Tensor, max_windows(x, w=w))
    if mode != "sum":
        x = floating(x)
    elif x.dtype.kind in "biu":
        x = x.astype(np.zeros(0, x.dtype).sum().dtype)
    wide = widened(x)
    out = sum_windows(wide, w=w)
    if mode != "sum":
        out = out / asarray(w.counts(padding=mode == "average_inc_pad").astype(wide.dtype), device=x.device)
    return cast(Tensor, out if wide is x else out.astype(x.dtype))


def _average(include_pad: bool) -> str:
    return "average_inc_pad" if include_pad else "average_exc_pad"


def _unpool(
    name: str,
    nd: int,
    input: Any,
    indices: Any,
    ws: Ints,
    stride: Ints | None,
    pad: Pads,
    output_size: Sequence[int] | None,
) -> Tensor:
    x, index = asarray(input), asarray(indices).data
    if index.dtype.kind not in "iu":
        raise TypeError(
            f"{name}: indices must be ints, as max_pool{nd}d(..., return_indices=True) gives, not {index.dtype}"
        )
    if x.ndim < nd or index.shape != x.shape:
        raise ValueError(
            f"{name}: input and indices must have the same shape, of at least {nd} axes; got {x.shape} and {index.shape}"
        )
    window = _per_axis(name, "ws", ws, nd, 1)
    step = window if stride is None else _per_axis(name, "stride", stride, nd, 1)
    windows = x.shape[x.ndim - nd :]
    if output_size is not None:
        size = _per_axis(name, "output_size", output_size, nd, 0)
    else:
        modes = _modes(name, pad, nd)
        fit = zip(modes, windows, window, step, strict=True)
        size = tuple(max(geometry.smallest_input(mode, m, k, s), 0) for mode, m, k, s in fit)
    places = math.prod(size)
    if index.size and (index.min() < 0 or index.max() >= places):
        raise ValueError(
            f"{name}: indices must lie in the plane of {size}, from 0 to {places - 1}; got some from {index.min()} to "
            f"{index.max()}: give the size that was pooled as output_size="
        )
    lead = x.shape[: x.ndim - nd]
    zeros = np.zeros_like(x.data, shape=(math.prod(lead) * places,))
    out = rules.setitem(zeros, x.reshape(-1), index=numbered(index, math.prod(lead), places))
    return cast(Tensor, out.reshape(lead + size))


# ----- Arguments -> Windows -----


def _windows(
    name: str,
    x: Tensor,
    nd: int,
    ws: Ints,
    ignore_border: bool,
    stride: Ints | None,
    pad: Pads,
    dilation: Ints,
) -> Windows:
    if x.ndim < nd:
        raise ValueError(f"{name}: input must have at least the {nd} pooled axes, got shape {x.shape}")
    window = _per_axis(name, "ws", ws, nd, 1)
    step = window if stride is None else _per_axis(name, "stride", stride, nd, 1)
    spread = _per_axis(name, "dilation", dilation, nd, 1)
    whole = geometry.flag(name, "ignore_border", ignore_border)
    return _fitted(name, x.shape[x.ndim - nd :], window, step, spread, _modes(name, pad, nd), whole)


@lru_cache(maxsize=256)
def _fitted(
    name: str, size: Shape, window: Shape, stride: Shape, dilation: Shape, modes: tuple[Any, ...], whole: bool
) -> Windows:
    extent = tuple(map(geometry.dilated, window, dilation))
    pads = tuple(map(geometry.padding, modes, size, extent, stride))
    out = []
    for n, e, s, mode, pad in zip(size, extent, stride, modes, pads, strict=True):
        if max(pad) >= e:
            raise ValueError(
                f"{name}: pad={modes} must be smaller than ws={window}, dilated by {dilation}, or windows would see padding "
                "alone"
            )
        left = n + sum(pad) - e
        if whole or isinstance(mode, str):
            out.append(max(left // s + 1, 0))
        else:  # as many as it takes for the last element to be seen, each beginning in front of the padding behind
            out.append(min(max(-(-left // s), 0) + 1, -(-(n + pad[0]) // s)))
    before, after = zip(*pads, strict=True)
    w = Windows(size, extent, stride, dilation, (1,) * len(size), before, after, tuple(out))
    if 0 not in out and not w.counts(padding=False).all():
        raise ValueError(
            f"{name}: some windows would see padding alone, between the elements that they skip: the input has size {size}, "
            f"ws={window}, stride={stride}, pad={modes}, dilation={dilation}; use less padding or a smaller dilation"
        )
    return w


def _modes(name: str, pad: Any, nd: int) -> tuple[Any, ...]:
    """The padding of each axis as `geometry.padding` takes it: an int, a pair, or a word."""
    words = ("same", "same_lower", "valid")
    if isinstance(pad, str) and pad in words:
        return (pad,) * nd
    pads = geometry.frozen(name, "pad", pad) if isinstance(pad, (tuple, list)) else pad
    pads = pads if isinstance(pads, tuple) else _per_axis(name, "pad", pads, nd, 0) if not isinstance(pad, str) else ()
    if len(pads) != nd or not all(map(geometry.is_padding, pads)):
        raise ValueError(
            f"{name}: pad must be an int of at least 0, one of {words}, or one int or pair (before, after) per pooled axis "
            f"({nd}); got {pad!r}"
        )
    return pads


def _per_axis(name: str, argument: str, value: Any, nd: int, least: int) -> tuple[int, ...]:
    values = value if isinstance(value, (tuple, list)) else (value,) * nd
    if not all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in values):
        raise TypeError(f"{name}: {argument} must be an int or {nd} ints, not {value!r}")
    if len(values) != nd or any(v < least for v in values):
        raise ValueError(
            f"{name}: {argument} must be one int per pooled axis ({nd}), each at least {least}; got {value!r}"
        )
    return tuple(int(v) for v in values)
