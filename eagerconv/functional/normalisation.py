"""Normalisation: batch, layer, group and instance, which are one standardisation of different groups of elements.

Every one of them sees its input as (A, B, S, L) and gives each of the B groups mean zero and variance one, and each of the
S segments of its rows a scale and a shift: batch normalisation (N, channels, 1, space), layer normalisation (1, N, features,
1), group normalisation (1, N * groups, channels of a group, space), instance normalisation (1, N * channels, 1, space).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from eagerconv.arguments import number, whole
from eagerconv.autograd import rules, tape
from eagerconv.autograd.tape import joint
from eagerconv.dtypes import widened
from eagerconv.fused import computed, operation
from eagerconv.kernels_cpu import normalise
from eagerconv.kernels_cpu.normalise import Layout, Statistics
from eagerconv.tensor import Tensor, asarray
from eagerconv.wrapping import floating

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm"]

ACTIVATIONS = (
    "gelu", "hardsigmoid", "hardswish", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softplus", "softsign", "tanh",
)  # fmt: skip
"""What may be applied to a result in the same pass: formulas of one number."""

OVER = (0, 2, 3)
"""The axes of a group."""


# ----- The primitive. x is seen as (A, B, S, L): rows, groups, segments of a group's row, each of one channel, numbers -----


def _normalised(
    x: Any, weight: Any, bias: Any, eps: float, layout: Layout, activation: str | None, seen: dict[str, Any]
) -> Any:
    """(x - mean) / sqrt(variance + eps) * weight + bias, and a formula of it; `seen` is told the statistics."""
    found = normalise.forward(x, weight, bias, eps, layout, activation)
    if found is None:
        out, seen["statistics"] = _plain(x, weight, bias, eps, layout)
        return out if activation is None else computed(activation, [out])
    out, seen["statistics"] = found
    return out


def _plain(x: Any, weight: Any, bias: Any, eps: float, layout: Layout) -> tuple[Any, Statistics]:
    """Likewise, of NumPy's functions."""
    v = x.reshape(layout[:4])
    mean = v.mean(axis=OVER, keepdims=True)
    d = v - mean
    variance = (d * d).mean(axis=OVER, keepdims=True)
    rstd = 1 / np.sqrt(variance + np.asarray(eps, variance.dtype))
    d *= rstd if weight is None else rstd * _spread(weight, layout)
    if bias is not None:
        d += _spread(bias, layout)
    return d.reshape(x.shape), Statistics(*(s.reshape(-1) for s in (mean, variance, rstd)))


