"""Losses: one number that says how far results are from what they should be."""

from typing import Any, cast

import numpy as np

from eagerconv import devices
from eagerconv.arguments import number
from eagerconv.autograd import rules
from eagerconv.dtypes import widened
from eagerconv.functional.activations import log_softmax, softplus
from eagerconv.functional.class_losses import class_losses, places
from eagerconv.fused import operation
from eagerconv.tensor import Tensor, asarray
from eagerconv.wrapping import floating

__all__ = [
    "binary_cross_entropy_with_logits", "cross_entropy", "huber_loss", "kl_div", "l1_loss", "mse_loss", "nll_loss",
]  # fmt: skip

REDUCTIONS = ("mean", "sum", "none")


def cross_entropy(
    logits: Any,
    labels: Any,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: str = "mean",
    *,
    weight: Any = None,
) -> Tensor:
    """Negative log-probability of the true class, when softmax turns logits into probabilities.

    Parameters
    ----------
    logits : array_like, shape (N, K, ...)
        K scores per example; further axes are positions of an image, each with a class of its own.
    labels : array_like of ints, shape (N, ...), or of floats, shape (N, K, ...)
        The true classes, from 0 to K - 1; or the probability of each class.
    label_smoothing : float
        The share of the target, from 0 to 1, that is spread over all K classes.
    ignore_index : int, optional
        A label that does not count; it need not be a class. PyTorch's default is -100.
    reduction : {"mean", "sum", "none"}
        What to make of the losses: their mean (over those that count), their sum, or nothing.
    weight : array_like, shape (K,), optional
        How much each class counts. The mean is then that of the weighted losses: their sum is divided by the weights of the
        true classes; for probabilities, as in PyTorch, by the number of examples.

    Returns
    -------
    Tensor
        A single number; of shape (N, ...), zero where labels do not count, for reduction "none".

    Raises
    ------
    TypeError
        If the labels are neither integers nor probabilities in the shape of the logits.
    ValueError
        If the shapes do not fit, there is no example for a mean, a label is out of range, or an option is.

    Notes
    -----
    Label smoothing: Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR 2016.

    Examples
    --------
    >>> cross_entropy([[0.0, 0.0], [1000.0, 0.0]], [1, 0])
    tensor(0.34657359, dtype=float64)
    >>> cross_entropy([[0.0, 1.0]], [[0.25, 0.75]])  # as much as the classes are probable
    tensor(0.56326169, dtype=float64)
    """
    x = floating(logits)
    if _are_probabilities(x, labels):
        return _soft_cross_entropy(x, asarray(labels), label_smoothing, ignore_index, reduction, weight)
    if weight is not None:
        return _weighted("cross_entropy", x, labels, label_smoothing, ignore_index, reduction, weight, logits=True)
    classes = _labels("cross_entropy", x, labels, ignore_index)
    label_smoothing = number("cross_entropy: label_smoothing", label_smoothing, "[0, 1]")
    wide = widened(x)
    losses = class_losses(wide, classes if ignore_index is None else np.where(classes == ignore_index, 0, classes))
    if label_smoothing:
        losses = (1 - label_smoothing) * losses - label_smoothing * log_softmax(wide, axis=1).mean(axis=1)
    losses = _counted(losses, classes, ignore_index)
    return _reduced("cross_entropy", losses, reduction, _counting(classes, ignore_index)).astype(x.dtype, copy=False)


def nll_loss(
    log_probabilities: Any, labels: Any, ignore_index: int | None = None, reduction: str = "mean", *, weight: Any = None
) -> Tensor:
    """Negative log-probability of the true class: `cross_entropy` for what went through `log_softmax` already.

    Examples
    --------
    >>> nll_loss(np.log([[0.25, 0.75]]), [0])
    tensor(1.38629436, dtype=float64)
    """
    x = floating(log_probabilities)
    if weight is not None:
        return _weighted("nll_loss", x, labels, 0.0, ignore_index, reduction, weight, logits=False)
    classes = _labels("nll_loss", x, labels, ignore_index)
    return _reduced("nll_loss", _picked(x, classes, ignore_index), reduction, _counting(classes, ignore_index))


