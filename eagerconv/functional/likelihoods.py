"""Losses of numbers that are drawn from a distribution whose parameters were guessed: Gaussian and Poisson."""

import math
from typing import Any, cast

import numpy as np

from eagerconv.arguments import number
from eagerconv.autograd import rules
from eagerconv.functional.losses import aligned, reduced
from eagerconv.tensor import Tensor, asarray

__all__ = ["gaussian_nll_loss", "poisson_nll_loss"]


def gaussian_nll_loss(
    input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """Negative log-likelihood of normal numbers whose mean and variance were guessed.

    Parameters
    ----------
    input : array_like
        The means.
    target : array_like, of the same shape
        The numbers themselves.
    var : array_like
        The variances, at least 0: one number, one per element, or one per row, in the shape of the input without its last axis
        or with one of length one.
    full : bool
        Add the constant log(2 pi) / 2.
    eps : float
        What smaller variances count as, above 0; there their gradient is zero, where PyTorch's is that of `eps`.
    reduction : {"mean", "sum", "none"}
        What to make of the losses of the elements.

    Returns
    -------
    Tensor
        A single number, or (log var + (input - target)**2 / var) / 2 per element.

    Raises
    ------
    ValueError
        If the shapes do not fit, a variance is negative, or an option is out of range.

    Notes
    -----
    Nix and Weigend, "Estimating the mean and variance of the target probability distribution", ICNN 1994.

    Examples
    --------
    >>> gaussian_nll_loss([1.0, 2.0], [1.0, 4.0], [1.0, 4.0])
    tensor(0.59657359, dtype=float64)
    """
    name = "gaussian_nll_loss"
    eps = number(f"{name}: eps", eps, "(0, inf)")
    shape, variance = asarray(input).shape, asarray(var)
    rows = (*shape[:-1], 1)
    if variance.shape not in ((), shape, rows, shape[:-1]):
        raise ValueError(
            f"{name}: var must have the input's shape {shape}, or {rows} or {shape[:-1]} for one variance per row, or be a "
            f"number; got shape {variance.shape}: broadcast_to(var, {shape}) makes one of another"
        )
    if shape and variance.shape == shape[:-1]:
        variance = variance.reshape(rows)
    (x, y, v), dtype = aligned(name, {"input": input, "target": target}, var=variance)
    if (v.data < 0).any():
        raise ValueError(f"{name}: var must be at least 0, got some {v.data.min()}; give exp(v) of what is learned")
    v = cast(Tensor, rules.maximum(v, eps))
    losses = 0.5 * (rules.log(v) + (x - y) ** 2 / v)
    return reduced(name, losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction, dtype)


def poisson_nll_loss(
    input: Any, target: Any, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean"
) -> Tensor:
    """Negative log-likelihood of counts whose mean was guessed, without the term log(target!).

    Parameters
    ----------
    input : array_like
        The means, or their logarithms.
    target : array_like, of the same shape
        The counts.
    log_input : bool
        Whether the input is a logarithm: the loss is then exp(input) - target * input, else input - target * log(input + eps).
    full : bool
        Add Stirling's approximation of log(target!) where the target is above 1.
    eps : float
        Keeps the logarithm of zero finite; at least 0.
    reduction : {"mean", "sum", "none"}
        What to make of the losses of the elements.

    Returns
    -------
    Tensor
        A single number, or one per element.

    Raises
    ------
    ValueError
        If the shapes differ, or an option is out of range.

    Notes
    -----
    As PyTorch's `poisson_nll_loss`; Theano's programs write it out.

    Examples
    --------
    >>> poisson_nll_loss([0.0, 1.0], [2, 0])
    tensor(1.85914091, dtype=float64)
    """
    name = "poisson_nll_loss"
    eps = number(f"{name}: eps", eps, "[0, inf)")
    (x, y), dtype = aligned(name, {"input": input, "target": target})
    losses = rules.exp(x) - y * x if log_input else x - y * rules.log(x + eps)
    if full:
        many = y.data > 1
        safe = rules.where(many, y, np.ones((), y.dtype))
        stirling = safe * rules.log(safe) - safe + 0.5 * rules.log(2 * math.pi * safe)
        losses = losses + rules.where(many, stirling, np.zeros((), y.dtype))
    return reduced(name, losses, reduction, dtype)