def _spread(numbers: Any, layout: Layout) -> Any:
    """One number for each channel as (B, S, 1)."""
    _, groups, segments, _, channels = layout
    if groups * segments != channels:
        numbers = rules.broadcast_to(numbers, shape=(groups * segments // channels, channels))
    return numbers.reshape(groups, segments, 1)


def _pull(
    g: Any, operands: Any, eps: float, layout: Layout, activation: str | None, seen: dict[str, Any]
) -> tuple[Any, Any, Any]:
    """Gradients of x, weight and bias, where u = (x - mean) rstd and m numbers are in a group.

    The bias gets sum(g), the weight sum(g u), and x rstd (g weight - sum(g weight) / m - u sum(g weight u) / m).
    """
    if not tape.is_grad_enabled():
        x, weight, bias = (None if v is None else v.data for v in operands)
        found = normalise.backward(g.data, x, weight, bias, seen["statistics"], layout, activation)
        if found is not None:
            gx, gw, gb = (type(g)._wrap(value) for value in found)
            return gx, gw, gb
    return _pull_recorded(g, operands, eps, layout, activation)


def _pull_recorded(g: Any, operands: Any, eps: float, layout: Layout, activation: str | None) -> tuple[Any, Any, Any]:
    """The same of operations on the tape, which can be differentiated again."""
    x, weight, bias = operands
    over: dict[str, Any] = {"axis": OVER, "keepdims": True}
    v, gy = x.reshape(layout[:4]), g.reshape(layout[:4])
    d = v - rules.mean(v, **over)
    rstd = 1 / rules.sqrt(rules.mean(d * d, **over) + eps)
    u = d * rstd
    if activation is not None:
        z = u if weight is None else u * _spread(weight, layout)
        gy = operation(f"{activation}_d0")(gy, z if bias is None else z + _spread(bias, layout))
    gu = gy if weight is None else gy * _spread(weight, layout)
    gx = rstd * (gu - rules.mean(gu, **over) - u * rules.mean(gu * u, **over))
    of_channels = (-1, layout.channels)
    sums, dots = (rules.sum(value, axis=3).reshape(of_channels) for value in (gy, gy * u))
    return gx.reshape(x.shape), rules.sum(dots, axis=0), rules.sum(sums, axis=0)


_normalise = joint(
    "normalise",
    _normalised,
    lambda g, operands, eps, layout, activation, seen: _pull(g, operands, eps, layout, activation, seen),
)


def _standardised(
    x: Tensor, layout: Layout, eps: float, weight: Any, bias: Any, activation: str | None, seen: dict[str, Any]
) -> Tensor:
    """Each group of x with mean zero and variance one, then each channel scaled and shifted, then the activation."""
    given = [x, *(asarray(value) for value in (weight, bias) if value is not None)]
    scale, shift = (None if value is None else widened(asarray(value)).reshape(-1) for value in (weight, bias))
    wide = widened(x)  # the squares of numbers from 256 on are beyond float16
    dtype = np.result_type(*(value.dtype for value in (wide, scale, shift) if value is not None))
    operands = [value if value is None else value.astype(dtype, copy=False) for value in (wide, scale, shift)]
    out = cast(Tensor, _normalise(*operands, eps=eps, layout=layout, activation=activation, seen=seen))
    return _narrowed(out, *given)


def _with_statistics(
    x: Tensor, mean: Any, variance: Any, weight: Any, bias: Any, activation: str | None, eps: float
) -> Tensor:
    """The numbers of each channel less its mean, over its deviation, then scaled and shifted, then the activation."""
    n, c = x.shape[:2]
    rstd, scale, shift = _rstd(variance, eps), *(None if v is None else widened(asarray(v)) for v in (weight, bias))
    if not tape.is_grad_enabled() or not any(v is not None and v.requires_grad for v in (x, scale, shift)):
        numbers = (
            mean,
            rstd if scale is None else rstd * scale.data,
            np.zeros_like(mean) if shift is None else shift.data,
        )
        found = normalise.affine(x.data, *numbers, Layout(n, c, 1, math.prod(x.shape[2:]), c), activation)
        if found is not None:
            return Tensor._wrap(found)
    each = (c,) + (1,) * (x.ndim - 2)
    out: Tensor = (x - mean.reshape(each)) * rstd.reshape(each)
    out = out if scale is None else out * scale.reshape(each)
    out = out if shift is None else out + shift.reshape(each)
    return out if activation is None else cast(Tensor, operation(activation)(out))


def _narrowed(out: Tensor, x: Tensor, *others: Tensor) -> Tensor:
    """A result of `widened(x)` and others in the dtype that they have together."""
    return out if widened(x) is x else out.astype(np.result_type(x.dtype, *(other.dtype for other in others)))


def _rstd(variance: Any, eps: float) -> Any:
    return 1 / np.sqrt(variance + np.asarray(eps, variance.dtype))


# ----- What users call -----


def batch_norm(
    input: Any,
    running: dict[str, Tensor] | None = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: str | None = None,
) -> tuple[Tensor, dict[str, Tensor] | None]:
    """Give every channel mean zero and variance one over the batch and space, then a scale and a shift that are learned.

    Parameters
    ----------
    input : array_like, shape (N, C, ...)
        Real numbers; integers and booleans count as float64.
    running : dict of Tensors {"mean": (C,), "var": (C,)}, optional
        Running statistics: what is used when `training` is False. They begin as zeros and ones.
    weight, bias : array_like, shape (C,), optional
        Scale and shift.
    training : bool
        Use the statistics of this batch, not the running ones.
    momentum : float
        The share of this batch in the new running statistics, from 0 to 1; Keras calls 1 - momentum so.
    eps : float
        Added to the variance; at least 0.
    activation : None or str
        What is applied to the result in the same pass over memory: "relu", "relu6", "silu", "gelu", or another activation
        without further arguments.

    Returns
    -------
    out : Tensor, shape (N, C, ...)
    running : dict of Tensors, or None
        The running statistics to hand in the next time: new ones in training (of the unbiased variance, as in PyTorch),
        those that were given otherwise. Nothing is changed in place.

    Raises
    ------
    ValueError
        If a shape does not fit, there is nothing to take the variance of, or there are no statistics to use.

    Notes
    -----
    Ioffe and Szegedy, "Batch normalization", ICML 2015.

    Examples
    --------
    >>> x = np.array([[[1.0, 3.0]], [[5.0, 7.0]]])
    >>> out, running = batch_norm(x, {"mean": np.zeros(1), "var": np.ones(1)}, eps=0)
    >>> running["mean"]
    tensor([0.4], dtype=float64)
    >>> out.data.mean(), out.data.var()
    (np.float64(0.0), np.float64(1.0))
    """
    given: Any = running
    if running is not None and not (isinstance(given, Mapping) and {"mean", "var"} <= set(given)):
        what = f"one of {', '.join(map(repr, given))}" if isinstance(given, Mapping) else type(given).__name__
        raise TypeError(
            f'batch_norm: running must be a dict {{"mean": (C,), "var": (C,)}} of the running statistics, not {what}'
        )
    x = _inputs("batch_norm", input, 2, eps)
    _check_activation("batch_norm", activation)
    momentum = number("batch_norm: momentum", momentum, "[0, 1]")
    n, c = x.shape[:2]
    shape = (n, c, math.prod(x.shape[2:]))
    if not training:
        if running is None:
            raise ValueError("batch_norm: training=False uses running statistics, and none were given")
        wide = widened(x)
        mean, variance = (asarray(running[name]).data.astype(wide.dtype, copy=False) for name in ("mean", "var"))
        _check_channels("batch_norm", {"running['mean']": mean, "running['var']": variance}, c)
        _check_channels("batch_norm", {"weight": weight, "bias": bias}, c)
        out = _with_statistics(wide, mean, variance, weight, bias, activation, eps)
        return _narrowed(out, x, *(asarray(v) for v in (weight, bias) if v is not None)), running
    count = shape[0] * shape[2]
    if count < 2:
        raise ValueError(f"batch_norm: one value per channel (input {x.shape}) has no variance; use training=False")
    _check_channels("batch_norm", {"weight": weight, "bias": bias}, c)
    seen: dict[str, Any] = {}
    out = _standardised(x, Layout(n, c, 1, shape[2], c), eps, weight, bias, activation, seen)
    if running is None:
        return out, None
    mean, variance, _ = seen["statistics"]
    latest = {"mean": mean, "var": variance * (count / (count - 1))}
    before = {name: asarray(running[name]).data for name in latest}
    _check_channels("batch_norm", {f"running['{name}']": before[name] for name in latest}, c)
    return out, {name: Tensor._wrap((1 - momentum) * before[name] + momentum * latest[name]) for name in latest}


def layer_norm(
    input: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Give the last axes of every example mean zero and variance one, then a scale and a shift that are learned.

    Parameters
    ----------
    input : array_like, shape (..., *normalized_shape)
        Real numbers; integers and booleans count as float64.
    normalized_shape : int or ints
        The lengths of the last axes, over which statistics are taken.
    weight, bias : array_like, shape normalized_shape, optional
        Scale and shift.
    eps : float
        Added to the variance; at least 0.

    Returns
    -------
    Tensor
        Of the same shape.

    Raises
    ------
    ValueError
        If a shape does not fit.

    Notes
    -----
    Ba, Kiros and Hinton, "Layer normalization", 2016.

    Examples
    --------
    >>> layer_norm([[1.0, 3.0], [0.0, 10.0]], 2, eps=0)
    tensor([[-1.,  1.],
            [-1.,  1.]], dtype=float64)
    """
    tail = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    x = _inputs("layer_norm", input, len(tail), eps)
    if not tail or x.shape[x.ndim - len(tail) :] != tail:
        raise ValueError(f"layer_norm: the last axes of the input {x.shape} must be normalized_shape={tail}")
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and asarray(value).shape != tail:
            raise ValueError(f"layer_norm: {name} must have shape normalized_shape={tail}, got {asarray(value).shape}")
    size = math.prod(tail)
    return _standardised(x, Layout(1, x.size // size if size else 0, size, 1, size), eps, weight, bias, None, {})


def group_norm(
    input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, activation: str | None = None
) -> Tensor:
    """Give every group of channels of every example mean zero and variance one, then a scale and shift per channel.

    Parameters
    ----------
    input : array_like, shape (N, C, ...)
        Real numbers; integers and booleans count as float64.
    num_groups : int
        A divisor of C: 1 is layer normalisation over channels and space, C is instance normalisation.
    weight, bias : array_like, shape (C,), optional
        Scale and shift.
    eps : float
        Added to the variance; at least 0.
    activation : None or str
        As for `batch_norm`.

    Returns
    -------
    Tensor
        Of the same shape.

    Raises
    ------
    ValueError
        If a shape does not fit, or num_groups does not divide the channels.

    Notes
    -----
    Wu and He, "Group normalization", ECCV 2018.

    Examples
    --------
    >>> group_norm([[1.0, 3.0, 0.0, 10.0]], 2, eps=0)
    tensor([[-1.,  1., -1.,  1.]], dtype=float64)
    """
    return _group_norm("group_norm", input, num_groups, weight, bias, eps, activation)


def instance_norm(
    input: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    running: dict[str, Tensor] | None = None,
    training: bool = True,
    momentum: float = 0.1,
) -> Any:
    """Give every channel of every example mean zero and variance one: `group_norm` with one channel per group.

    Parameters
    ----------
    input : array_like, shape (N, C, ...)
        Real numbers; integers and booleans count as float64.
    weight, bias : array_like, shape (C,), optional
        Scale and shift.
    eps : float
        Added to the variance; at least 0.
    running : dict of Tensors {"mean": (C,), "var": (C,)}, optional
        Running statistics, as of `batch_norm`, which does the work when `training` is False.
    training : bool
        Use the statistics of each example, not the running ones.
    momentum : float
        The share of this batch, the mean over its examples, in the new running statistics, from 0 to 1.

    Returns
    -------
    Tensor, or (Tensor, dict of Tensors)
        Of the same shape; with `running` in a pair with the statistics to hand in the next time, as `batch_norm` returns it.

    Raises
    ------
    ValueError
        If a shape does not fit, there is nothing to take the variance of, or there are no statistics to use.

    Notes
    -----
    Ulyanov et al., "Instance normalization", 2016.

    Examples
    --------
    >>> instance_norm([[[1.0, 3.0], [0.0, 10.0]]], eps=0)
    tensor([[[-1.,  1.],
             [-1.,  1.]]], dtype=float64)
    >>> start = {"mean": np.zeros(2), "var": np.ones(2)}
    >>> out, running = instance_norm([[[1.0, 3.0], [0.0, 10.0]]], running=start, momentum=0.5)
    >>> running["mean"]
    tensor([1. , 2.5], dtype=float64)
    """
    if not training:
        if running is None:
            raise ValueError("instance_norm: training=False uses running statistics, and none were given: running=")
        return batch_norm(input, running, weight, bias, training=False, eps=eps)
    share = number("instance_norm: momentum", momentum, "[0, 1]")
    out = _group_norm("instance_norm", input, None, weight, bias, eps, None)
    return out if running is None else (out, _with_examples(floating(input), running, share))


def _with_examples(x: Tensor, running: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Running statistics, of which the means over the examples of their means and unbiased variances become a share."""
    space = tuple(range(2, x.ndim))
    if math.prod(x.shape[2:]) < 2 or not x.size:
        raise ValueError(f"instance_norm: one value per channel of an example (input {x.shape}) has no variance")
    wide = widened(x.detach()).data
    latest = {"mean": wide.mean(axis=space).mean(0), "var": wide.var(axis=space, ddof=1).mean(0)}
    before = {name: asarray(running[name]).data for name in latest}
    _check_channels("instance_norm", {f"running['{name}']": before[name] for name in latest}, x.shape[1])
    return {name: Tensor._wrap((1 - share) * before[name] + share * latest[name]) for name in latest}


def _group_norm(
    name: str, input: Any, num_groups: int | None, weight: Any, bias: Any, eps: float, activation: str | None
) -> Tensor:
    x = _inputs(name, input, 2, eps)
    _check_activation(name, activation)
    n, c = x.shape[:2]
    groups = c if num_groups is None else whole(f"{name}: num_groups", num_groups, 1)
    if c % max(groups, 1):
        raise ValueError(f"{name}: num_groups={groups} must divide the {c} channels of the input {x.shape}")
    _check_channels(name, {"weight": weight, "bias": bias}, c)
    layout = Layout(1, n * groups, c // max(groups, 1), math.prod(x.shape[2:]), c)
    return _standardised(x, layout, eps, weight, bias, activation, {})


def _inputs(name: str, input: Any, ndim: int, eps: float) -> Tensor:
    number(f"{name}: eps", eps, "[0, inf)")
    x = floating(input)
    if x.ndim < ndim:
        raise ValueError(f"{name}: the input must have {ndim} axes or more, got shape {x.shape}")
    if x.dtype.kind == "c":
        raise TypeError(f"{name}: the input must be real, not {x.dtype}")
    return x


def _check_activation(name: str, activation: str | None) -> None:
    if activation is not None and activation not in ACTIVATIONS:
        raise ValueError(
            f"{name}: activation must be None or one of {', '.join(ACTIVATIONS)}, not {activation!r}; apply another one to the "
            "result"
        )


def _check_channels(name: str, values: dict[str, Any], channels: int) -> None:
    for what, value in values.items():
        if value is not None and asarray(value).shape != (channels,):
            raise ValueError(f"{name}: {what} must have shape (C,) = ({channels},), got {asarray(value).shape}")