def _labels(name: str, x: Tensor, labels: Any, ignore_index: int | None) -> Any:
    """The labels as an array that was checked."""
    # Checked where they are: looking at those of the CPU does not wait for a GPU.
    classes = labels.data if isinstance(labels, Tensor) else labels if devices.of(labels) else np.asarray(labels)
    fix = _mended(x, classes)
    if classes.dtype.kind not in "iu":
        raise TypeError(f"{name}: labels must be integers, the index of the class, not {classes.dtype}{fix}")
    if x.ndim < 2 or classes.shape != x.shape[:1] + x.shape[2:]:
        raise ValueError(
            f"{name}: expected logits (N, K, ...) and labels (N, ...), got {x.shape} and {classes.shape}{fix}"
        )
    counting = classes if ignore_index is None else classes[classes != ignore_index]
    k = x.shape[1]
    if counting.size and (counting.min() < 0 or counting.max() >= k):
        raise ValueError(
            f"{name}: labels must lie from 0 to K - 1 = {k - 1}, got some from {counting.min()} to {counting.max()}; "
            "pass ignore_index= for one that does not count"
        )
    return devices.move(classes, x.device) if devices.of(classes) == "cpu" else classes


def _mended(x: Tensor, classes: Any) -> str:
    """What to write for labels that are one-hot, of floats, or given before the logits."""
    if classes.shape == x.shape and x.ndim > 1:
        return "; of one-hot labels give labels.argmax(axis=1)"
    if classes.ndim == x.ndim + 1:
        return "; the logits come first, the labels second"
    return "; write labels.astype('int64')" if classes.dtype.kind == "f" else ""


def _picked(log_p: Tensor, classes: Any, ignore_index: int | None) -> Tensor:
    """Minus the log-probability of each example's class, (N, K, ...) -> (N, ...); 0 where it does not count."""
    safe = classes if ignore_index is None else np.where(classes == ignore_index, 0, classes)
    return _counted(-log_p[places(safe)], classes, ignore_index)


def _counted(losses: Tensor, classes: Any, ignore_index: int | None) -> Tensor:
    """The losses, zero where they do not count."""
    if ignore_index is None:
        return losses
    return cast(Tensor, rules.where(classes != ignore_index, losses, np.zeros((), losses.dtype)))


def _counting(classes: Any, ignore_index: int | None) -> int:
    return int(classes.size if ignore_index is None else np.count_nonzero(classes != ignore_index))


def _are_probabilities(x: Tensor, labels: Any) -> bool:
    y = asarray(labels)
    return y.shape == x.shape and y.ndim > 1 and y.dtype.kind not in "biuc"


def _class_weights(name: str, x: Tensor, weight: Any) -> Tensor:
    """One number per class, in the dtype of x, a shape that broadcasts against it, and where it is."""
    w = asarray(weight).to(x.device)
    if w.shape != x.shape[1:2]:
        raise ValueError(f"{name}: weight must have shape (K,) = {x.shape[1:2]}, one number per class, got {w.shape}")
    return w.astype(x.dtype).reshape((-1, *(1,) * (x.ndim - 2)))


def _weighted(
    name: str,
    x: Tensor,
    labels: Any,
    label_smoothing: float,
    ignore_index: int | None,
    reduction: str,
    weight: Any,
    logits: bool,
) -> Tensor:
    """The losses of classes that count differently: -w[y] log p[y], and of the share that is spread -mean(w log p)."""
    classes, wide = _labels(name, x, labels, ignore_index), widened(x)
    share, w = number(f"{name}: label_smoothing", label_smoothing, "[0, 1]"), _class_weights(name, x, weight)
    w = widened(w)
    counts = np.ones_like(classes, bool) if ignore_index is None else classes != ignore_index
    kept = asarray(counts.astype(wide.dtype), device=x.device)  # (N, ...)
    each = w.reshape(-1)[np.where(counts, classes, 0)] * kept
    log_p = log_softmax(wide, axis=1) if logits else wide
    losses = (1 - share) * each * _picked(log_p, classes, ignore_index)
    if share:
        losses = losses - share * (w * log_p).mean(axis=1) * kept
    if reduction == "mean":
        if not each.data.any():
            raise ValueError(f"{name}: the mean over no examples is not defined: no weight of a label is above 0")
        return (losses.sum() / each.sum()).astype(x.dtype)
    return _reduced(name, losses, reduction).astype(x.dtype)


