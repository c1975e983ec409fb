"""What stands between the convolutions of networks, each operation in eagerconv, PyTorch and, where it has it, NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

import eagerconv as ec
from benchmarks.harness import HAVE_TORCH, torch

Arrays = list[np.ndarray]
Call = Callable[[], Any]
IMAGES = {"1 MiB": (8, 32, 32, 32), "19 MB": (8, 64, 96, 96)}
"""Shapes of the images, whose bytes in float32 are these."""

WIDTH = 1024
"""How many numbers are in a row, where rows are what counts."""


@dataclass(frozen=True)
class Operation:
    """One operation of arrays; gradients are those of its floating operands.

    `formula` is what it is in NumPy, which is the truth in float64; it is timed where `numpy` says that NumPy has it.
    """

    name: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    formula: Callable[..., Any] | None = None
    numpy: bool = False
    inputs: Callable[[np.random.Generator, tuple[int, ...]], Arrays] = lambda rng, shape: [normal(rng, shape)]
    elementary: bool = False
    same: bool = True

    def sides(self, arrays: Arrays, peers: bool) -> dict[str, tuple[Call, Call | None]]:
        """Forward, and forward + backward, of each library."""
        found: dict[str, tuple[Call, Call | None]] = {"eagerconv": self._ours(arrays)}
        if self.formula is not None and self.numpy:
            formula = self.formula
            found["NumPy"] = (lambda: formula(*arrays)), None
        if peers and HAVE_TORCH:
            found["PyTorch"] = self._theirs(arrays)
        return found

    def _ours(self, arrays: Arrays) -> tuple[Call, Call]:
        plain = [ec.asarray(a) for a in arrays]
        traced = [ec.tensor(a, requires_grad=True) if a.dtype.kind == "f" else ec.asarray(a) for a in arrays]
        wanted = [t for t in traced if t.requires_grad]
        out = self.ours(*plain)
        g = ec.asarray(cotangent(out.shape, out.dtype))

        def both() -> list[Any]:
            return [v.data for v in ec.grad(self.ours(*traced), wanted, g)]

        return (lambda: self.ours(*plain).data), both

    def _theirs(self, arrays: Arrays) -> tuple[Call, Call]:
        pt = torch()
        plain = [pt.from_numpy(a) for a in arrays]
        traced = [pt.from_numpy(a).requires_grad_(a.dtype.kind == "f") for a in arrays]
        wanted = [t for t in traced if t.requires_grad]
        out = self.theirs(pt, *plain)
        g = pt.from_numpy(cotangent(tuple(out.shape), out.numpy().dtype))
        return (lambda: self.theirs(pt, *plain)), lambda: pt.autograd.grad(self.theirs(pt, *traced), wanted, g)


@dataclass(frozen=True)
class Step:
    """A step of an optimiser, whose result are the parameters."""

    name: str
    settings: dict[str, Any]
    formula: None = None
    elementary: bool = False
    same: bool = True

    def inputs(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
        """Parameters and gradients."""
        return [normal(rng, shape), normal(rng, shape)]

    def sides(self, arrays: Arrays, peers: bool) -> dict[str, tuple[Call, None]]:
        p = ec.tensor(arrays[0], requires_grad=True)
        p.grad = ec.asarray(arrays[1])
        ours = getattr(ec.optim, self.name)([p], **self.settings)

        def step() -> Any:
            ours.step()
            return p.data

        found: dict[str, tuple[Call, None]] = {"eagerconv": (step, None)}
        if peers and HAVE_TORCH:
            pt = torch()
            q = pt.from_numpy(arrays[0].copy()).requires_grad_()
            q.grad = pt.from_numpy(arrays[1])
            fused = {} if self.name == "RMSProp" else {"fused": True}
            names = {"momentum": "momentum", "lr": "lr", "weight_decay": "weight_decay", "decay": "alpha"}
            settings = {names[key]: value for key, value in self.settings.items()}
            theirs = getattr(pt.optim, self.name.replace("RMSProp", "RMSprop"))([q], **settings, **fused)

            def peer() -> Any:
                theirs.step()
                return q.detach()

            found["PyTorch"] = (peer, None)
        return found


# ------------------------------------------------------------------------------------------------------------- the inputs


def normal(rng: np.random.Generator, shape: tuple[int, ...], scale: float = 2.0) -> np.ndarray:
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def cotangent(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Numbers that are not all alike, the same for each library."""
    return np.random.default_rng(1).uniform(0.5, 1.5, shape).astype(dtype)


