"""Cross-entropy with classes as one operation, which makes no array of log-probabilities.

A row's loss is log sum exp(x - top) - (x[class] - top), with `top` its largest number: neither sum cancels digits of large
numbers. Its gradient is softmax(x), less 1 at the class.
"""

from typing import Any, cast

import numpy as np

from eagerconv import devices
from eagerconv.autograd import rules, tape
from eagerconv.autograd.tape import defvjp
from eagerconv.kernels_cpu import softmax
from eagerconv.tensor import Tensor


def _losses(x: Any, classes: Any, seen: dict[str, Any]) -> Any:
    """The losses (N, ...) of scores (N, K, ...); `seen` is told what of the rows the gradient takes up again."""
    found = softmax.logarithms(x, 1)
    if found is None:
        top = np.max(x, axis=1)
        found = top, np.log(np.sum(np.exp(x - np.expand_dims(top, 1)), axis=1))
    top, logs = seen["rows"] = found
    return logs - (x[places(classes)] - top)


def places(classes: Any) -> tuple[Any, ...]:
    """The index of each row's class in (N, K, ...)."""
    place = devices.of(classes) or "cpu"
    n, *others = (devices.constant(part, place) for part in np.ogrid[tuple(slice(size) for size in classes.shape)])
    return n, classes, *others


def _pull(g: Any, x: Any, classes: Any, seen: dict[str, Any]) -> Any:
    if not tape.is_grad_enabled():
        top, logs = seen["rows"]
        found = softmax.weighted(x.data, top, logs, g.data, 1)
        if found is not None:
            found[places(classes)] -= g.data
            return type(g)._wrap(found)
    return g.reshape(_kept(g)) * _slope(x, classes)


def _slope(x: Any, classes: Any) -> Any:
    """Softmax, less 1 at the class."""
    chosen = np.zeros_like(x.data)
    chosen[places(classes)] = 1
    return rules.softmax(x, axis=1) - chosen


def _kept(g: Any) -> tuple[int, ...]:
    return (g.shape[0], 1, *g.shape[1:])


_class_losses = defvjp(
    "cross_entropy",
    _losses,
    lambda g, x, classes, seen: _pull(g, x, classes, seen),
    jvp=lambda t, x, classes: rules.sum(t * _slope(x, classes), axis=1),
)


def class_losses(x: Tensor, classes: Any) -> Tensor:
    """The negative log-probability of each row's class, (N, K, ...) -> (N, ...)."""
    return cast(Tensor, _class_losses(x, classes=classes, seen={}))
