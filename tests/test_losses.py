"""Losses of weighted classes and probabilities, likelihoods, margins, sequences: against PyTorch, sums by hand, all paths."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import eagerconv as ec
from eagerconv.func.gradcheck import check_grads

rng = np.random.default_rng(0)
HALVES = (np.float16, ml_dtypes.bfloat16)
REDUCTIONS = ("mean", "sum", "none")
X = rng.standard_normal((4, 3, 5))
LABELS = rng.integers(0, 3, (4, 5))
WEIGHT = np.array([0.5, 2.0, 0.0])
every_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)


def same(ours: Any, theirs: Any, operands: Any, rtol: float = 1e-10) -> None:
    """Compare values, and the gradients of a loss that weighs them differently, with PyTorch's."""
    torch = pytest.importorskip("torch")
    mine = [ec.tensor(a, requires_grad=True) for a in operands]
    other = [torch.tensor(a, requires_grad=True) for a in operands]
    out, expected = ours(*mine), theirs(*other)
    np.testing.assert_allclose(out.numpy(), expected.detach().numpy(), rtol=rtol, atol=1e-13)
    v = np.arange(1.0, out.size + 1).reshape(out.shape)
    out.backward(v)
    expected.backward(torch.tensor(v))
    for a, b in zip(mine, other, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=rtol, atol=1e-12)


# ----- Classes: weights, probabilities -----


@every_reduction
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("ignore", [None, 1])
def test_weighted_classes_are_pytorchs(ignore: int | None, smoothing: float, reduction: str) -> None:
    torch = pytest.importorskip("torch")
    more = {} if ignore is None else {"ignore_index": ignore}
    options = {"reduction": reduction, "label_smoothing": smoothing, **more}
    same(
        lambda x: ec.cross_entropy(x, LABELS, weight=WEIGHT, **options),
        lambda x: torch.nn.functional.cross_entropy(x, torch.tensor(LABELS), torch.tensor(WEIGHT), **options),
        [X],
    )
    if not smoothing:
        same(
            lambda x: ec.nll_loss(x, LABELS, weight=WEIGHT, reduction=reduction, **more),
            lambda x: torch.nn.functional.nll_loss(
                x, torch.tensor(LABELS), torch.tensor(WEIGHT), reduction=reduction, **more
            ),
            [X],
        )


@every_reduction
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_probabilities_as_labels_are_pytorchs(smoothing: float, weight: Any, reduction: str) -> None:
    torch = pytest.importorskip("torch")
    options = {"reduction": reduction, "label_smoothing": smoothing}
    there = None if weight is None else torch.tensor(weight)
    q = ec.softmax(rng.standard_normal(X.shape), axis=1).numpy()
    same(
        lambda x, q: ec.cross_entropy(x, q, weight=weight, **options),
        lambda x, q: torch.nn.functional.cross_entropy(x, q, there, **options),
        [X, q],
    )


def test_weighted_classes_differentiate_twice() -> None:
    q = ec.softmax(rng.standard_normal(X.shape), axis=1).numpy()
    check_grads(lambda x, w: ec.cross_entropy(x, LABELS, 0.1, weight=w), [X, WEIGHT + 1])
    check_grads(lambda x, q, w: ec.cross_entropy(x, q, 0.1, weight=w), [X, q, WEIGHT])


def test_equal_weights_and_certain_probabilities_change_nothing() -> None:
    expected = ec.cross_entropy(X, LABELS, 0.2)
    np.testing.assert_allclose(ec.cross_entropy(X, LABELS, 0.2, weight=[3, 3, 3]), expected, rtol=1e-14)
    certain = np.moveaxis(np.eye(3)[LABELS], -1, 1)
    np.testing.assert_allclose(ec.cross_entropy(X, certain, 0.2), expected, rtol=1e-14)
    x = ec.tensor([[0.0, -np.inf]], requires_grad=True)
    loss = ec.cross_entropy(x, [[1.0, 0.0]])  # what is impossible, and was not asked for
    loss.backward()
    assert loss.item() == 0
    assert x.grad.numpy().tolist() == [[0, 0]]


