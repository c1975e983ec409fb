"""Optimisers: they change parameters in place from their accumulated gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from eagerconv.tensor import Tensor

__all__ = ["SGD", "Adam"]


class Optimizer:
    """Holds the parameters; `step` hands each that has a gradient to `update`, as real arrays to change in place."""

    def __init__(self, params: Iterable[Any], **settings: tuple[float, float, float]) -> None:
        self.params = [params] if isinstance(params, Tensor) else list(params)
        for i, p in enumerate(self.params):
            if not isinstance(p, Tensor) or not p.requires_grad or not p.is_leaf:
                raise ValueError(
                    f"params[{i}] must be a leaf Tensor that requires a gradient, as made by "
                    f"tensor(..., requires_grad=True); got {type(p).__name__}"
                )
        for name, (value, low, high) in settings.items():
            if not low <= value < high:
                raise ValueError(f"{name} must be at least {low} and below {high}, not {value}")
        self.state: list[dict[str, Any]] = [{} for _ in self.params]

    def zero_grad(self) -> None:
        """Forget the accumulated gradients."""
        for p in self.params:
            p.grad = None

    def step(self) -> None:
        """Change every parameter that has a gradient."""
        for p, state in zip(self.params, self.state, strict=True):
            if p.grad is not None:
                self.update(_as_real(p.data), _as_real(p.grad.data), state)
                p._version[0] += 1

    def update(self, p: Any, g: Any, state: dict[str, Any]) -> None:
        """Change the array `p`, whose gradient is `g`, in place; `state` is kept from step to step."""
        raise NotImplementedError


class SGD(Optimizer):
    """Gradient descent, with momentum if asked for.

    Parameters
    ----------
    params : iterable of Tensors
        Leaves that require a gradient.
    lr : float
        Learning rate; the attribute `lr` may be changed between steps.
    momentum : float
        How much of the previous step's velocity is kept.
    nesterov : bool
        Look ahead along the velocity.
    weight_decay : float
        Adds this much of the parameter to its gradient.

    Raises
    ------
    ValueError
        For parameters that cannot be trained, or settings out of range.

    Notes
    -----
    Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013, in the form
    v <- momentum v + g, p <- p - lr v.

    Examples
    --------
    >>> from eagerconv.tensor import tensor
    >>> w = tensor([4.0], requires_grad=True)
    >>> optimizer = SGD([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([2.], dtype=float64, requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        inf = np.inf
        super().__init__(params, lr=(lr, 0, inf), momentum=(momentum, 0, inf), weight_decay=(weight_decay, 0, inf))
        if nesterov and not momentum:
            raise ValueError("nesterov=True needs a momentum above 0")
        self.lr, self.momentum, self.nesterov, self.weight_decay = lr, momentum, nesterov, weight_decay

    def update(self, p: Any, g: Any, state: dict[str, Any]) -> None:
        """One step."""
        if self.weight_decay:
            g = g + self.weight_decay * p
        if self.momentum:
            if "velocity" not in state:
                state["velocity"] = g.copy()
            else:
                state["velocity"] *= self.momentum
                state["velocity"] += g
            g = g + self.momentum * state["velocity"] if self.nesterov else state["velocity"]
        p -= self.lr * g


class Adam(Optimizer):
    """Steps of about the learning rate, from running means of the gradient and of its square.

    Parameters
    ----------
    params : iterable of Tensors
        Leaves that require a gradient.
    lr : float
        Learning rate; the attribute `lr` may be changed between steps.
    betas : (float, float)
        How much of the two running means is kept at each step.
    eps : float
        Keeps the division finite.
    weight_decay : float
        Adds this much of the parameter to its gradient.

    Raises
    ------
    ValueError
        For parameters that cannot be trained, or settings out of range.

    Notes
    -----
    Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015.

    Examples
    --------
    >>> from eagerconv.tensor import tensor
    >>> w = tensor([4.0], requires_grad=True)
    >>> optimizer = Adam([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([3.5], dtype=float64, requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        inf = np.inf
        limits = {"lr": (lr, 0, inf), "eps": (eps, 0, inf), "weight_decay": (weight_decay, 0, inf)}
        super().__init__(params, **limits, beta1=(betas[0], 0, 1), beta2=(betas[1], 0, 1))
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay

    def update(self, p: Any, g: Any, state: dict[str, Any]) -> None:
        """One step."""
        if self.weight_decay:
            g = g + self.weight_decay * p
        if not state:
            state.update(step=0, mean=np.zeros_like(p), square=np.zeros_like(p))
        state["step"] += 1
        b1, b2 = self.betas
        mean, square = state["mean"], state["square"]
        mean += (1 - b1) * (g - mean)
        square *= b2
        square += (1 - b2) * g * g
        # Both means began at zero: divide by the share of the weights they have seen.
        scale = np.sqrt(square)
        scale /= float(np.sqrt(1 - b2 ** state["step"]))
        scale += self.eps
        p -= self.lr / (1 - b1 ** state["step"]) * (mean / scale)


def _as_real(a: Any) -> Any:
    """Complex numbers as pairs of reals, in the same memory: each part is a parameter of its own."""
    return a[..., None].view(a.real.dtype) if a.dtype.kind == "c" else a
