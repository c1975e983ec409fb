"""Normalisation: batch, layer, group and instance, which are one standardisation of different groups of elements.

Every one of them sees its input as (A, B, C) and gives each b of the B groups mean zero and variance one: batch
normalisation (N, channels, space), layer normalisation (1, N, features), group normalisation (1, N * groups, the rest),
instance normalisation (1, N * channels, space).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from eagerconv.arguments import number, whole
from eagerconv.autograd import rules, tape
from eagerconv.autograd.tape import joint
from eagerconv.dtypes import widened
from eagerconv.tensor import Tensor, asarray
from eagerconv.wrapping import floating

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm"]


# ----- The primitive. x is (A, B, C); weight, bias, and the statistics are (B, 1) or numbers -----


def _normalised(x: Any, weight: Any, bias: Any, eps: float, seen: dict[str, Any]) -> Any:
    """(x - mean) / sqrt(variance + eps) * weight + bias, in one piece of memory; `seen` is told the statistics."""
    mean = x.mean(axis=(0, 2), keepdims=True)[0]
    d = x - mean
    variance = _products(d, d) / (x.shape[0] * x.shape[2])
    rstd = _rstd(variance, eps)
    seen.update(mean=mean, variance=variance, rstd=rstd)
    d *= rstd * weight
    if not isinstance(bias, float):
        d += bias
    return d


def _products(a: Any, b: Any) -> Any:
    """Sum of a * b over each group, (B, 1): short rows without the products in memory, long ones by pairs, for accuracy."""
    if a.shape[2] > 2048:
        return (a * b).sum(axis=(0, 2))[:, None]
    return np.einsum("abc,abc->ab", a, b).sum(axis=0)[:, None]


def _pull(g: Any, operands: Any, eps: float, seen: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Gradients of x, weight and bias, where u = (x - mean) rstd and m numbers are in a group.

    The bias gets sum(g), the weight sum(g u), and x rstd weight (g - sum(g) / m - u sum(g u) / m).
    """
    if tape.is_grad_enabled():
        return _pull_recorded(g, operands, eps)
    x, weight, v = operands[0].data, getattr(operands[1], "data", operands[1]), g.data
    m, rstd = x.shape[0] * x.shape[2], seen["rstd"]
    u = x - seen["mean"]
    u *= rstd
    total, dot = v.sum(axis=(0, 2))[:, None], _products(v, u)
    u *= dot / -m
    u += v
    u -= total / m
    u *= rstd * weight
    kind = type(g)
    return kind._wrap(u), kind._wrap(dot), kind._wrap(total)


def _pull_recorded(g: Any, operands: Any, eps: float) -> tuple[Any, Any, Any]:
    """The same of operations on the tape, which can be differentiated again."""
    x, weight, _ = operands
    over: dict[str, Any] = {"axis": (0, 2), "keepdims": True}
    d = x - rules.mean(x, **over)
    rstd = 1 / rules.sqrt(rules.mean(d * d, **over) + eps)
    u = d * rstd
    gx = rstd * weight * (g - rules.mean(g, **over) - u * rules.mean(g * u, **over))
    return gx, rules.sum(g * u, **over), rules.sum(g, **over)


_normalise = joint("normalise", _normalised, lambda g, operands, eps, seen: _pull(g, operands, eps, seen))