@pytest.mark.parametrize("dtype", HALVES)
def test_16_bit_classes_are_computed_in_float32(dtype: Any) -> None:
    x = np.zeros((2, 1000), dtype)
    for labels in ([1, 2], np.full((2, 1000), 1e-3, dtype)):
        out = ec.cross_entropy(x, labels, weight=np.ones(1000))
        assert out.dtype == x.dtype
        assert out.item() == pytest.approx(np.log(1000), rel=4e-3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ec.cross_entropy(X, LABELS, weight=[1, 2]),
            ValueError,
            r"weight must have shape \(K,\) = \(3,\).*\(2,\)",
        ),
        (lambda: ec.nll_loss(X, LABELS, weight=1.0), ValueError, r"nll_loss: weight must have shape"),
        (lambda: ec.cross_entropy(X, 0 * LABELS + 2, weight=WEIGHT), ValueError, "the mean over no examples"),
        (lambda: ec.cross_entropy(X, X, ignore_index=1), ValueError, "ignore_index is for labels that are classes"),
        (lambda: ec.cross_entropy(X, X, 2.0), ValueError, "label_smoothing must be a number"),
        (lambda: ec.cross_entropy(X, X[:, :2]), TypeError, "labels must be integers"),
        (lambda: ec.cross_entropy(X, X, reduction="no"), ValueError, "reduction must be one of"),
    ],
)
def test_errors_of_classes(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# ----- Likelihoods and margins -----

A, B, C = rng.standard_normal((3, 6, 4)) * 2
SIGNS = np.where(rng.standard_normal((6, 4)) > 0, 1.0, -1.0)
COUNTS = rng.integers(0, 9, (6, 4)).astype(float)
SIX = rng.integers(0, 4, 6)


def losses(F: Any, n: Any) -> dict[str, tuple[Any, list[Any]]]:
    """The same calls of our functions, or PyTorch's with n = torch.tensor: functions of operands and the reduction."""
    weigh = {"weight": n(np.array([0.5, 2.0, 1.0, 3.0]))}
    return {
        "gaussian": (lambda x, y, v, r: F.gaussian_nll_loss(x, y, v, reduction=r), [A, B, np.exp(C)]),
        "gaussian, full": (
            lambda x, y, v, r: F.gaussian_nll_loss(x, y, v, True, reduction=r),
            [A, B, np.exp(C[:, :1])],
        ),
        "gaussian, rows": (
            lambda x, y, v, r: F.gaussian_nll_loss(x, y, v, reduction=r),
            [A[:4], B[:4], np.exp(C[:4, 0])],
        ),
        "poisson": (lambda x, r: F.poisson_nll_loss(x, n(COUNTS), reduction=r), [A]),
        "poisson, full": (lambda x, r: F.poisson_nll_loss(x, n(COUNTS), full=True, reduction=r), [A]),
        "poisson, means": (lambda x, r: F.poisson_nll_loss(x, n(COUNTS), log_input=False, reduction=r), [np.exp(A)]),
        "embedding": (lambda x, r: F.hinge_embedding_loss(x, n(SIGNS), 0.7, reduction=r), [np.abs(A)]),
        "ranking": (lambda x, y, r: F.margin_ranking_loss(x, y, n(SIGNS), 0.3, reduction=r), [A, B]),
        "multi": (lambda x, r: F.multi_margin_loss(x, n(SIX), reduction=r), [A]),
        "multi, squares": (lambda x, r: F.multi_margin_loss(x, n(SIX), 2, 0.7, reduction=r, **weigh), [A]),
        "triplet": (lambda x, y, z, r: F.triplet_margin_loss(x, y, z, reduction=r), [A, B, C]),
        "triplet, swap": (lambda x, y, z, r: F.triplet_margin_loss(x, y, z, 2, 3, 1e-3, True, reduction=r), [A, B, C]),
        "cosine": (lambda x, y, r: F.cosine_embedding_loss(x, y, n(SIGNS[:, 0]), 0.2, reduction=r), [A, B]),
    }


NAMES = list(losses(ec, np.asarray))


@every_reduction
@pytest.mark.parametrize("name", NAMES)
def test_losses_are_pytorchs(name: str, reduction: str) -> None:
    torch = pytest.importorskip("torch")
    ours, operands = losses(ec, np.asarray)[name]
    theirs, _ = losses(torch.nn.functional, torch.tensor)[name]
    same(lambda *a: ours(*a, reduction), lambda *a: theirs(*a, reduction), operands)


@pytest.mark.parametrize("name", NAMES)
def test_losses_differentiate_twice(name: str) -> None:
    call, operands = losses(ec, np.asarray)[name]
    check_grads(lambda *a: call(*a, "none"), operands, rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, *HALVES])
