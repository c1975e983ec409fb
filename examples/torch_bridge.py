"""PyTorch and eagerconv in one program, without copies: our convolution inside its network, its loss behind ours.

Run it with `python examples/torch_bridge.py`. Besides eagerconv it needs PyTorch. Tensors cross the border by DLPack, which
hands over the memory itself; gradients cross it by one `torch.autograd.Function` and one `ec.func.custom_vjp`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import eagerconv as ec

# ----- A convolution of ours in a network of PyTorch's -----


class Unshared(torch.autograd.Function):
    """A layer PyTorch lacks: a 2-D convolution with different filters at every position (locally connected)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """Compute with our kernels, and keep the function that pulls gradients back."""

        def layer(x: ec.Tensor, w: ec.Tensor) -> ec.Tensor:
            return ec.conv2d(x, w, border_mode="half", unshared=True, filter_flip=False)

        out, ctx.pullback = ec.vjp(layer, ec.from_dlpack(x.detach()), ec.from_dlpack(w.detach()))
        return torch.from_dlpack(out)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Pull the gradient back."""
        return tuple(torch.from_dlpack(d) for d in ctx.pullback(ec.from_dlpack(g.contiguous())))


def by_patches(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """The same layer from PyTorch's own parts, by writing out all patches: slow, large, and a second opinion."""
    o, rows, columns, c, kh, kw = w.shape
    patches = torch.nn.functional.unfold(x, (kh, kw), padding=(kh // 2, kw // 2))  # (N, C kh kw, rows columns)
    filters = w.permute(0, 3, 4, 5, 1, 2).reshape(o, c * kh * kw, rows * columns)
    return torch.einsum("nkp,okp->nop", patches, filters).reshape(-1, o, rows, columns)


def layer_differences() -> dict[str, float]:
    """How far value and gradients are from PyTorch's, inside a network of its, relative to the largest number."""
    rng = np.random.default_rng(0)
    start = {"x": rng.standard_normal((4, 3, 8, 8)), "w": rng.standard_normal((5, 8, 8, 3, 3, 3))}
    found = []
    for layer in (Unshared.apply, by_patches):
        torch.manual_seed(0)
        x, w = (torch.tensor(a, requires_grad=True) for a in start.values())
        after = torch.nn.Conv2d(5, 2, 3, dtype=torch.float64)
        value = torch.tanh(after(torch.relu(layer(torch.tanh(x), w)))).square().sum()
        value.backward()
        found.append({"value": value.detach(), "gradient of x": x.grad, "gradient of w": w.grad})
    ours, theirs = found
    return {name: float((ours[name] - theirs[name]).abs().max() / theirs[name].abs().max()) for name in ours}


# ----- A loss of PyTorch's behind a network of ours -----


def ctc(log_p: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Connectionist temporal classification (Graves et al., 2006), of what went through log_softmax: (N, classes, length)."""
    n, _, length = log_p.shape
    lengths = torch.full((n,), length), torch.full((n,), words.shape[1])
    return torch.nn.functional.ctc_loss(log_p.permute(2, 0, 1), words, *lengths)


def ctc_pullback(g: ec.Tensor, ans: ec.Tensor, log_p: ec.Tensor, words: torch.Tensor) -> tuple[Any, None]:
    """Let PyTorch differentiate its own loss."""
    there = torch.from_dlpack(log_p.detach()).requires_grad_()
    (d,) = torch.autograd.grad(ctc(there, words), there)
    return ec.from_dlpack(d * g.item()), None


@ec.func.custom_vjp(ctc_pullback, once=True)
def ctc_loss(log_p: ec.Tensor, words: torch.Tensor) -> ec.Tensor:
    """PyTorch's loss as one operation on our tape."""
    return ec.from_dlpack(ctc(torch.from_dlpack(log_p.detach()), words))


def train(steps: int = 60) -> list[float]:
    """Teach two causal convolutions of ours to spell words of three letters over twelve moments, by PyTorch's loss."""
    rng = np.random.default_rng(0)
    words = rng.integers(1, 5, (16, 3))  # class 0 is the blank
    signals = np.repeat(np.eye(5, dtype="f4")[words], 4, axis=1).swapaxes(1, 2)  # (16, 5, 12): each letter four times
    signals += 0.3 * rng.standard_normal(signals.shape).astype("f4")
    p = {"one": ec.init.he_normal((32, 5, 3), rng), "two": ec.init.glorot_normal((5, 32, 3), rng)}
    optimizer = ec.optim.Adam(p, lr=0.01)
    losses = []
    for _ in range(steps):
        h = ec.relu(ec.causal_conv1d(signals, p["one"]))
        loss = ctc_loss(ec.log_softmax(ec.causal_conv1d(h, p["two"]), axis=1), torch.tensor(words))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def shared_memory() -> bool:
    """Whether a tensor that goes there and back still lies at the same address."""
    x = ec.tensor(np.arange(6.0))
    there = torch.from_dlpack(x)
    there[0] = 42  # written by PyTorch, read by us
    return bool(there.data_ptr() == x.data.ctypes.data and ec.from_dlpack(there)[0].item() == 42 == x[0].item())


def main() -> None:
    print(f"Memory is shared across the border: {shared_memory()}")
    print("Our unshared convolution in PyTorch's network, against PyTorch's own parts (float64):")
    for name, difference in layer_differences().items():
        print(f"  {name:14s} differs by {difference:.1e} of its largest number")
    losses = train()
    print("PyTorch's CTC loss behind our convolutions:")
    print("  " + "  ".join(f"step {n}: {losses[n]:.3f}" for n in (0, 10, 30, len(losses) - 1)))


if __name__ == "__main__":
    main()