def _standardised(
    x: Tensor, shape: tuple[int, ...], eps: float, weight: Any = None, bias: Any = None, seen: Any = None
) -> Tensor:
    """Each of the B groups of x, seen as `shape` = (A, B, C), with mean zero and variance one, then scaled and shifted."""
    given = [x, *(asarray(value) for value in (weight, bias) if value is not None)]
    scale, shift = (
        number if value is None else widened(asarray(value)).reshape(shape[1], 1)
        for value, number in ((weight, 1.0), (bias, 0.0))
    )
    wide = widened(x).reshape(shape)  # the squares of numbers from 256 on are beyond float16
    out = cast(Tensor, _normalise(wide, scale, shift, eps=eps, seen={} if seen is None else seen))
    return _narrowed(out.reshape(x.shape), *given)


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
    momentum = number("batch_norm: momentum", momentum, "[0, 1]")
    n, c = x.shape[:2]
    shape = (n, c, math.prod(x.shape[2:]))
    if not training:
        if running is None:
            raise ValueError("batch_norm: training=False uses running statistics, and none were given")
        wide = widened(x)
        mean, variance = (asarray(running[name]).data.astype(wide.dtype, copy=False) for name in ("mean", "var"))
        _check_channels("batch_norm", {"running['mean']": mean, "running['var']": variance}, c)
        out = (wide.reshape(shape) - mean[:, None]) * _rstd(variance, eps)[:, None]
        return _affine("batch_norm", _narrowed(out.reshape(x.shape), x), weight, bias, c), running
    count = shape[0] * shape[2]
    if count < 2:
        raise ValueError(f"batch_norm: one value per channel (input {x.shape}) has no variance; use training=False")
    _check_channels("batch_norm", {"weight": weight, "bias": bias}, c)
    seen: dict[str, Any] = {}
    out = _standardised(x, shape, eps, weight, bias, seen)
    if running is None:
        return out, None
    latest = {"mean": seen["mean"][:, 0], "var": seen["variance"][:, 0] * (count / (count - 1))}
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
    size = math.prod(tail)
    out = _standardised(x, (1, x.size // size if size else 0, size), eps)
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and asarray(value).shape != tail:
            raise ValueError(f"layer_norm: {name} must have shape normalized_shape={tail}, got {asarray(value).shape}")
    out = out if weight is None else out * asarray(weight)
    return out if bias is None else out + asarray(bias)


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
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
    return _group_norm("group_norm", input, num_groups, weight, bias, eps)


def instance_norm(input: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """Give every channel of every example mean zero and variance one: `group_norm` with one channel per group.

    Notes
    -----
    Ulyanov et al., "Instance normalization", 2016.

    Examples
    --------
    >>> instance_norm([[[1.0, 3.0], [0.0, 10.0]]], eps=0)
    tensor([[[-1.,  1.],
             [-1.,  1.]]], dtype=float64)
    """
    return _group_norm("instance_norm", input, None, weight, bias, eps)


def _group_norm(name: str, input: Any, num_groups: int | None, weight: Any, bias: Any, eps: float) -> Tensor:
    x = _inputs(name, input, 2, eps)
    n, c = x.shape[:2]
    groups = c if num_groups is None else whole(f"{name}: num_groups", num_groups, 1)
    if c % max(groups, 1):
        raise ValueError(f"{name}: num_groups={groups} must divide the {c} channels of the input {x.shape}")
    out = _standardised(x, (1, n * groups, c // groups * math.prod(x.shape[2:])), eps)
    return _affine(name, out, weight, bias, c)


def _inputs(name: str, input: Any, ndim: int, eps: float) -> Tensor:
    number(f"{name}: eps", eps, "[0, inf)")
    x = floating(input)
    if x.ndim < ndim:
        raise ValueError(f"{name}: the input must have {ndim} axes or more, got shape {x.shape}")
    if x.dtype.kind == "c":
        raise TypeError(f"{name}: the input must be real, not {x.dtype}")
    return x


def _affine(name: str, x: Tensor, weight: Any, bias: Any, channels: int) -> Tensor:
    """The affine map x * weight + bias, one of each per channel, the second axis."""
    _check_channels(name, {"weight": weight, "bias": bias}, channels)
    each = (channels,) + (1,) * (x.ndim - 2)
    x = x if weight is None else x * asarray(weight).reshape(each)
    return x if bias is None else x + asarray(bias).reshape(each)


def _check_channels(name: str, values: dict[str, Any], channels: int) -> None:
    for what, value in values.items():
        if value is not None and asarray(value).shape != (channels,):
            raise ValueError(f"{name}: {what} must have shape (C,) = ({channels},), got {asarray(value).shape}")
