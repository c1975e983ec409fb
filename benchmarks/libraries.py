"""The operations of which the benchmarks' networks are made, in eagerconv and in PyTorch, as each one's users call them.

Convolutions are cross-correlations; running statistics are dicts {"mean", "var"} that a training step changes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import eagerconv as ec
from benchmarks.harness import torch

RATE = 0.01
MOMENTUM = 0.9
CONVOLVE = {1: ec.conv1d, 2: ec.conv2d, 3: ec.conv3d}
MAX_POOL = {1: ec.max_pool1d, 2: ec.max_pool2d, 3: ec.max_pool3d}


class Ours:
    """The operations in eagerconv."""

    name = "eagerconv"
    relu, relu6, sigmoid, tanh, silu, gelu = (
        staticmethod(getattr(ec, f)) for f in ("relu", "relu6", "sigmoid", "tanh", "silu", "gelu")
    )
    linear, layer_norm = staticmethod(ec.linear), staticmethod(ec.layer_norm)
    cross_entropy, binary = staticmethod(ec.cross_entropy), staticmethod(ec.binary_cross_entropy_with_logits)
    permute, no_grad, inference = (staticmethod(f) for f in (ec.permute_dims, ec.no_grad, ec.no_grad))

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def leaf(self, value: np.ndarray) -> Any:
        return ec.tensor(value, requires_grad=True, device=self.device)

    def data(self, value: np.ndarray) -> Any:
        return ec.asarray(value, device=self.device)

    def numpy(self, value: Any) -> np.ndarray:
        return np.asarray(value.to("cpu").numpy())

    def conv(self, x: Any, w: Any, bias: Any = None, stride: int = 1, pad: int = 0, dilation: int = 1, groups: int = 1,
             rectified: bool = False) -> Any:  # fmt: skip
        return CONVOLVE[x.ndim - 2](
            x, w, border_mode=pad, subsample=stride, filter_flip=False, filter_dilation=dilation, num_groups=groups,
            bias=bias, activation="relu" if rectified else None,
        )  # fmt: skip

    def upconv(self, x: Any, w: Any, bias: Any = None, stride: int = 1, pad: int = 0) -> Any:
        """Transposed convolution of images; `w` has the input's channels first."""
        sizes = ((size - 1) * stride - 2 * pad + k for size, k in zip(x.shape[2:], w.shape[2:], strict=True))
        shape = (None, None, *sizes)
        return ec.conv2d_transpose(x, w, shape, border_mode=pad, input_dilation=stride, filter_flip=False, bias=bias)

    def causal(self, x: Any, w: Any, bias: Any = None, dilation: int = 1) -> Any:
        return ec.causal_conv1d(x, w, filter_flip=False, filter_dilation=dilation, bias=bias)

    def batch_norm(self, x: Any, running: dict[str, Any], weight: Any, bias: Any, training: bool,
                   then: str | None = None) -> Any:  # fmt: skip
        out, latest = ec.batch_norm(x, running, weight, bias, training, activation=then)
        running.update(latest)
        return out

    def group_norm(self, x: Any, groups: int, weight: Any, bias: Any, then: str | None = None) -> Any:
        return ec.group_norm(x, groups, weight, bias, activation=then)

    def max_pool(self, x: Any, size: int, stride: int, pad: int = 0) -> Any:
        return MAX_POOL[x.ndim - 2](x, size, stride, pad)

    def avg_pool(self, x: Any, size: int) -> Any:
        return ec.avg_pool2d(x, size)

    def mean(self, x: Any) -> Any:
        """Over space."""
        return x.mean(axis=tuple(range(2, x.ndim)))

    def concat(self, values: list[Any]) -> Any:
        return ec.concat(values, axis=1)

    def prepared(self, function: Any) -> Any:
        """The function as it is called many times."""
        return function

    def sgd(self, leaves: list[Any], momentum: float = 0.0) -> Any:
        return ec.optim.SGD(leaves, lr=RATE, momentum=momentum)


