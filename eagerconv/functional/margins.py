"""Losses that are zero beyond a margin: of scores (hinge), of rankings, and of distances between vectors."""

from typing import Any, cast

import numpy as np

from eagerconv import linalg
from eagerconv.arguments import number
from eagerconv.autograd import rules
from eagerconv.dtypes import widened
from eagerconv.functional.losses import aligned, reduced
from eagerconv.tensor import Tensor, asarray
from eagerconv.wrapping import floating

__all__ = [
    "cosine_embedding_loss", "hinge_embedding_loss", "hinge_loss", "margin_ranking_loss", "multi_margin_loss",
    "triplet_margin_loss",
]  # fmt: skip


def hinge_loss(input: Any, target: Any, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """How far a score is from being on the right side by a margin, max(0, margin - target * input).

    Parameters
    ----------
    input : array_like
        Scores, positive for yes.
    target : array_like, of the same shape
        1 for yes, -1 for no; or other numbers of these signs, which weigh the scores.
    margin : float
        Where the loss begins.
    reduction : {"mean", "sum", "none"}
        What to make of the losses of the elements.

    Returns
    -------
    Tensor
        A single number, or one per element; its gradient on the margin is zero.

    Raises
    ------
    ValueError
        If the shapes differ, a target is 0, or an option is out of range.

    Notes
    -----
    Cortes and Vapnik, "Support-vector networks", Machine Learning 20 (1995).

    Examples
    --------
    >>> hinge_loss([0.5, 3.0], [1, -1])
    tensor(2.25, dtype=float64)
    """
    (x, y), dtype = aligned("hinge_loss", {"input": input, "target": target})
    losses = rules.relu(number("hinge_loss: margin", margin) - _signed("hinge_loss", y) * x)
    return reduced("hinge_loss", losses, reduction, dtype)


def hinge_embedding_loss(input: Any, target: Any, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """A distance where two things should be alike, and what it lacks of a margin where they should not.

    Parameters
    ----------
    input : array_like
        Distances.
    target : array_like, of the same shape
        1 for alike, -1 for not.
    margin : float
        How far what is not alike should be away.
    reduction : {"mean", "sum", "none"}
        What to make of the losses of the elements.

    Returns
    -------
    Tensor
        A single number, or input where target is 1, and max(0, margin - input) where it is -1.

    Raises
    ------
    ValueError
        If the shapes differ, a target is neither 1 nor -1, or an option is out of range.

    Notes
    -----
    Hadsell, Chopra and LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR 2006; as in PyTorch.

    Examples
    --------
    >>> hinge_embedding_loss([0.5, 0.25], [1, -1], reduction="none")
    tensor([0.5 , 0.75], dtype=float64)
    """
    name = "hinge_embedding_loss"
    (x, y), dtype = aligned(name, {"input": input, "target": target})
    losses = rules.where(_sides(name, y) > 0, x, rules.relu(number(f"{name}: margin", margin) - x))
    return reduced(name, losses, reduction, dtype)


def margin_ranking_loss(x1: Any, x2: Any, target: Any, margin: float = 0.0, reduction: str = "mean") -> Tensor:
    """How much the right order of two scores lacks of a margin, max(0, margin - target * (x1 - x2)).

    Parameters
    ----------
    x1, x2 : array_like
        Scores, of the same shape.
    target : array_like, of the same shape
        1 where x1 should be larger, -1 where x2 should; or other numbers of these signs, which weigh the difference.
    margin : float
        By how much.
    reduction : {"mean", "sum", "none"}
        What to make of the losses of the elements.

    Returns
    -------
    Tensor
        A single number, or one per element.

    Raises
    ------
    ValueError
        If the shapes differ, a target is 0, or an option is out of range.

    Notes
    -----
    Joachims, "Optimizing search engines using clickthrough data", KDD 2002; as in PyTorch.

    Examples
    --------
    >>> margin_ranking_loss([1.0, 2.0], [3.0, 0.0], [1, 1])
    tensor(1., dtype=float64)
    """
    name = "margin_ranking_loss"
    (a, b, y), dtype = aligned(name, {"x1": x1, "x2": x2, "target": target})
    losses = rules.relu(number(f"{name}: margin", margin) - _signed(name, y) * (a - b))
    return reduced(name, losses, reduction, dtype)


def multi_margin_loss(
    input: Any, labels: Any, p: int = 1, margin: float = 1.0, reduction: str = "mean", *, weight: Any = None
) -> Tensor:
    """Hinge loss of several classes: how much the score of the true one lacks of a margin over each of the others.

    Parameters
    ----------
    input : array_like, shape (N, K)
        Scores.
    labels : array_like of ints, shape (N,)
        The true classes, from 0 to K - 1.
    p : {1, 2}
        The power of what is missing.
    margin : float
        By how much the true class should be ahead.
    reduction : {"mean", "sum", "none"}
        What to make of the losses of the examples; the mean does not know the weights.
    weight : array_like, shape (K,), optional
        How much each true class counts.

    Returns
    -------
    Tensor
        A single number, or weight[y] * sum(max(0, margin - x[y] + x[i])**p for i != y) / K per example.

    Raises
    ------
    TypeError
        If the labels are not integers.
    ValueError
        If the shapes do not fit, a label is out of range, or an option is.

    Notes
    -----
    Weston and Watkins, "Support vector machines for multi-class pattern recognition", ESANN 1999; as in PyTorch.

    Examples
    --------
    >>> multi_margin_loss([[0.0, 2.0, 1.5]], [1])
    tensor(0.16666667, dtype=float64)
    """
    name = "multi_margin_loss"
    x, classes = floating(input), asarray(labels).data
    if p not in (1, 2):
        raise ValueError(f"{name}: p must be 1 or 2, not {p!r}")
    if classes.dtype.kind not in "iu":
        raise TypeError(f"{name}: labels must be integers, the index of the class, not {classes.dtype}")
    if x.ndim != 2 or classes.shape != x.shape[:1]:
        raise ValueError(f"{name}: expected input (N, K) and labels (N,), got {x.shape} and {classes.shape}")
    k = x.shape[1]
    if classes.size and (classes.min() < 0 or classes.max() >= k):
        raise ValueError(
            f"{name}: labels must lie from 0 to K - 1 = {k - 1}, got some from {classes.min()} to {classes.max()}"
        )
    wide, n = widened(x), np.arange(len(x))
    missing = rules.relu(number(f"{name}: margin", margin) - wide[n, classes][:, None] + wide)  # (N, K)
    others = np.ones(x.shape, wide.dtype)
    others[n, classes] = 0
    terms = (missing if p == 1 else missing * missing) * asarray(others, device=x.device)
    losses = terms.sum(axis=1) / k
    if weight is not None:
        w = asarray(weight).to(x.device)
        if w.shape != (k,):
            raise ValueError(f"{name}: weight must have shape (K,) = ({k},), one number per class, got {w.shape}")
        losses = losses * w.astype(wide.dtype)[classes]
    return reduced(name, losses, reduction, x.dtype)


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """How much what is not alike lacks of being farther away than what is, by a margin.

    Parameters
    ----------
    anchor, positive, negative : array_like, shape (..., D)
        Vectors, of what is alike and of what is not; of the same shape.
    margin : float
        How much farther away, above 0.
    p : float
        Of the norm that measures distances, at least 1.
    eps : float
        Added to every difference, so that distances have a gradient at zero; at least 0.
    swap : bool
        Take the distance from positive to negative where it is the smaller one.
    reduction : {"mean", "sum", "none"}
        What to make of the losses of the triples.

    Returns
    -------
    Tensor
        A single number, or max(0, d(anchor, positive) - d(anchor, negative) + margin) per triple, shape (...).

    Raises
    ------
    ValueError
        If the shapes differ or have no axis, or an option is out of range.

    Notes
    -----
    Schroff, Kalenichenko and Philbin, "FaceNet", CVPR 2015; swap: Balntas et al., "Learning shallow convolutional feature
    descriptors with triplet losses", BMVC 2016.

    Examples
    --------
    >>> triplet_margin_loss([[0.0, 0.0]], [[3.0, 4.0]], [[0.0, 5.5]], eps=0)
    tensor(0.5, dtype=float64)
    """
    name = "triplet_margin_loss"
    margin, p = number(f"{name}: margin", margin, "(0, inf)"), number(f"{name}: p", p, "[1, inf]")
    eps = number(f"{name}: eps", eps, "[0, inf)")
    (a, b, c), dtype = aligned(name, {"anchor": anchor, "positive": positive, "negative": negative})
    if a.ndim < 1:
        raise ValueError(f"{name}: anchor, positive and negative must be vectors (..., D), got numbers")
    near, far = (linalg.vector_norm(a - other + eps, axis=-1, ord=p) for other in (b, c))
    if swap:
        far = rules.minimum(far, linalg.vector_norm(b - c + eps, axis=-1, ord=p))
    return reduced(name, rules.relu(near - far + margin), reduction, dtype)


def cosine_embedding_loss(x1: Any, x2: Any, target: Any, margin: float = 0.0, reduction: str = "mean") -> Tensor:
    """What the cosine between two vectors lacks of 1 where they should be alike, and has above a margin where not.

    Parameters
    ----------
    x1, x2 : array_like, shape (..., D)
        Vectors, of the same shape.
    target : array_like, shape (...)
        1 for alike, -1 for not.
    margin : float
        What the cosine of those may be, from -1 to 1.
    reduction : {"mean", "sum", "none"}
        What to make of the losses of the pairs.

    Returns
    -------
    Tensor
        A single number, or 1 - cos where target is 1, and max(0, cos - margin) where it is -1; the cosine of a zero vector
        is zero.

    Raises
    ------
    ValueError
        If the shapes do not fit, a target is neither 1 nor -1, or an option is out of range.

    Notes
    -----
    As PyTorch's `cosine_embedding_loss`, whose 1e-12 is added to the squares of the lengths here too.

    Examples
    --------
    >>> cosine_embedding_loss([[1.0, 0.0], [1.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]], [1, -1], reduction="none").round(3)
    tensor([0., 1.], dtype=float64)
    """
    name = "cosine_embedding_loss"
    margin = number(f"{name}: margin", margin, "[-1, 1]")
    (a, b), dtype = aligned(name, {"x1": x1, "x2": x2})
    sides = asarray(target)
    if a.ndim < 1 or sides.shape != a.shape[:-1]:
        raise ValueError(
            f"{name}: expected x1 and x2 (..., D) and target (...), got {a.shape}, {b.shape} and {sides.shape}"
        )
    dot, one, other = ((u * v).sum(axis=-1) for u, v in ((a, b), (a, a), (b, b)))
    cosine = dot / rules.sqrt((one + 1e-12) * (other + 1e-12))
    losses = rules.where(_sides(name, sides) > 0, 1 - cosine, rules.relu(cosine - margin))
    return reduced(name, losses, reduction, dtype)


def _sides(name: str, target: Tensor) -> Tensor:
    """The target, if it is 1 or -1 everywhere."""
    values = target.data
    if not ((values == 1) | (values == -1)).all():
        wrong = cast(Any, values)[(values != 1) & (values != -1)].ravel()[0]
        raise ValueError(f"{name}: target must be 1 or -1, got some {wrong}; 2 * t - 1 makes them of 1 and 0")
    return target


def _signed(name: str, target: Tensor) -> Tensor:
    """The target, if it is 0 nowhere, as where answers are 1 and 0."""
    if (target.data == 0).any():
        raise ValueError(f"{name}: target must be 1 or -1, got some 0; 2 * t - 1 makes them of 1 and 0")
    return target
