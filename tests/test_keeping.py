"""What the tape saves is as it was, whoever writes to the memory before backward: small arrays are copies, large ones raise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import eagerconv as ec
from eagerconv import func
from eagerconv.autograd.keeping import SMALL, sample

rng = np.random.default_rng(0)

# One axis for small arrays, and for large ones; what is written over an array a.
SIZES = {"small": 24, "large": 20 * SMALL}
CHANGES: dict[str, Any] = {
    "zeros": lambda a: a.fill(0),
    "shuffled": lambda a: rng.shuffle(a.reshape(-1)),
    "scaled": lambda a: np.multiply(a, 1.0001, out=a),
}


def weights(size: int) -> Any:
    return ec.tensor(rng.standard_normal(size), requires_grad=True)


# The memory, and a loss of which it is an operand: recorded of w, before it is written to.
USES: dict[str, Any] = {
    "array": lambda w, a: (a, (w * a).sum()),
    "array on the left": lambda w, a: (a, (a / w).sum()),
    "asarray": lambda w, a: (a, (w * ec.asarray(a)).sum()),
    "view of asarray": lambda w, a: (a, (w.reshape(4, -1) * ec.asarray(a).reshape(-1, 4).T).sum()),
    "slice of an array": lambda w, a: (a, (w[::3] * a[::3]).sum()),
    "data of the other leaf": lambda w, a: (w.data, (w * ec.asarray(a.copy())).sum() + (w**3).sum()),
    "data through a view": lambda w, a: (w.data, (w.reshape(4, -1).T @ (w.reshape(4, -1)[:, :1] * 1)).sum()),
    "where": lambda w, a: (a, np.where(a > 0, w * a, a / w).sum()),
    "convolution": lambda w, a: (a, (ec.conv1d(a.reshape(1, 1, -1), w[:8].reshape(1, 1, 8)) ** 2).sum()),
    "matrix product": lambda w, a: (a, (a.reshape(4, -1) @ w.reshape(-1, 4)).sum()),
    "checkpoint": lambda w, a: (a, func.checkpoint(lambda w, a: (w * a).sum())(w, a)),
    "custom_vjp": lambda w, a: (
        a, func.custom_vjp(lambda g, out, w, a: (g * a, None))(lambda w, a: ec.asarray((w.data * a).sum()))(w, a)
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("use", USES)
def test_a_gradient_is_of_the_values_that_were_used_or_raises(use: str, size: str, change: str) -> None:
    w, a = weights(SIZES[size]), rng.standard_normal(SIZES[size])
    memory, loss = USES[use](w, a)
    (expected,) = ec.grad(loss, w, retain_graph=True)
    CHANGES[change](memory)
    try:
        (g,) = ec.grad(loss, w)
    except RuntimeError as error:
        message = str(error)
    else:
        np.testing.assert_array_equal(g.numpy(), expected.numpy())
        return
    assert size == "large"
    assert "written to afterwards" in message
    assert "copy=True" in message


def test_a_batch_buffer_that_is_filled_again_is_found() -> None:
    w = ec.tensor(rng.standard_normal((4, 1, 3, 3)).astype("f4"), requires_grad=True)
    images, labels = np.zeros((64, 1, 28, 28), "f4"), np.zeros((64, 1000), "f4")

    def fill(seed: int) -> None:
        draw = np.random.default_rng(seed)
        images[:, :, 6:-6, 6:-6] = draw.uniform(0, 1, (64, 1, 16, 16))  # within a black margin
        labels[...] = np.eye(1000, dtype="f4")[draw.integers(0, 1000, 64)]

    for buffer, loss in (
        (images, lambda: (ec.conv2d(images, w) ** 2).sum()),
        (labels, lambda: (labels * (w[0, 0, 0, 0] * np.ones_like(labels))).sum()),
    ):
        fill(0)
        value = loss()
        fill(1)
        with pytest.raises(RuntimeError, match="written to afterwards"):
            value.backward()
        again = loss()
        again.backward()  # filled after the step, as training does, it is no matter
        fill(2)
        assert buffer.any()


@pytest.mark.parametrize(
    "index", [np.array([2, 0, 1, 1]), (slice(None), np.array([1, 0])), np.array([True, False, True])]
)
def test_indices_are_kept(index: Any) -> None:
    x = ec.tensor(rng.standard_normal((3, 2)), requires_grad=True)
    y = (x[index] ** 2).sum()
    z = np.repeat(x, repeats := np.array([1, 3, 2]), axis=0).sum()
    v = x * 1
    v[index] = 0
    expected = [g.tolist() for out in (y, z, v.sum()) for g in ec.grad(out, x, retain_graph=True)]
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, np.ndarray):
            part[...] = 0
    repeats[...] = 2
    assert [g.tolist() for out in (y, z, v.sum()) for g in ec.grad(out, x)] == expected


@pytest.mark.parametrize(
    "a",
    [
        np.zeros((300, 200)), np.zeros((300, 200)).T, np.zeros((40, 30, 50)).transpose(1, 2, 0), np.zeros((400, 200))[:, 3:],
        np.zeros((64, 3, 28, 28), "f4"), np.zeros((64, 784), "f4"), np.zeros(100_003, "u1"), np.zeros((200, 300), complex)[::2],
        np.zeros((300, 200)).T[::-1, ::2], np.zeros((50, 40, 7, 7), "f4").transpose(0, 2, 3, 1),
    ],
)  # fmt: skip
def test_samples_are_small_and_see_changes_of_a_hundredth(a: Any) -> None:
    before = sample(a)
    assert len(before) <= 1.6 * max(SMALL, 512 * 64)
    for seed in range(20):
        draw = np.random.default_rng(seed)
        a[tuple(draw.integers(0, n, a.size // 100 + 1) for n in a.shape)] += 1
        after = sample(a)
        assert after != before
        before = after
    a[...] = 0
    a[(slice(None),) * (a.ndim - 1) + (0,)] = 1  # one column, every image's margin
    assert sample(a) != sample(np.zeros_like(a))


def test_large_arrays_are_not_copied() -> None:
    w, a = weights(SIZES["large"]), rng.standard_normal(SIZES["large"])
    y = w * a
    assert y._node is not None
    assert y._node.saved[1][0] is a
    small = weights(8) * np.ones(8)
    assert small._node is not None
    assert small._node.saved[1][0].base is None