@pytest.mark.parametrize("name", NAMES)
def test_losses_keep_the_precision_of_their_input(name: str, dtype: Any) -> None:
    call, operands = losses(ec, np.asarray)[name]
    few = [a.astype(dtype) for a in operands]
    out = call(*few, "mean") if "multi" in name else None
    if out is None:  # targets of float64 would widen
        narrow, _ = losses(ec, lambda a: a.astype(dtype) if a.dtype.kind == "f" else a)[name]
        out = narrow(*few, "mean")
    assert out.dtype == dtype
    expected = call(*(a.astype(float) for a in few), "mean").item()
    assert out.item() == pytest.approx(expected, rel=4 * float(ml_dtypes.finfo(dtype).eps), abs=1e-3)


def test_integers_count_as_floats() -> None:
    assert ec.hinge_loss([2, 0, -1], [1, 1, -1], reduction="none").tolist() == [0, 1, 0]
    assert ec.poisson_nll_loss([0, 1], [1, 1]).dtype == np.float64
    assert ec.hinge_loss(np.float32([0.5]), np.array([1])).dtype == np.float32


def test_hinge_is_what_it_says() -> None:
    np.testing.assert_allclose(ec.hinge_loss(A, SIGNS, 0.5, "none").numpy(), np.maximum(0, 0.5 - SIGNS * A), rtol=1e-14)
    check_grads(lambda x: ec.hinge_loss(x, SIGNS, 0.5, "none") ** 2, [A])


