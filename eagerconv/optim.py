"""Optimisers, which change parameters in place by their gradients, and the clipping of gradients."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from eagerconv import tree
from eagerconv.arguments import number
from eagerconv.fused import update
from eagerconv.tensor import Tensor, asarray

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSProp", "clip_by_norm", "clip_by_value"]

Rate = float | Callable[[int], float]  # a learning rate, or a schedule of it


class Optimizer:
    """Holds the parameters, a tree or any iterable of them; `step` hands each with its gradient to `update`."""

    def __init__(self, params: Any, lr: Rate, **settings: tuple[float, float, float]) -> None:
        branches = isinstance(params, (Tensor, dict, list, tuple))
        leaves, self.structure = tree.flatten(params if branches else list(params))
        self.params: list[Any] = list({id(p): p for p in leaves}.values())  # one that stands twice is stepped once
        places = {id(p): i for i, p in enumerate(self.params)}
        self._places = [places[id(p)] for p in leaves]
        for i, p in enumerate(self.params):
            if not isinstance(p, Tensor) or not p.requires_grad or not p.is_leaf:
                raise ValueError(
                    f"params[{i}] must be a leaf Tensor that requires a gradient, as made by "
                    f"tensor(..., requires_grad=True); got {type(p).__name__}"
                )
        if not callable(lr):
            settings["lr"] = (lr, 0, np.inf)
        for name, (value, low, high) in settings.items():
            number(name, value, f"[{low}, {high})")
        self.lr = lr
        self.steps = 0
        self.state: list[dict[str, Any]] = [{} for _ in self.params]

    def zero_grad(self) -> None:
        """Forget the accumulated gradients."""
        for p in self.params:
            p.grad = None

    def step(self, grads: Any = None) -> None:
        """Change every parameter that has a gradient; one that stands in the tree several times, once.

        Parameters
        ----------
        grads : tree of Tensors, optional
            Gradients in the form of the parameters, as `func.grad` returns them; None in it for none. Those of a parameter
            that stands in the tree several times are added, if they are not one Tensor, as its `.grad` is. Default: what
            `backward` left in `.grad`.

        Raises
        ------
        ValueError
            If a gradient has not the shape of its parameter, or the tree another form.

        Warns
        -----
        UserWarning
            If no parameter has a gradient, so that nothing changes.
        """
        given = [[p.grad] for p in self.params] if grads is None else self._gradients(grads)
        found = [self._fitting(i, [g for g in several if g is not None]) for i, several in enumerate(given)]
        if found and all(g is None for g in found):
            warnings.warn(
                "step: no parameter has a gradient, so nothing changes. Is backward() called before, on a loss of the very "
                "Tensors the optimiser was given? After p['w'] = ... or a copy of the parameters they are others: make a new "
                "optimiser of those, or write to the old ones, as in `with no_grad(): p['w'][...] = value`",
                stacklevel=2,
            )
        rate = self.lr(self.steps) if callable(self.lr) else self.lr
        for p, g, state in zip(self.params, found, self.state, strict=True):
            if g is None:
                continue
            self.update(_as_real(p.data), _as_real(asarray(g).data), state, rate)
            p._version[0] += 1
        self.steps += 1

    def _gradients(self, grads: Any) -> list[list[Any]]:
        """The gradients of each parameter from a tree of them: one of each place where it stands, if they are not the same."""
        found: list[dict[int, Any]] = [{} for _ in self.params]
        for i, g in zip(self._places, tree.flatten_as(self.structure, grads, "grads"), strict=True):
            found[i][id(g)] = g
        return [list(several.values()) for several in found]

    def _fitting(self, i: int, several: list[Any]) -> Any:
        """The sum of the gradients of params[i], None of none."""
        for g in several:
            if g.shape != self.params[i].shape:
                raise ValueError(
                    f"step: the gradient of params[{i}] must have its shape {self.params[i].shape}, not {g.shape}"
                )
        return sum(several[1:], several[0]) if several else None

    def update(self, p: Any, g: Any, state: dict[str, Any], lr: float) -> None:
        """Change the array `p`, whose gradient is `g`, in place; `state` is kept from step to step."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on from here, as a tree that `save` can write; nothing is copied."""
        state = [{k: v if isinstance(v, int) else Tensor._wrap(v) for k, v in s.items()} for s in self.state]
        return {"steps": self.steps, "lr": None if callable(self.lr) else self.lr, "state": state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where another optimiser of the same kind and parameters was; a schedule stays the one given here.

        Raises
        ------
        ValueError
            If the state is one of other parameters.
        """
        if len(state["state"]) != len(self.params):
            raise ValueError(f"the state is one of {len(state['state'])} parameters, here are {len(self.params)}")
        fresh = [{k: v.data.copy() if isinstance(v, Tensor) else v for k, v in s.items()} for s in state["state"]]
        for i, (p, entries) in enumerate(zip(self.params, fresh, strict=True)):
            for name, value in entries.items():
                if not isinstance(value, int) and value.shape != _as_real(p.data).shape:
                    raise ValueError(f"{name} of params[{i}] has shape {value.shape}, the parameter has {p.shape}")
        self.state, self.steps = fresh, state["steps"]
        if state["lr"] is not None:
            self.lr = state["lr"]


class SGD(Optimizer):
    """Gradient descent, with momentum if asked for.

    Parameters
    ----------
    params : tree or iterable of Tensors
        Leaves that require a gradient.
    lr : float or callable
        Learning rate, or a schedule that gives it for the number of steps done; the attribute `lr` may be changed.
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
        params: Any,
        lr: Rate,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        inf = np.inf
        super().__init__(params, lr, momentum=(momentum, 0, inf), weight_decay=(weight_decay, 0, inf))
        if nesterov and not momentum:
            raise ValueError("nesterov=True needs a momentum above 0")
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay

    def update(self, p: Any, g: Any, state: dict[str, Any], lr: float) -> None:
        """One step."""
        numbers = (lr, self.weight_decay)
        if not self.momentum:
            update("sgd", [p], [g], numbers)
            return
        if "velocity" not in state:
            state["velocity"] = np.zeros_like(p)
        update(
            "sgd_nesterov" if self.nesterov else "sgd_momentum", [p, state["velocity"]], [g], (*numbers, self.momentum)
        )


class Adam(Optimizer):
    """Steps of about the learning rate, from running means of the gradient and of its square.

    Parameters
    ----------
    params : tree or iterable of Tensors
        Leaves that require a gradient.
    lr : float or callable
        Learning rate, or a schedule that gives it for the number of steps done; the attribute `lr` may be changed.
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
        params: Any,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        inf = np.inf
        limits = {"eps": (eps, 0, inf), "weight_decay": (weight_decay, 0, inf)}
        given: Any = betas
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise TypeError(f"betas must be two numbers in [0, 1), not {betas!r}")
        super().__init__(params, lr, **limits, beta1=(betas[0], 0, 1), beta2=(betas[1], 0, 1))
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        self.decoupled = 0.0

    def update(self, p: Any, g: Any, state: dict[str, Any], lr: float) -> None:
        """One step."""
        if not state:
            state.update(step=0, mean=np.zeros_like(p), square=np.zeros_like(p))
        state["step"] += 1
        b1, b2 = self.betas
        # Both means began at zero: divide by the share of the weights they have seen.
        rate, root = lr / (1 - b1 ** state["step"]), math.sqrt(1 - b2 ** state["step"])
        numbers = (rate, self.weight_decay, 1 - lr * self.decoupled, 1 - b1, b2, 1 - b2, root, self.eps)
        update("adam", [p, state["mean"], state["square"]], [g], numbers)


class AdamW(Adam):
    """`Adam` whose weight decay does not pass through the running means: p <- (1 - lr weight_decay) p, then the step.

    Parameters as for `Adam`; `weight_decay` is 0.01 unless given.

    Notes
    -----
    Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Examples
    --------
    >>> from eagerconv.tensor import tensor
    >>> w = tensor([4.0], requires_grad=True)
    >>> optimizer = AdamW([w], lr=0.5, weight_decay=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([2.5], dtype=float64, requires_grad=True)
    """

    def __init__(
        self,
        params: Any,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr, betas, eps, 0.0)
        self.decoupled = number("weight_decay", weight_decay, "[0, inf)")


class RMSProp(Optimizer):
    """Steps divided by the root of a running mean of the squared gradient.

    Parameters
    ----------
    params : tree or iterable of Tensors
        Leaves that require a gradient.
    lr : float or callable
        Learning rate, or a schedule that gives it for the number of steps done; the attribute `lr` may be changed.
    alpha : float
        How much of the running mean is kept at each step.
    eps : float
        Added to the root.
    momentum : float
        How much of the previous step's velocity is kept.
    centered : bool
        Divide by the root of the variance, of the square without the squared mean.
    weight_decay : float
        Adds this much of the parameter to its gradient.

    Raises
    ------
    ValueError
        For parameters that cannot be trained, or settings out of range.

    Notes
    -----
    Tieleman and Hinton, "Lecture 6.5: RMSProp", 2012, in PyTorch's form.

    Examples
    --------
    >>> from eagerconv.tensor import tensor
    >>> w = tensor([4.0], requires_grad=True)
    >>> optimizer = RMSProp([w], lr=0.1, alpha=0.75)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([3.8], dtype=float64, requires_grad=True)
    """

    def __init__(
        self,
        params: Any,
        lr: Rate = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        inf = np.inf
        limits = {"eps": (eps, 0, inf), "momentum": (momentum, 0, inf), "weight_decay": (weight_decay, 0, inf)}
        super().__init__(params, lr, alpha=(alpha, 0, 1), **limits)
        self.alpha, self.eps, self.momentum = alpha, eps, momentum
        self.centered, self.weight_decay = centered, weight_decay

    def update(self, p: Any, g: Any, state: dict[str, Any], lr: float) -> None:
        """One step."""
        if not state:
            names = ["square"] + ["mean"] * self.centered + ["velocity"] * bool(self.momentum)
            state.update({name: np.zeros_like(p) for name in names})
        name = "rmsprop" + "_centered" * self.centered + "_moving" * bool(self.momentum)
        numbers = (lr, self.weight_decay, self.alpha, 1 - self.alpha, self.eps, self.momentum)
        update(name, [p, *state.values()], [g], numbers)


def clip_by_norm(grads: Any, max_norm: float) -> tuple[Any, float]:
    """Scale gradients down together so that their norm, over all elements of all of them, is at most `max_norm`.

    Parameters
    ----------
    grads : tree of Tensors
        As `func.grad` returns them, or `tree.map(lambda p: p.grad, params)` after a `backward`.
    max_norm : float
        The largest norm allowed.

    Returns
    -------
    grads : tree of Tensors
        New ones, for `Optimizer.step`; those given, if they are small enough.
    norm : float
        The norm before.

    Raises
    ------
    ValueError
        If `max_norm` is not positive.

    Notes
    -----
    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", ICML 2013. PyTorch adds 1e-6
    to the norm.

    Examples
    --------
    >>> from eagerconv.tensor import tensor
    >>> clip_by_norm({"w": tensor([3.0, 4.0])}, 1.0)
    ({'w': tensor([0.6, 0.8], dtype=float64)}, 5.0)
    """
    max_norm = number("clip_by_norm: max_norm", max_norm, "(0, inf]")
    once = {id(g): g for g in tree.leaves(grads)}.values()  # that of a tied parameter stands at each of its places
    squares = [float(np.sum(np.square(_as_real(g.data), dtype=np.float64))) for g in once]
    norm = math.sqrt(math.fsum(squares)) if all(map(math.isfinite, squares)) else sum(squares)
    return (grads if norm <= max_norm else tree.map(lambda g: g * (max_norm / norm), grads)), norm


def clip_by_value(grads: Any, limit: float) -> Any:
    """Cut every element of real gradients off at -limit and limit.

    Raises
    ------
    ValueError
        If the limit is not positive.

    Examples
    --------
    >>> from eagerconv.tensor import tensor
    >>> clip_by_value([tensor([-3.0, 0.5])], 1.0)
    [tensor([-1. ,  0.5], dtype=float64)]
    """
    limit = number("clip_by_value: limit", limit, "(0, inf]")
    return tree.map(lambda g: Tensor._wrap(np.clip(g.data, -limit, limit)), grads)


def _as_real(a: Any) -> Any:
    """Complex numbers as pairs of reals, in the same memory: each part is a parameter of its own."""
    return a[..., None].view(a.real.dtype) if a.dtype.kind == "c" else a
