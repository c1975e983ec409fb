"""Initialisers: their variances, their laws, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import eagerconv as ec

SHAPE = (96, 16, 5, 5)  # 38400 numbers: their variance is known to 2 per cent at three standard deviations


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("name", "options", "variance"),
    [
        ("he_normal", {}, 2 / 400), ("he_uniform", {}, 2 / 400), ("he_normal", {"fan": "out"}, 2 / 2400),
        ("he_uniform", {"num_groups": 4, "fan": "out", "gain": "tanh"}, 25 / 9 / 600),
        ("glorot_normal", {}, 2 / 2800), ("glorot_uniform", {"num_groups": 4}, 2 / 1000),
        ("glorot_uniform", {"gain": 3.0}, 18 / 2800),
    ],
)  # fmt: skip
def test_variances(name: str, options: dict[str, Any], variance: float) -> None:
    w = getattr(ec.init, name)(SHAPE, rng(), **options)
    assert (w.shape, w.dtype, w.requires_grad, w.is_leaf) == (SHAPE, np.float32, True, True)
    assert w.data.var() == pytest.approx(variance, rel=0.03)
    assert abs(w.data.mean()) < 4 * np.sqrt(variance / w.size)
    if name.endswith("uniform"):
        assert abs(w.data).max() <= np.sqrt(3 * variance) * (1 + 1e-6)
        assert abs(w.data).max() > 0.999 * np.sqrt(3 * variance)


def test_signals_keep_their_variance_through_grouped_layers() -> None:
    x = rng().standard_normal((8, 64, 12, 12)).astype("float32")
    for layer in range(6):
        w = ec.init.he_normal((64, 16, 3, 3), np.random.default_rng(layer), num_groups=4)
        x = ec.relu(ec.conv2d(x, w, border_mode="valid" if layer < 3 else "full", num_groups=4)).detach()
    assert 0.3 < np.mean(x.data[:, :, 4:-4, 4:-4] ** 2) < 3


@pytest.mark.parametrize("shape", [(4, 10, 1, 1), (10, 4), (3, 3)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    w = ec.init.orthogonal(shape, rng(), gain=2.0, dtype="float64").data.reshape(shape[0], -1)
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-12)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"multiple of num_groups=5, got \(96, 16, 5, 5\)"):
        ec.init.he_normal(SHAPE, rng(), num_groups=5)
    with pytest.raises(ValueError, match=r"got \(3,\)"):
        ec.init.orthogonal((3,), rng())
    with pytest.raises(ValueError, match=r"gain must be a number or one of linear, .*not 'gelu'"):
        ec.init.glorot_normal(SHAPE, rng(), gain="gelu")
    with pytest.raises(ValueError, match="fan must be 'in' or 'out', not 'mean'"):
        ec.init.he_normal(SHAPE, rng(), fan="mean")
