"""Pooling over windows of the last axes, in Theano's vocabulary and in the names known from other libraries."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from eagerconv import devices
from eagerconv.autograd import rules, tape
from eagerconv.autograd.tape import Op, defvjp, linear
from eagerconv.dtypes import widened
from eagerconv.kernels_cpu import pooling as planes
from eagerconv.tensor import Tensor, asarray
from eagerconv.wrapping import floating

__all__ = [
    "adaptive_avg_pool", "adaptive_max_pool", "avg_pool1d", "avg_pool2d", "avg_pool3d", "global_avg_pool",
    "global_max_pool", "max_pool1d", "max_pool2d", "max_pool3d", "pool", "pool_1d", "pool_2d", "pool_3d",
]  # fmt: skip

Ints = int | tuple[int, ...]
MODES = ("max", "sum", "average_inc_pad", "average_exc_pad")


# ----- Geometry -----


@dataclass(frozen=True, slots=True)
class Windows:
    """Where the windows of a pooling lie, per axis: output o sees inputs i = o * stride + k - pad, 0 <= k < window."""

    size: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    out: tuple[int, ...]

    @property
    def axes(self) -> planes.Windows:
        """As kernels take them."""
        return self.size, self.out, self.window, self.stride, self.pad

    def offsets(self) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
        """Per element k of the window, row by row: the outputs whose k-th element is inside, and those elements."""
        for k in np.ndindex(*self.window):
            outs, ins = [], []
            for n, s, p, m, k_ in zip(self.size, self.stride, self.pad, self.out, k, strict=True):
                first = max(0, -((k_ - p) // s))  # the first o with o * s + k - p >= 0
                count = max(0, min(m - 1, (n - 1 + p - k_) // s) + 1 - first)  # up to o * s + k - p <= n - 1
                start = first * s + k_ - p
                outs.append(slice(first, first + count))
                ins.append(slice(start, start + count * s, s) if count else slice(0))
            yield (..., *outs), (..., *ins)

    def counts(self, with_padding: bool) -> Any:
        """How many elements each window holds, padding included or not; an array of shape `out`."""
        total = np.ones((), np.intp)
        for n, k, s, p, m in zip(self.size, self.window, self.stride, self.pad, self.out, strict=True):
            start = np.arange(m) * s - p
            low, high = (-p, n + p) if with_padding else (0, n)
            total = total[..., None] * (np.minimum(start + k, high) - np.maximum(start, low))
        return total


# ----- Primitives. Arrays have shape (..., *size) or (..., *out), w is a Windows -----


def _max(x: Any, w: Windows) -> Any:
    if (found := planes.max_planes(x, w.axes)) is not None:
        return found
    out = np.full_like(x, _lowest(x.dtype), shape=x.shape[: x.ndim - len(w.out)] + w.out)
    for o, i in w.offsets():
        np.maximum(out[o], x[i], out=out[o])
    return out


def _lowest(dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "b":
        return False
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


def _sum(x: Any, w: Windows) -> Any:
    out = np.zeros_like(x, shape=x.shape[: x.ndim - len(w.out)] + w.out)
    for o, i in w.offsets():
        out[o] += x[i]
    return out


def _spread(g: Any, w: Windows) -> Any:
    """The transpose of `_sum`."""
    x = np.zeros_like(g, shape=g.shape[: g.ndim - len(w.out)] + w.size)
    for o, i in w.offsets():
        x[i] += g[o]
    return x


def _winners(x: Any, ans: Any, w: Windows) -> Any:
    """Where in the flattened input each window has its first largest element, for the flattened output."""
    place = devices.of(x) or "cpu"
    nan = place != "cpu" or bool((ans != ans).any())  # a NaN is the largest; a GPU is not waited for
    found = np.zeros_like(ans, np.bool_)
    number = np.zeros_like(ans, np.min_scalar_type(math.prod(w.window)))  # how many come before it, row by row
    for o, i in w.offsets():
        found[o] |= (x[i] == ans[o]) | (x[i] != x[i]) if nan else x[i] == ans[o]
        number += ~found
    # i = o * stride + k - pad per axis: the flat index is a sum of a part in k and one in o.
    steps = [math.prod(w.size[a + 1 :]) for a in range(len(w.size))]
    of_k = np.zeros((), np.intp)
    of_o = np.arange(math.prod(x.shape[: x.ndim - len(steps)])) * math.prod(w.size)
    for k, s, p, m, step in zip(w.window, w.stride, w.pad, w.out, steps, strict=True):
        of_k = of_k[..., None] + np.arange(k) * step
        of_o = of_o[..., None] + (np.arange(m) * s - p) * step
    of_k, of_o = (devices.constant(table.ravel(), place) for table in (of_k, of_o))
    return of_k.take(number.ravel()) + of_o


def _place(g: Any, x: Any, ans: Any, w: Windows) -> Any:
    if not tape.is_grad_enabled() and (found := planes.max_gradients(g.data, x.data, w.axes)) is not None:
        return type(g)._wrap(found)
    flat = rules.put(g.reshape(-1), index=_winners(x.data, ans.data, w), shape=(x.size,))
    return flat.reshape(x.shape)


def _pick(t: Any, x: Any, ans: Any, w: Windows) -> Any:
    return t.reshape(-1)[_winners(x.data, ans.data, w)].reshape(ans.shape)


max_windows = defvjp("max_windows", _max, _place, jvp=_pick)
sum_windows = linear("sum_windows", _sum, lambda g, w: spread_windows(g, w=w))
spread_windows: Op = linear("spread_windows", _spread, lambda g, w: sum_windows(g, w=w))


# ----- What users call -----


def pool_2d(
    input: Any, ws: Ints, ignore_border: bool = True, stride: Ints | None = None, pad: Ints = 0, mode: str = "max"
) -> Tensor:
    """Reduce windows of the last two axes to one number each.

    Parameters
    ----------
    input : array_like, shape (..., rows, columns)
        Any number of axes before the pooled ones.
    ws : int or one int per pooled axis
        Window size.
    ignore_border : bool
        True: only whole windows, floor((size + 2 * pad - ws) / stride) + 1 of them. False: also a last one that sticks
        out, cut off at the border.
    stride : int or one int per pooled axis, optional
        Distance between windows; default: the window size, so that they do not overlap.
    pad : int or one int per pooled axis
        Elements added on both sides, fewer than the window has; only with `ignore_border`. They never win.
    mode : {"max", "sum", "average_inc_pad", "average_exc_pad"}
        What to compute. The averages divide by the number of elements in the window, with or without padding; those of
        integers and booleans are float64.

    Returns
    -------
    Tensor, shape (..., rows', columns')
        In mode "max" the gradient of a window goes to its first largest element, row by row.

    Raises
    ------
    TypeError
        If `ws`, `stride` or `pad` is not integer, or the input is complex in mode "max".
    ValueError
        If the geometry does not fit, or for an unknown mode.

    Examples
    --------
    >>> pool_2d([[1.0, 2.0, 0.0], [3.0, 4.0, 5.0]], (2, 2))
    tensor([[4.]], dtype=float64)
    >>> pool_2d([[1.0, 2.0, 0.0], [3.0, 4.0, 5.0]], (2, 2), ignore_border=False)
    tensor([[4., 5.]], dtype=float64)
    """
    return _pool("pool_2d", 2, input, ws, ignore_border, stride, pad, mode)


def pool_1d(
    input: Any, ws: Ints, ignore_border: bool = True, stride: Ints | None = None, pad: Ints = 0, mode: str = "max"
) -> Tensor:
    """Reduce windows of the last axis to one number each; parameters as for `pool_2d`.

    Examples
    --------
    >>> pool_1d([1.0, 3.0, 2.0, 4.0], 2, mode="sum")
    tensor([4., 6.], dtype=float64)
    """
    return _pool("pool_1d", 1, input, ws, ignore_border, stride, pad, mode)


def pool_3d(
    input: Any, ws: Ints, ignore_border: bool = True, stride: Ints | None = None, pad: Ints = 0, mode: str = "max"
) -> Tensor:
    """Reduce windows of the last three axes to one number each; parameters as for `pool_2d`.

    Examples
    --------
    >>> pool_3d(np.arange(8.0).reshape(2, 2, 2), 2)
    tensor([[[7.]]], dtype=float64)
    """
    return _pool("pool_3d", 3, input, ws, ignore_border, stride, pad, mode)


def pool(
    input: Any,
    ws: Sequence[int],
    ignore_border: bool = True,
    stride: Ints | None = None,
    pad: Ints = 0,
    mode: str = "max",
) -> Tensor:
    """Reduce windows of as many of the last axes as `ws` has entries; parameters as for `pool_2d`.

    Examples
    --------
    >>> pool(np.arange(16.0).reshape(2, 2, 2, 2), (2, 2, 2, 2), mode="sum")
    tensor([[[[120.]]]], dtype=float64)
    """
    if not isinstance(ws, (tuple, list)) or not ws:
        raise TypeError(f"pool: ws must be a tuple with one int per pooled axis, not {ws!r}")
    return _pool("pool", len(ws), input, tuple(ws), ignore_border, stride, pad, mode)


def max_pool1d(input: Any, ws: Ints, stride: Ints | None = None, pad: Ints = 0) -> Tensor:
    """Largest element of each window: `pool_1d` in mode "max".

    Examples
    --------
    >>> max_pool1d([1.0, 3.0, 2.0, 4.0], 2)
    tensor([3., 4.], dtype=float64)
    """
    return _pool("max_pool1d", 1, input, ws, True, stride, pad, "max")


def max_pool2d(input: Any, ws: Ints, stride: Ints | None = None, pad: Ints = 0) -> Tensor:
    """Largest element of each window: `pool_2d` in mode "max".

    Examples
    --------
    >>> max_pool2d([[1.0, 2.0], [3.0, 4.0]], 2)
    tensor([[4.]], dtype=float64)
    """
    return _pool("max_pool2d", 2, input, ws, True, stride, pad, "max")


def max_pool3d(input: Any, ws: Ints, stride: Ints | None = None, pad: Ints = 0) -> Tensor:
    """Largest element of each window: `pool_3d` in mode "max".

    Examples
    --------
    >>> max_pool3d(np.arange(8.0).reshape(2, 2, 2), 2)
    tensor([[[7.]]], dtype=float64)
    """
    return _pool("max_pool3d", 3, input, ws, True, stride, pad, "max")


def avg_pool1d(input: Any, ws: Ints, stride: Ints | None = None, pad: Ints = 0) -> Tensor:
    """Mean of each window, padding included: `pool_1d` in mode "average_inc_pad".

    Examples
    --------
    >>> avg_pool1d([1.0, 3.0, 2.0, 4.0], 2)
    tensor([2., 3.], dtype=float64)
    """
    return _pool("avg_pool1d", 1, input, ws, True, stride, pad, "average_inc_pad")


def avg_pool2d(input: Any, ws: Ints, stride: Ints | None = None, pad: Ints = 0) -> Tensor:
    """Mean of each window, padding included: `pool_2d` in mode "average_inc_pad".

    Examples
    --------
    >>> avg_pool2d([[1.0, 2.0], [3.0, 4.0]], 2)
    tensor([[2.5]], dtype=float64)
    """
    return _pool("avg_pool2d", 2, input, ws, True, stride, pad, "average_inc_pad")


def avg_pool3d(input: Any, ws: Ints, stride: Ints | None = None, pad: Ints = 0) -> Tensor:
    """Mean of each window, padding included: `pool_3d` in mode "average_inc_pad".

    Examples
    --------
    >>> avg_pool3d(np.arange(8.0).reshape(2, 2, 2), 2)
    tensor([[[3.5]]], dtype=float64)
    """
    return _pool("avg_pool3d", 3, input, ws, True, stride, pad, "average_inc_pad")


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
    return _adaptive("adaptive_avg_pool", input, output_size, "average_exc_pad")


def adaptive_max_pool(input: Any, output_size: tuple[int, ...]) -> Tensor:
    """Largest element of the windows of `adaptive_avg_pool`; the gradient goes to the first, row by row.

    Examples
    --------
    >>> adaptive_max_pool([1.0, 2.0, 3.0, 4.0, 5.0], (2,))
    tensor([3., 5.], dtype=float64)
    """
    return _adaptive("adaptive_max_pool", input, output_size, "max")


def _space(name: str, x: Tensor) -> tuple[int, ...]:
    if x.ndim < 3:
        raise ValueError(f"{name}: the input must have shape (N, C, ...) with spatial axes, got {x.shape}")
    return tuple(range(2, x.ndim))


def _adaptive(name: str, input: Any, output_size: Any, mode: str) -> Tensor:
    """Axis by axis, the last one first: the mean and the largest element of a box are those of its rows'."""
    x = asarray(input)
    if not isinstance(output_size, (tuple, list)) or not output_size:
        raise TypeError(f"{name}: output_size must be a tuple with one int per pooled axis, not {output_size!r}")
    nd = len(output_size)
    sizes = _per_axis(name, "output_size", output_size, nd, 1)
    lengths = x.shape[x.ndim - nd :] if x.ndim >= nd else ()
    if not lengths or not all(lengths):
        raise ValueError(f"{name}: the input must have {nd} pooled axes that are not empty, got shape {x.shape}")
    if not any(n % m for n, m in zip(lengths, sizes, strict=True)):  # equal windows that do not overlap
        return _pool(name, nd, x, tuple(n // m for n, m in zip(lengths, sizes, strict=True)), True, None, 0, mode)
    for axis in range(x.ndim - 1, x.ndim - nd - 1, -1):
        n, m = x.shape[axis], sizes[axis - x.ndim + nd]
        begin, end = np.arange(m) * n // m, -(-np.arange(1, m + 1) * n // m)
        width = int((end - begin).max())
        inside = begin[:, None] + np.arange(width) < end[:, None]  # (m, width)
        taken = np.where(inside, begin[:, None] + np.arange(width), end[:, None] - 1)
        axes = tuple(range(axis)) + tuple(range(axis + 1, x.ndim)) + (axis,)  # the pooled axis last
        rows = x.transpose(axes)[
            ..., asarray(taken.ravel(), device=x.device)
        ]  # (..., m * width): each window, its last element repeated
        if mode == "max":
            rows = _pool(name, 1, rows, width, True, None, 0, mode)
        else:
            weights = (inside / inside.sum(1, keepdims=True)).astype(x.dtype if x.dtype.kind == "f" else float)
            rows = sum_windows(
                rows * asarray(weights.ravel(), device=x.device),
                w=_windows(name, rows.shape[-1:], width, True, None, 0),
            )
        x = rows.transpose(tuple(int(a) for a in np.argsort(axes)))
    return x


def _pool(
    name: str, nd: int, input: Any, ws: Ints, ignore_border: bool, stride: Ints | None, pad: Ints, mode: str
) -> Tensor:
    x = asarray(input)
    if mode not in MODES:
        raise ValueError(f"{name}: mode must be one of {MODES}, not {mode!r}")
    if mode.startswith("average"):
        x = floating(x)
    if x.ndim < nd:
        raise ValueError(f"{name}: input must have at least the {nd} pooled axes, got shape {x.shape}")
    if mode == "max" and x.dtype.kind == "c":
        raise TypeError(f"{name}: complex numbers have no largest one; use another mode than 'max'")
    w = _windows(name, x.shape[x.ndim - nd :], ws, ignore_border, stride, pad)
    if mode == "max":
        return cast(Tensor, max_windows(x, w=w))
    if mode == "sum":
        return cast(Tensor, sum_windows(x, w=w))
    total = sum_windows(widened(x), w=w)
    counts = w.counts(with_padding=mode == "average_inc_pad")
    counts = counts.astype(total.dtype) if x.dtype.kind not in "biu" else counts
    means = cast(Tensor, total / asarray(counts, device=x.device))
    return means if total.dtype == x.dtype or x.dtype.kind in "biu" else means.astype(x.dtype)


def _windows(
    name: str, size: tuple[int, ...], ws: Ints, ignore_border: bool, stride: Ints | None, pad: Ints
) -> Windows:
    nd = len(size)
    window = _per_axis(name, "ws", ws, nd, 1)
    step = window if stride is None else _per_axis(name, "stride", stride, nd, 1)
    padding = _per_axis(name, "pad", pad, nd, 0)
    if any(p >= k for p, k in zip(padding, window, strict=True)):
        raise ValueError(f"{name}: pad={padding} must be smaller than ws={window}, or windows would see padding alone")
    if not ignore_border and any(padding):
        raise ValueError(f"{name}: pad={padding} works only with ignore_border=True")
    if ignore_border:
        out = tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, window, step, padding, strict=True))
    else:  # as many windows as it takes for the last element to be seen, each beginning inside
        out = tuple(min(-(-max(n - k, 0) // s) + 1, -(-n // s)) for n, k, s in zip(size, window, step, strict=True))
    if any(m <= 0 for m in out):
        raise ValueError(
            f"{name}: no window fits: the input has size {size}, ws={window}, stride={step}, pad={padding} give {out}"
        )
    return Windows(size, window, step, padding, out)


def _per_axis(name: str, argument: str, value: Any, nd: int, least: int) -> tuple[int, ...]:
    values = value if isinstance(value, (tuple, list)) else (value,) * nd
    if not all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in values):
        raise TypeError(f"{name}: {argument} must be an int or {nd} ints, not {value!r}")
    if len(values) != nd or any(v < least for v in values):
        raise ValueError(
            f"{name}: {argument} must be one int per pooled axis ({nd}), each at least {least}; got {value!r}"
        )
    return tuple(int(v) for v in values)