def positive(rng: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    return [np.exp(normal(rng, shape))]


def several(count: int) -> Callable[..., Arrays]:
    return lambda rng, shape: [normal(rng, shape) for _ in range(count)]


def rows(rng: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    return [normal(rng, (math.prod(shape) // WIDTH, WIDTH))]


def rows_and_labels(rng: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    [x] = rows(rng, shape)
    return [x, rng.integers(0, WIDTH, len(x))]


def rows_scaled(rng: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    """Rows, with a scale and a shift for each of their numbers."""
    return [*rows(rng, shape), normal(rng, (WIDTH,)), normal(rng, (WIDTH,))]


def scaled(rng: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    """Images, with a scale and a shift for each channel."""
    return [normal(rng, shape), normal(rng, shape[1:2]), normal(rng, shape[1:2])]


def biased(rng: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    return [normal(rng, shape), normal(rng, (shape[1], 1, 1))]


def chosen(rng: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    return [rng.random(shape) < 0.5, normal(rng, shape), normal(rng, shape)]


def yes_or_no(rng: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    return [normal(rng, shape), (rng.random(shape) < 0.5).astype(np.float32)]


# ----------------------------------------------------------------------------------- what they are in NumPy, as the truth

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _sigmoid(x: Any) -> Any:
    return np.where(x < 0, np.exp(np.minimum(x, 0)), 1) / (1 + np.exp(-np.abs(x)))


def _softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _log_softmax(x: Any) -> Any:
    d = x - x.max(-1, keepdims=True)
    return d - np.log(np.exp(d).sum(-1, keepdims=True))


def _cross_entropy(x: Any, labels: Any) -> Any:
    return -_log_softmax(x)[np.arange(len(x)), labels].mean()


def _standardised(x: Any, axis: Any, weight: Any, bias: Any) -> Any:
    d = x - x.mean(axis, keepdims=True)
    return d / np.sqrt((d * d).mean(axis, keepdims=True) + 1e-5) * weight + bias


def _of_channels(x: Any, numbers: Any) -> Any:
    return numbers.reshape(-1, *[1] * (x.ndim - 2))


def _batch_norm(x: Any, weight: Any, bias: Any) -> Any:
    return _standardised(x, (0, 2, 3), _of_channels(x, weight), _of_channels(x, bias))


def _group_norm(x: Any, weight: Any, bias: Any, groups: int = 8) -> Any:
    blocks = x.reshape(len(x), groups, -1, *x.shape[2:])
    plain = _standardised(blocks, (2, 3, 4), 1, 0).reshape(x.shape)
    return plain * _of_channels(x, weight) + _of_channels(x, bias)


def _windows(x: Any, function: Any) -> Any:
    """Of 2 x 2 each."""
    n, c, h, w = x.shape
    return function(x.reshape(n, c, h // 2, 2, w // 2, 2), axis=(3, 5))


def _running(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Statistics of earlier batches."""
    return {"mean": np.linspace(-1, 1, shape[1]), "var": np.linspace(0.5, 2, shape[1])}


def _inferred(x: Any, weight: Any, bias: Any) -> Any:
    mean, variance = (_of_channels(x, v) for v in _running(x.shape).values())
    return (x - mean) / np.sqrt(variance + 1e-5) * _of_channels(x, weight) + _of_channels(x, bias)


@lru_cache
def _ours_running(channels: int, dtype: Any) -> dict[str, Any]:
    return {name: ec.asarray(value.astype(dtype)) for name, value in _running((0, channels)).items()}


@lru_cache
def _theirs_running(channels: int, dtype: Any) -> list[Any]:
    return [torch().from_numpy(value).to(dtype) for value in _running((0, channels)).values()]


# --------------------------------------------------------------------------------------------------------------- the list


def _elementary(name: str, inputs: Any = None) -> Operation:
    """A function that all three have by this name."""
    more = {} if inputs is None else {"inputs": inputs}
    numpys = getattr(np, name)
    return Operation(
        name, getattr(ec, name), lambda pt, x: getattr(pt, name)(x), numpys, numpy=True, elementary=True, **more
    )


def _activation(name: str, formula: Any, function: str = "", numpy: bool = False) -> Operation:
    peer = function or name
    return Operation(
        name, getattr(ec, name), lambda pt, x: getattr(pt.nn.functional, peer)(x), formula, numpy, elementary=True
    )


_RNG = np.random.default_rng(2)

OPERATIONS: dict[str, tuple[Operation | Step, ...]] = {
    "elementary functions": (
        _elementary("exp"),
        _elementary("expm1"),
        _elementary("log", positive),
        _elementary("log1p", positive),
        _elementary("tanh"),
        _elementary("sin"),
        _elementary("cos"),
        _elementary("sqrt", positive),
        Operation("x**2.5", lambda x: x**2.5, lambda pt, x: x**2.5, lambda x: x**2.5, True, positive, elementary=True),
    ),
    "activations": (
        _activation("relu", lambda x: np.maximum(x, 0), numpy=True),
        _activation("leaky_relu", lambda x: np.where(x > 0, x, 0.01 * x)),
        _activation("elu", lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
        _activation("gelu", lambda x: x * 0.5 * _erfc(-x / math.sqrt(2))),
        _activation("sigmoid", _sigmoid),
        _activation("silu", lambda x: x * _sigmoid(x)),
        _activation("softplus", _softplus),
        _activation("log_sigmoid", lambda x: -_softplus(-x), "logsigmoid"),
        _activation("mish", lambda x: x * np.tanh(_softplus(x))),
        _activation("hardswish", lambda x: x * np.clip(x + 3, 0, 6) / 6),
    ),
    "rows": (
        Operation(
            "softmax",
            lambda x: ec.softmax(x, axis=-1),
            lambda pt, x: pt.softmax(x, -1),
            lambda x: np.exp(_log_softmax(x)),
            inputs=rows,
        ),
        Operation(
            "log_softmax",
            lambda x: ec.log_softmax(x, axis=-1),
            lambda pt, x: pt.log_softmax(x, -1),
            _log_softmax,
            inputs=rows,
        ),
        Operation(
            "cross_entropy",
            ec.cross_entropy,
            lambda pt, x, y: pt.nn.functional.cross_entropy(x, y),
            _cross_entropy,
            inputs=rows_and_labels,
        ),
        Operation(
            "layer_norm",
            lambda x, w, b: ec.layer_norm(x, WIDTH, w, b),
            lambda pt, x, w, b: pt.nn.functional.layer_norm(x, (WIDTH,), w, b),
            lambda x, w, b: _standardised(x, -1, w, b),
            inputs=rows_scaled,
        ),
    ),
    "normalisation": (
        Operation(
            "batch_norm",
            lambda x, w, b: ec.batch_norm(x, None, w, b)[0],
            lambda pt, x, w, b: pt.nn.functional.batch_norm(x, None, None, w, b, True),
            _batch_norm,
            inputs=scaled,
        ),
        Operation(
            "batch_norm, running",
            lambda x, w, b: ec.batch_norm(x, _ours_running(x.shape[1], x.dtype), w, b, training=False)[0],
            lambda pt, x, w, b: pt.nn.functional.batch_norm(x, *_theirs_running(x.shape[1], x.dtype), w, b),
            _inferred,
            inputs=scaled,
        ),
        Operation(
            "group_norm",
            lambda x, w, b: ec.group_norm(x, 8, w, b),
            lambda pt, x, w, b: pt.nn.functional.group_norm(x, 8, w, b),
            _group_norm,
            inputs=scaled,
        ),
        Operation(
            "instance_norm",
            ec.instance_norm,
            lambda pt, x, w, b: pt.nn.functional.instance_norm(x, None, None, w, b),
            lambda x, w, b: _standardised(x, (2, 3), _of_channels(x, w), _of_channels(x, b)),
            inputs=scaled,
        ),
        Operation("dropout", lambda x: ec.dropout(x, 0.5, _RNG), lambda pt, x: pt.nn.functional.dropout(x), same=False),
    ),
    "losses": (
        Operation(
            "mse_loss",
            ec.mse_loss,
            lambda pt, x, y: pt.nn.functional.mse_loss(x, y),
            lambda x, y: np.mean((x - y) ** 2),
            inputs=several(2),
        ),
        Operation(
            "binary_cross_entropy",
            ec.binary_cross_entropy_with_logits,
            lambda pt, x, y: pt.nn.functional.binary_cross_entropy_with_logits(x, y),
            lambda x, y: np.mean(_softplus(x) - x * y),
            inputs=yes_or_no,
        ),
    ),
    "reductions": (
        Operation("sum, all", ec.sum, lambda pt, x: x.sum(), np.sum, True),
        Operation(
            "sum, pixels",
            lambda x: ec.sum(x, axis=(2, 3)),
            lambda pt, x: x.sum((2, 3)),
            lambda x: x.sum((2, 3)),
            True,
        ),
        Operation("sum, channels", lambda x: ec.sum(x, axis=1), lambda pt, x: x.sum(1), lambda x: x.sum(1), True),
        Operation("mean, all", ec.mean, lambda pt, x: x.mean(), np.mean, True),
        Operation(
            "mean, pixels",
            lambda x: ec.mean(x, axis=(2, 3)),
            lambda pt, x: x.mean((2, 3)),
            lambda x: x.mean((2, 3)),
            True,
        ),
        Operation(
            "var, pixels",
            lambda x: ec.var(x, axis=(2, 3)),
            lambda pt, x: x.var((2, 3), correction=0),
            lambda x: x.var((2, 3)),
            True,
        ),
        Operation("max, all", ec.max, lambda pt, x: x.amax(), np.max, True),
        Operation(
            "max, pixels",
            lambda x: ec.max(x, axis=(2, 3)),
            lambda pt, x: x.amax((2, 3)),
            lambda x: x.max((2, 3)),
            True,
        ),
    ),
    "pooling and layout": (
        Operation(
            "max_pool 2x2",
            lambda x: ec.max_pool2d(x, 2),
            lambda pt, x: pt.nn.functional.max_pool2d(x, 2),
            lambda x: _windows(x, np.max),
        ),
        Operation(
            "max_pool 3x3, stride 2",
            lambda x: ec.max_pool2d(x, 3, 2, 1),
            lambda pt, x: pt.nn.functional.max_pool2d(x, 3, 2, 1),
        ),
        Operation(
            "avg_pool 2x2",
            lambda x: ec.avg_pool2d(x, 2),
            lambda pt, x: pt.nn.functional.avg_pool2d(x, 2),
            lambda x: _windows(x, np.mean),
        ),
        Operation(
            "pad",
            lambda x: ec.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))),
            lambda pt, x: pt.nn.functional.pad(x, (1, 1, 1, 1)),
            lambda x: np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))),
            True,
        ),
        Operation(
            "concatenate",
            lambda x, y: ec.concat([x, y], axis=1),
            lambda pt, x, y: pt.cat([x, y], 1),
            lambda x, y: np.concatenate([x, y], 1),
            True,
            several(2),
        ),
        Operation(
            "bilinear, twice as large",
            lambda x: ec.bilinear_upsampling(x, 2),
            lambda pt, x: pt.nn.functional.interpolate(x, scale_factor=2, mode="bilinear"),
            same=False,
        ),
    ),
    "arithmetic": (
        Operation("add", lambda x, y: x + y, lambda pt, x, y: x + y, np.add, True, several(2)),
        Operation("multiply", lambda x, y: x * y, lambda pt, x, y: x * y, np.multiply, True, several(2)),
        Operation("bias", lambda x, y: x + y, lambda pt, x, y: x + y, np.add, True, biased),
        Operation("where", ec.where, lambda pt, c, x, y: pt.where(c, x, y), np.where, True, chosen),
        Operation("clip", lambda x: ec.clip(x, -1, 1), lambda pt, x: x.clamp(-1, 1), lambda x: np.clip(x, -1, 1), True),
    ),
    "optimisers": (
        Step("SGD", {"lr": 0.1, "momentum": 0.9}),
        Step("Adam", {"lr": 0.1}),
        Step("AdamW", {"lr": 0.1, "weight_decay": 0.01}),
    ),
}
