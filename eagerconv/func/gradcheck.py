"""check_grads: compare derivatives with finite differences, in both modes and to any order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from eagerconv.arguments import number, whole
from eagerconv.autograd import rules
from eagerconv.autograd.tape import inexact, no_grad
from eagerconv.func.transforms import jvp, vjp
from eagerconv.tensor import Tensor, asarray

__all__ = ["check_grads"]

Fn = Callable[..., Any]


def check_grads(
    fn: Fn,
    args: Sequence[Any],
    order: int = 2,
    modes: Sequence[str] = ("fwd", "rev"),
    *,
    eps: float = 1e-5,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    seed: int = 0,
) -> None:
    """Check the derivatives of a function at `args`, or raise an AssertionError that tells where they are wrong.

    In a random direction u, forward mode must agree with the central difference (f(x + eps u) - f(x - eps u)) / 2 eps,
    and reverse mode with forward mode, <v, J u> = <J^H v, u>. Then the derivatives themselves are checked in the same
    way, up to `order`.

    Parameters
    ----------
    fn : callable
        Takes Tensors, returns a Tensor, or nested lists and tuples of them: all are checked, but integers and masks.
    args : sequence of array_like
        float64 or complex128, where `fn` is smooth. Those of other kinds (labels, indices) are held fixed.
    order : int
        How often to differentiate.
    modes : sequence of {"fwd", "rev"}
        The modes to check; at order 2 every succession of them.
    eps, rtol, atol : float
        Step and tolerances. A central difference is exact for maps of degree two and less: there eps=1 can be used.
    seed : int
        Of the random directions.

    Raises
    ------
    AssertionError
        If a derivative is wrong; the message names mode, order, argument, and both values.
    TypeError
        If an argument has a precision in which differences say nothing, or no argument or result is differentiable.
    ValueError
        If `modes` holds anything else, `order` is less than one, or a step or tolerance is negative.

    Examples
    --------
    >>> check_grads(lambda x, y: x * y, ([1.0, 2.0], [3.0, 4.0]))
    >>> check_grads(lambda x: (x.sum(), [x * x]), ([1.0, 2.0],))
    >>> check_grads(lambda x: x.detach() * x, ([1.0, 2.0],))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    AssertionError: check_grads: mode fwd, order 1, argument 0: expected ..., got ...
    """
    if not isinstance(args, (tuple, list)):
        raise TypeError(
            "check_grads: args must be a tuple or list with one entry per argument of the function, not "
            f"{type(args).__name__}; for a function of one argument write check_grads(fn, (x,))"
        )
    whole("check_grads: order", order, 1)
    number("check_grads: eps", eps, "(0, inf)")
    number("check_grads: rtol", rtol, "[0, inf)")
    number("check_grads: atol", atol, "[0, inf)")
    if not modes or set(modes) - {"fwd", "rev"}:
        raise ValueError(f"check_grads: modes must be some of 'fwd', 'rev'; got {modes!r}")
    arrays = [np.array(asarray(a).detach().data) for a in args]
    moving = [i for i, a in enumerate(arrays) if a.dtype.kind not in "biu"]
    for i in moving:
        if arrays[i].dtype not in (np.float64, np.complex128):
            raise TypeError(f"args[{i}] must be float64 or complex128, not {arrays[i].dtype}; convert it with astype")
    if not moving:
        raise TypeError("check_grads: none of the arguments is floating or complex")

    def of_moving(*xs: Any) -> Any:
        whole: list[Any] = list(arrays)
        for i, x in zip(moving, xs, strict=True):
            whole[i] = x
        return _joined(fn(*whole))

    rng = np.random.default_rng(seed)

    def check(fn: Fn, xs: list[Any], mode_so_far: tuple[str, ...]) -> None:
        us = [_direction(rng, x) for x in xs]
        with no_grad():
            v = _direction(rng, fn(*map(asarray, xs)).data)
        for i, (x, u) in enumerate(zip(xs, us, strict=True)):

            def one(x: Any, i: int = i) -> Any:
                return fn(*(asarray(x if j == i else other) for j, other in enumerate(xs)))

            with no_grad():
                slope = (one(x + eps * u).data - one(x - eps * u).data) / (2 * eps)
            for mode in modes:
                if mode == "fwd":
                    got, expected = jvp(one, [x], [u])[1].data, slope
                else:
                    got, expected = _inner(vjp(one, x)[1](v)[0], u).data, _inner(v, slope)
                if not np.allclose(
                    got, expected, rtol=rtol, atol=atol * max(1.0, float(np.max(np.abs(slope), initial=0)))
                ):
                    raise AssertionError(
                        f"check_grads: mode {'-'.join((*mode_so_far, mode))}, order {len(mode_so_far) + 1}, "
                        f"argument {moving[i]}: expected {expected}, got {got}"
                    )
        if len(mode_so_far) + 1 < order:
            if "fwd" in modes:
                check(lambda *ys: jvp(fn, ys, us)[1], xs, (*mode_so_far, "fwd"))
            if "rev" in modes:
                check(lambda *ys: _pulled(fn, ys, v, us), xs, (*mode_so_far, "rev"))

    check(of_moving, [arrays[i] for i in moving], ())


def _joined(out: Any) -> Any:
    """Several results in one vector, so that one sweep sees all of them."""
    if isinstance(out, Tensor):
        return out
    parts = [rules.reshape(x, shape=(-1,)) for x in _tensors(out) if inexact(x.dtype)]
    if not parts:
        raise TypeError("check_grads: fn returned no floating or complex Tensor")
    return rules.BY_FUNCTION[np.concatenate](parts)


def _tensors(out: Any) -> Iterator[Tensor]:
    if isinstance(out, Tensor):
        yield out
    elif isinstance(out, (list, tuple)):
        for part in out:
            yield from _tensors(part)


def _direction(rng: np.random.Generator, like: Any) -> Any:
    u = rng.standard_normal(like.shape)
    return u + 1j * rng.standard_normal(like.shape) if like.dtype.kind == "c" else u


def _inner(a: Any, b: Any) -> Any:
    """Re <a, b>, for Tensors and arrays."""
    return (a.conjugate() * b).real.sum()


def _pulled(fn: Fn, xs: Sequence[Any], v: Any, us: Sequence[Any]) -> Any:
    """The gradient of <v, fn(xs)> along the directions us."""
    first, *rest = (_inner(g, u) for g, u in zip(vjp(fn, *xs)[1](v), us, strict=True))
    for part in rest:
        first = first + part
    return first
