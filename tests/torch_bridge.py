"""PyTorch's convolutions under our arguments: a second opinion where PyTorch is installed.

PyTorch correlates, pads by one int per axis and knows no unshared filters; so the image is padded beforehand, the
kernel is reversed for `filter_flip=True`, and both gradients come from PyTorch's own autograd.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import oracle

Array = npt.NDArray[Any]


def _convolve(x: Any, w: Any, keywords: dict[str, Any]) -> Any:
    import torch.nn.functional as F

    ndim = x.ndim - 2
    options = {"border_mode": "valid", "subsample": 1, "filter_dilation": 1, "filter_flip": True, **keywords}
    g = oracle.geometry(
        tuple(x.shape[2:]),
        tuple(w.shape[2:]),
        options["border_mode"],
        options["subsample"],
        options["filter_dilation"],
        options["filter_flip"],
    )
    last_axis_first = [rows for pair in reversed(g.padding) for rows in pair]
    kernel = w.flip(*range(2, w.ndim)) if g.flip else w
    conv = (F.conv1d, F.conv2d, F.conv3d)[ndim - 1]
    image = F.pad(x, last_axis_first)
    groups = options.get("num_groups", 1)
    return conv(image, kernel, stride=g.subsample, dilation=g.dilation, groups=groups)


def forward(x: Array, w: Array, **keywords: Any) -> Array:
    """Convolve by PyTorch."""
    import torch

    return np.asarray(_convolve(torch.tensor(x), torch.tensor(w), keywords))


def gradients(x: Array, w: Array, y: Array, **keywords: Any) -> tuple[Array, Array]:
    """Differentiate <conv(x, w), y> in x and in w by PyTorch's autograd."""
    import torch

    tx, tw = torch.tensor(x, requires_grad=True), torch.tensor(w, requires_grad=True)
    _convolve(tx, tw, keywords).backward(torch.tensor(y))
    return np.asarray(tx.grad), np.asarray(tw.grad)


def transposed(x: Array, w: Array, **keywords: Any) -> Array:
    """Call PyTorch's conv_transpose with its own argument names: w is (C_in, C_out/G, *kernel), not reversed."""
    import torch
    import torch.nn.functional as F

    conv = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[x.ndim - 3]
    return np.asarray(conv(torch.tensor(x), torch.tensor(w), **keywords))