class Theirs:
    """The operations in PyTorch, eager, in its own layout."""

    name = "PyTorch"

    def __init__(self, device: str = "cpu") -> None:
        self.torch, self.device = torch(), device
        if device == "cuda":  # float32 as it is, as with us
            self.torch.backends.cudnn.allow_tf32 = self.torch.backends.cuda.matmul.allow_tf32 = False
        f = self.torch.nn.functional
        self.functions = f
        self.relu, self.relu6, self.silu, self.gelu, self.linear = f.relu, f.relu6, f.silu, f.gelu, f.linear
        self.sigmoid, self.tanh, self.permute = self.torch.sigmoid, self.torch.tanh, self.torch.permute
        self.cross_entropy, self.binary = f.cross_entropy, f.binary_cross_entropy_with_logits
        self.convolve = {1: f.conv1d, 2: f.conv2d, 3: f.conv3d}
        self.pools = {1: f.max_pool1d, 2: f.max_pool2d, 3: f.max_pool3d}
        self.no_grad, self.inference = self.torch.no_grad, self.torch.inference_mode

    def laid_out(self, value: Any) -> Any:
        """In the layout of this mode."""
        return value

    def leaf(self, value: np.ndarray) -> Any:
        return self.laid_out(self.torch.from_numpy(value.copy()).to(self.device)).requires_grad_()

    def data(self, value: np.ndarray) -> Any:
        return self.laid_out(self.torch.from_numpy(value).to(self.device))

    def numpy(self, value: Any) -> np.ndarray:
        return np.asarray(value.detach().cpu().numpy())

    def conv(self, x: Any, w: Any, bias: Any = None, stride: int = 1, pad: int = 0, dilation: int = 1, groups: int = 1,
             rectified: bool = False) -> Any:  # fmt: skip
        y = self.convolve[x.ndim - 2](x, w, bias, stride, pad, dilation, groups)
        return self.functions.relu(y, inplace=True) if rectified else y

    def upconv(self, x: Any, w: Any, bias: Any = None, stride: int = 1, pad: int = 0) -> Any:
        return self.functions.conv_transpose2d(x, w, bias, stride, pad)

    def causal(self, x: Any, w: Any, bias: Any = None, dilation: int = 1) -> Any:
        padded = self.functions.pad(x, ((w.shape[2] - 1) * dilation, 0))
        return self.functions.conv1d(padded, w, bias, dilation=dilation)

    def batch_norm(self, x: Any, running: dict[str, Any], weight: Any, bias: Any, training: bool,
                   then: str | None = None) -> Any:  # fmt: skip
        y = self.functions.batch_norm(x, running["mean"], running["var"], weight, bias, training)
        return self.activated(y, then)

    def group_norm(self, x: Any, groups: int, weight: Any, bias: Any, then: str | None = None) -> Any:
        return self.activated(self.functions.group_norm(x, groups, weight, bias), then)

    def activated(self, y: Any, then: str | None) -> Any:
        """An activation, in place where PyTorch can."""
        if then is None:
            return y
        return self.gelu(y) if then == "gelu" else getattr(self.functions, then)(y, inplace=True)

    def layer_norm(self, x: Any, size: int, weight: Any, bias: Any) -> Any:
        return self.functions.layer_norm(x, (size,), weight, bias)

    def max_pool(self, x: Any, size: int, stride: int, pad: int = 0) -> Any:
        return self.pools[x.ndim - 2](x, size, stride, pad)

    def avg_pool(self, x: Any, size: int) -> Any:
        return self.functions.avg_pool2d(x, size)

    def mean(self, x: Any) -> Any:
        return x.mean(tuple(range(2, x.ndim)))

    def concat(self, values: list[Any]) -> Any:
        return self.torch.cat(values, 1)

    def prepared(self, function: Any) -> Any:
        return function

    def sgd(self, leaves: list[Any], momentum: float = 0.0) -> Any:
        """The fused one, which is the fastest."""
        return self.torch.optim.SGD(leaves, lr=RATE, momentum=momentum, fused=True)


class ChannelsLast(Theirs):
    """The same with images and filters channels-last, as PyTorch advises for convolutions."""

    name = "channels-last"

    def laid_out(self, value: Any) -> Any:
        formats = {4: self.torch.channels_last, 5: self.torch.channels_last_3d}
        return value.contiguous(memory_format=formats[value.ndim]) if value.ndim in formats else value


class Compiled(Theirs):
    """The same through torch.compile."""

    name = "torch.compile"

    def prepared(self, function: Any) -> Any:
        return self.torch.compile(function)