def test_small_variances_count_as_eps() -> None:
    v = ec.tensor([0.0, 1.0], requires_grad=True)
    loss = ec.gaussian_nll_loss([1.0, 1.0], [1.0, 2.0], v, eps=0.25, reduction="none")
    np.testing.assert_allclose(loss.numpy(), [np.log(0.25) / 2, 0.5])
    assert ec.grad(loss.sum(), v)[0].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ec.gaussian_nll_loss(A, B, -A), ValueError, "var must be at least 0, got some -"),
        (
            lambda: ec.gaussian_nll_loss(A, B, A[:2]),
            ValueError,
            r"var must have the input's shape .6, 4., or .*per row.*got shape .2, 4.",
        ),
        (lambda: ec.gaussian_nll_loss(A, B, B, eps=0), ValueError, r"eps must be a number in \(0, inf\)"),
        (
            lambda: ec.gaussian_nll_loss(A, B[:2], B),
            ValueError,
            r"input and target must have the same shape, got input",
        ),
        (lambda: ec.poisson_nll_loss(A + 1j, B), TypeError, "input must be real, not complex128"),
        (lambda: ec.hinge_loss(A, SIGNS > 0), ValueError, r"target must be 1 or -1, got some 0; 2 \* t - 1"),
        (lambda: ec.hinge_embedding_loss(A, SIGNS > 0), ValueError, r"target must be 1 or -1, got some .*; 2 \* t - 1"),
        (lambda: ec.margin_ranking_loss(A, B, 0 * C), ValueError, "target must be 1 or -1"),
        (lambda: ec.multi_margin_loss(A, SIX, 3), ValueError, "p must be 1 or 2, not 3"),
        (lambda: ec.multi_margin_loss(A, SIX * 1.0), TypeError, "labels must be integers"),
        (lambda: ec.multi_margin_loss(A, SIX + 2), ValueError, "labels must lie from 0 to K - 1 = 3"),
        (lambda: ec.multi_margin_loss(A[0], SIX), ValueError, r"expected input \(N, K\) and labels \(N,\), got \(4,\)"),
        (lambda: ec.multi_margin_loss(A, SIX, weight=[1]), ValueError, "weight must have shape"),
        (lambda: ec.triplet_margin_loss(A, B, C, margin=0), ValueError, r"margin must be a number in \(0, inf\)"),
        (lambda: ec.triplet_margin_loss(A, B, C, p=0.5), ValueError, r"p must be a number in \[1, inf\]"),
        (lambda: ec.triplet_margin_loss(1.0, 2.0, 3.0), ValueError, r"must be vectors \(..., D\)"),
        (
            lambda: ec.cosine_embedding_loss(A, B, SIGNS),
            ValueError,
            r"expected x1 and x2 \(..., D\) and target \(...\)",
        ),
        (lambda: ec.cosine_embedding_loss(A, B, SIGNS[:, 0], 2), ValueError, r"margin must be a number in \[-1, 1\]"),
        (lambda: ec.hinge_loss(A, SIGNS, reduction="all"), ValueError, "reduction must be one of"),
    ],
)
def test_errors_of_likelihoods_and_margins(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# ----- Sequences -----


def by_all_paths(log_p: Any, labels: Any, blank: int) -> float:
    """Every path through the classes (K, T), of which those count that read as the labels."""
    k, t = log_p.shape
    total = 0.0
    for path in itertools.product(range(k), repeat=t):
        read = [key for key, _ in itertools.groupby(path) if key != blank]
        if read == list(labels):
            total += np.exp(sum(log_p[c, i] for i, c in enumerate(path)))
    return float(-np.log(total)) if total else np.inf


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("labels", [[], [1], [1, 1], [1, 3, 1], [3, 3, 3], [1, 1, 3, 3]])
def test_ctc_is_the_sum_over_all_paths(labels: list[int], blank: int) -> None:
    log_p = ec.log_softmax(rng.standard_normal((1, 4, 5)), axis=1).numpy()
    found = ec.ctc_loss(log_p, np.array([labels], int), blank=blank, reduction="none")
    np.testing.assert_allclose(found.numpy(), [by_all_paths(log_p[0], labels, blank)], rtol=1e-12)


SEQUENCES = np.array([[1, 1, 2, 9], [3, 9, 9, 9], [1, 2, 3, 1], [9, 9, 9, 9]])
SIZES = {"input_lengths": [7, 3, 6, 4], "label_lengths": [3, 1, 4, 0]}


@every_reduction
@pytest.mark.parametrize("forgiving", [False, True])
def test_ctc_is_pytorchs(forgiving: bool, reduction: str) -> None:
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((4, 5, 7)) * 3
    lengths = [torch.tensor(a) for a in SIZES.values()]

    def theirs(x: Any) -> Any:
        log_p = x.log_softmax(1).permute(2, 0, 1)
        return torch.nn.functional.ctc_loss(
            log_p, torch.tensor(SEQUENCES), *lengths, reduction=reduction, zero_infinity=forgiving
        )

    options = {"reduction": reduction, "zero_infinity": forgiving}
    same(lambda x: ec.ctc_loss(ec.log_softmax(x, axis=1), SEQUENCES, **SIZES, **options), theirs, [x], 1e-8)
    flat = np.concatenate([row[:n] for row, n in zip(SEQUENCES, SIZES["label_lengths"], strict=True)])
    np.testing.assert_array_equal(
        ec.ctc_loss(x, flat, **SIZES, **options).numpy(), ec.ctc_loss(x, SEQUENCES, **SIZES, **options).numpy()
    )


def test_ctc_differentiates_twice_in_both_modes() -> None:
    x = rng.standard_normal((4, 5, 7))
    check_grads(lambda x: ec.ctc_loss(x, SEQUENCES, **SIZES, reduction="none"), [x])


def test_ctc_of_sequences_that_do_not_fit() -> None:
    x = ec.tensor(np.log(np.full((3, 3, 2), 1 / 3)), requires_grad=True)
    labels, lengths = [[1, 1], [1, 2], [2, 0]], [2, 2, 1]
    loss = ec.ctc_loss(x, labels, None, lengths, reduction="none")
    np.testing.assert_allclose(loss.numpy(), [np.inf, np.log(9), np.log(3)])
    (g,) = ec.grad(loss.sum(), x)
    assert np.isnan(g.numpy()[0]).any()
    assert np.isfinite(g.numpy()[1:]).all()
    loss = ec.ctc_loss(x, labels, None, lengths, zero_infinity=True, reduction="none")
    assert loss.numpy()[0] == 0
    (g,) = ec.grad(loss.sum(), x, create_graph=True)
    (again,) = ec.grad(ec.ctc_loss(x, labels, None, lengths, zero_infinity=True, reduction="sum"), x)
    np.testing.assert_allclose(g.numpy(), again.numpy(), atol=1e-15)  # recorded, and from both ends
    assert not g.numpy()[0].any()


def test_ctc_of_no_time_and_of_what_is_impossible() -> None:
    nothing = np.zeros((2, 3, 0))
    loss = ec.ctc_loss(nothing, [[1], [0]], None, [1, 0], reduction="none")
    assert loss.tolist() == [np.inf, 0]
    assert ec.ctc_loss(np.zeros((0, 3, 4)), np.zeros((0, 2), int), reduction="none").shape == (0,)
    x = ec.tensor(
        [[[np.log(0.5), -np.inf], [np.log(0.5), 0.0]]], requires_grad=True
    )  # the second time is 1 for certain
    loss = ec.ctc_loss(x, [[1]], reduction="sum")
    (g,) = ec.grad(loss, x)
    assert loss.item() == pytest.approx(0)
    np.testing.assert_allclose(g.numpy(), [[[-0.5, 0], [-0.5, -1]]])


@pytest.mark.parametrize("dtype", [np.float32, *HALVES])
def test_ctc_keeps_the_dtype_and_adds_in_float32(dtype: Any) -> None:
    x = np.full((2, 3, 60), np.log(1 / 3), dtype)
    out = ec.ctc_loss(x, [[1, 2], [1, 1]], reduction="none")
    wide = ec.ctc_loss(x.astype(float), [[1, 2], [1, 1]], reduction="none")
    assert out.dtype == dtype
    # One rounding to float32 for each time, and one to the dtype of the result.
    rtol = 60 * float(np.finfo(np.float32).eps) + float(ml_dtypes.finfo(dtype).eps)
    np.testing.assert_allclose(out.numpy().astype(float), wide.numpy(), rtol=rtol)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"log_probabilities": np.ones((3, 4))},
            ValueError,
            r"log_probabilities must have shape \(N, K, T\), got \(3, 4\)",
        ),
        ({"labels": [[1.0]]}, TypeError, "labels must be integers"),
        ({"labels": [[1], [1]]}, ValueError, r"labels must have shape \(N, S\) with N = 1.*transposed \(1, 2, 0\)"),
        ({"labels": [[3]]}, ValueError, "classes from 0 to K - 1 = 2 other than the blank 0, got 3"),
        ({"labels": [[0]]}, ValueError, r"other than the blank 0, got 0; tell by label_lengths="),
        ({"labels": [1, 2], "label_lengths": [1]}, ValueError, "label_lengths must sum to the 2 labels, they sum to 1"),
        ({"input_lengths": [9]}, ValueError, "input_lengths must lie from 0 to 4, the times T; got some from 9 to 9"),
        ({"label_lengths": [2]}, ValueError, "label_lengths must lie from 0 to 1"),
        ({"input_lengths": [1, 2]}, ValueError, r"input_lengths must have shape \(N,\) = \(1,\)"),
        ({"input_lengths": [1.5]}, TypeError, "input_lengths must be integers"),
        ({"blank": 3}, ValueError, "blank must be a class from 0 to K - 1 = 2, not 3"),
        ({"blank": 0.5}, TypeError, "blank must be an int"),
        ({"reduction": "total"}, ValueError, "reduction must be one of"),
        (
            {"log_probabilities": np.ones((0, 3, 4)), "labels": np.ones((0, 1), int)},
            ValueError,
            "mean over no examples",
        ),
    ],
)
def test_errors_of_ctc(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ec.ctc_loss(**{"log_probabilities": np.zeros((1, 3, 4)), "labels": [[1]], **arguments})