def _soft_cross_entropy(
    x: Tensor, target: Tensor, label_smoothing: float, ignore_index: int | None, reduction: str, weight: Any
) -> Tensor:
    """The losses of probabilities of all classes: -sum(w q log p) over them; 0 log 0 = 0."""
    if ignore_index is not None:
        raise ValueError(
            "cross_entropy: ignore_index is for labels that are classes; give probabilities that are all zero"
        )
    share, wide = number("cross_entropy: label_smoothing", label_smoothing, "[0, 1]"), widened(x)
    q = (1 - share) * target.astype(wide.dtype) + share / x.shape[1]
    log_p = log_softmax(wide, axis=1)
    nothing = (q.data == 0) & (log_p.data == -np.inf)
    log_p = cast(Tensor, rules.where(nothing, np.zeros((), wide.dtype), log_p)) if nothing.any() else log_p
    terms = q * log_p if weight is None else q * log_p * widened(_class_weights("cross_entropy", x, weight))
    return _reduced("cross_entropy", -terms.sum(axis=1), reduction).astype(x.dtype)


def binary_cross_entropy_with_logits(
    logits: Any, target: Any, pos_weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """Negative log-probability of yes-or-no answers, when `sigmoid` turns logits into probabilities of yes.

    Parameters
    ----------
    logits : array_like
        Scores.
    target : array_like, of the same shape
        1 for yes, 0 for no; or a probability.
    pos_weight : array_like, optional
        Weight of the yes, in a shape that broadcasts.
    reduction : {"mean", "sum", "none"}
        What to make of the losses of the elements.

    Returns
    -------
    Tensor
        A single number, or one per element.

    Raises
    ------
    ValueError
        If the shapes differ, or for an unknown reduction.

    Examples
    --------
    >>> binary_cross_entropy_with_logits([0.0, -1000.0], [1.0, 0.0])
    tensor(0.34657359, dtype=float64)
    """
    x, y = _pair("binary_cross_entropy_with_logits", logits, target)
    # -y log s(x) - (1 - y) log(1 - s(x)), with log s(x) = -softplus(-x) and log(1 - s(x)) = -softplus(x) = log s(x) - x
    if pos_weight is None:
        return _compared("binary_cross_entropy_with_logits", "logit_error", x, y, (), reduction)
    weight = pos_weight if isinstance(pos_weight, (int, float)) else asarray(pos_weight)  # numbers are weakly typed
    losses = (1 - y) * x + (1 - y + y * weight) * softplus(-x)
    return _reduced("binary_cross_entropy_with_logits", losses, reduction)


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Mean squared error: the mean of |input - target|**2 over all elements.

    Parameters
    ----------
    input, target : array_like
        Of the same shape: here broadcasting is a mistake more often than a wish.
    reduction : {"mean", "sum", "none"}
        What to make of the losses of the elements.

    Returns
    -------
    Tensor
        A single number, or one per element.

    Raises
    ------
    ValueError
        If the shapes differ, or for an unknown reduction.

    Examples
    --------
    >>> mse_loss([1.0, 2.0], [1.0, 4.0])
    tensor(2., dtype=float64)
    """
    x, y = _pair("mse_loss", input, target)
    if "c" not in (x.dtype.kind, y.dtype.kind):
        return _compared("mse_loss", "squared_error", x, y, (), reduction)
    d = x - y
    return _reduced("mse_loss", (d * d.conjugate()).real, reduction)


def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Mean absolute error; parameters as for `mse_loss`.

    Examples
    --------
    >>> l1_loss([1.0, 2.0], [1.0, 4.0])
    tensor(1., dtype=float64)
    """
    x, y = _pair("l1_loss", input, target)
    if "c" not in (x.dtype.kind, y.dtype.kind):
        return _compared("l1_loss", "absolute_error", x, y, (), reduction)
    return _reduced("l1_loss", abs(x - y), reduction)


def huber_loss(input: Any, target: Any, delta: float = 1.0, reduction: str = "mean") -> Tensor:
    """Half the squared error where it is at most delta, and beyond a straight line of that slope.

    Parameters
    ----------
    input, target : array_like
        Of the same shape.
    delta : float
        Where the line begins, above 0.
    reduction : {"mean", "sum", "none"}
        What to make of the losses of the elements.

    Returns
    -------
    Tensor
        A single number, or one per element.

    Raises
    ------
    ValueError
        If the shapes differ, delta is not positive, or for an unknown reduction.

    Notes
    -----
    Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35 (1964).

    Examples
    --------
    >>> huber_loss([0.5, 3.0], [0.0, 0.0], reduction="none")
    tensor([0.125, 2.5  ], dtype=float64)
    """
    delta = number("huber_loss: delta", delta, "(0, inf]")
    x, y = _pair("huber_loss", input, target)
    return _compared("huber_loss", "huber_error", x, y, (delta,), reduction)


def kl_div(log_input: Any, target: Any, log_target: bool = False, reduction: str = "batchmean") -> Tensor:
    """Kullback-Leibler divergence of the target distribution from the one given by its logarithm.

    Parameters
    ----------
    log_input : array_like
        Logarithms of probabilities, as of `log_softmax`.
    target : array_like, of the same shape
        Probabilities.
    log_target : bool
        The target comes as logarithms too.
    reduction : {"batchmean", "mean", "sum", "none"}
        "batchmean" divides the sum by the length of the first axis, which is the divergence of the books; it is the
        default here, where PyTorch's is "mean".

    Returns
    -------
    Tensor
        A single number, or target * (log target - log_input) per element.

    Raises
    ------
    ValueError
        If the shapes differ, or for an unknown reduction.

    Examples
    --------
    >>> kl_div(np.log([[0.5, 0.5]]), [[1.0, 0.0]])
    tensor(0.69314718, dtype=float64)
    """
    x, y = _pair("kl_div", log_input, target)
    if log_target:
        losses = rules.exp(y) * (y - x)
    else:
        losses = y * rules.log(rules.where(y > 0, y, np.ones((), y.dtype))) - y * x  # 0 log 0 = 0
    if reduction == "batchmean":
        return cast(Tensor, losses.sum() / len(x))
    return _reduced("kl_div", losses, reduction)


def _pair(name: str, input: Any, target: Any) -> tuple[Tensor, Tensor]:
    """Both as tensors of inexact numbers: integers in the precision of the other, or else in float64."""
    x, y = asarray(input), asarray(target)
    if x.shape != y.shape:
        raise ValueError(f"{name}: input and target must have the same shape, got {x.shape} and {y.shape}")
    if x.dtype.kind in "biu" and y.dtype.kind in "biu":
        return floating(x), floating(y)
    return x.astype(y.dtype) if x.dtype.kind in "biu" else x, y.astype(x.dtype) if y.dtype.kind in "biu" else y


def _compared(name: str, formula: str, x: Tensor, y: Tensor, numbers: tuple[float, ...], reduction: str) -> Tensor:
    """A loss that is a formula of each pair of numbers; those of 16 bits are added up in single precision."""
    losses = operation(formula)(widened(x), widened(y), numbers=numbers)
    return _reduced(name, losses, reduction).astype(np.result_type(x.dtype, y.dtype), copy=False)


def _reduced(name: str, losses: Tensor, reduction: str, count: int | None = None) -> Tensor:
    if reduction not in REDUCTIONS:
        raise ValueError(f"{name}: reduction must be one of {REDUCTIONS}, not {reduction!r}")
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if not (losses.size if count is None else count):
        raise ValueError(f"{name}: the mean over no examples is not defined")
    return losses.mean() if count in (None, losses.size) else losses.sum() / count


def aligned(name: str, arrays: dict[str, Any], **others: Any) -> tuple[list[Tensor], Any]:
    """Arrays of the same shape, and others, as tensors of one dtype, in which losses are computed, and that of the result.

    Integers take the precision of the others, float64 among themselves; 16-bit floats are widened to float32.
    """
    tensors = {key: asarray(value) for key, value in {**arrays, **others}.items()}
    shapes = [tensors[key].shape for key in arrays]
    if len(set(shapes)) > 1:
        told = ", ".join(f"{key} {shape}" for key, shape in zip(arrays, shapes, strict=True))
        raise ValueError(f"{name}: {' and '.join(arrays)} must have the same shape, got {told}")
    for key, x in tensors.items():
        if x.dtype.kind == "c":
            raise TypeError(f"{name}: {key} must be real, not {x.dtype}")
    inexact = [x.dtype for x in tensors.values() if x.dtype.kind not in "biu"]
    dtype = np.result_type(*inexact) if inexact else np.dtype(np.float64)
    return [widened(x if x.dtype == dtype else x.astype(dtype)) for x in tensors.values()], dtype


def reduced(name: str, losses: Any, reduction: str, dtype: Any) -> Tensor:
    """What a reduction makes of losses, in the dtype of the result."""
    out = _reduced(name, losses, reduction)
    return out if out.dtype == dtype else out.astype(dtype)
