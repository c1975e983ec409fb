"""Functions of scipy.special that a program gives tensors to: the partial derivatives, by the names of the functions.

Nothing here imports SciPy. Only a program that did can have such a function, and its row is made when it first arrives.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from eagerconv.autograd.rules.ufuncs import (
    absolute,
    clip,
    cos,
    equal,
    exp,
    greater,
    log,
    log1p,
    power,
    sign,
    sin,
    where,
)
from eagerconv.autograd.tape import Op, elementwise

_ROOT_PI, _ROOT_2PI = math.sqrt(math.pi), math.sqrt(2 * math.pi)


def row(function: Callable[..., Any]) -> Op | None:
    """The row of a function of scipy.special, or None where it has none."""
    return _made(function) if isinstance(function, np.ufunc) and function.__name__ in PARTIALS else None


@functools.cache
def _made(ufunc: np.ufunc) -> Op | None:
    name = ufunc.__name__
    special = sys.modules.get("scipy.special")
    return elementwise(name, ufunc, *PARTIALS[name]) if getattr(special, name, None) is ufunc else None


def _special(name: str, *args: Any) -> Any:
    """Another function of scipy.special, with its gradient if it has one."""
    ufunc = getattr(sys.modules["scipy.special"], name)
    return (row(ufunc) or ufunc)(*args)


# The derivatives of the digamma function; SciPy's is no ufunc.
polygamma: Op = elementwise(
    "polygamma", lambda x, n: sys.modules["scipy.special"].polygamma(n, x), lambda x, n: polygamma(x, n=n + 1)
)


def _difference(f: str, sign: int, factor: float) -> Callable[..., Any]:
    """Of Bessel functions, factor (f[v - 1] + sign f[v + 1]), which is regular at 0 where the function is."""
    return lambda x, y: factor * (_special(f, x - 1, y) + sign * _special(f, x + 1, y))


# As rules of `elementwise`: x, y, z are the operands, `ans` is the result. None: not differentiable in that operand.
PARTIALS: dict[str, tuple[Any, ...]] = {
    # error functions and the normal distribution
    "erf": (lambda x: (2 / _ROOT_PI) * exp(-x * x),),
    "erfc": (lambda x: (-2 / _ROOT_PI) * exp(-x * x),),
    "erfcx": (lambda x, ans: 2 * x * ans - 2 / _ROOT_PI,),
    "erfi": (lambda x: (2 / _ROOT_PI) * exp(x * x),),
    "dawsn": (lambda x, ans: 1 - 2 * x * ans,),
    "wofz": (lambda x, ans: 2j / _ROOT_PI - 2 * x * ans,),
    "erfinv": (lambda ans: (_ROOT_PI / 2) * exp(ans * ans),),
    "erfcinv": (lambda ans: (-_ROOT_PI / 2) * exp(ans * ans),),
    "ndtr": (lambda x: exp(-0.5 * x * x) / _ROOT_2PI,),
    "log_ndtr": (lambda x, ans: exp(-0.5 * x * x - ans) / _ROOT_2PI,),
    "ndtri": (lambda ans: _ROOT_2PI * exp(0.5 * ans * ans),),
    # gamma functions
    "gamma": (lambda x, ans: ans * _special("psi", x),),
    "rgamma": (lambda x, ans: -ans * _special("psi", x),),
    "gammaln": (lambda x: _special("psi", x),),
    "loggamma": (lambda x: _special("psi", x),),
    "psi": (lambda x: polygamma(x, n=1),),
    "beta": (
        lambda x, y, ans: ans * (_special("psi", x) - _special("psi", x + y)),
        lambda x, y, ans: ans * (_special("psi", y) - _special("psi", x + y)),
    ),
    "betaln": (
        lambda x, y: _special("psi", x) - _special("psi", x + y),
        lambda x, y: _special("psi", y) - _special("psi", x + y),
    ),
    "gammainc": (None, lambda x, y: power(y, x - 1) * exp(-y - _special("gammaln", x))),
    "gammaincc": (None, lambda x, y: -power(y, x - 1) * exp(-y - _special("gammaln", x))),
    "betainc": (None, None, lambda x, y, z: power(z, x - 1) * power(1 - z, y - 1) / _special("beta", x, y)),
    # logistic functions, entropies
    "expit": (lambda ans: ans * (1 - ans),),
    "logit": (lambda x: 1 / (x * (1 - x)),),
    "log_expit": (lambda x: _special("expit", -x),),
    "entr": (lambda x: -log(x) - 1,),
    "rel_entr": (lambda x, y: log(x / y) + 1, lambda x, y: -x / y),
    "kl_div": (lambda x, y: log(x / y), lambda x, y: 1 - x / y),
    "xlogy": (lambda x, y: log(where(equal(x, 0) & equal(y, 0), 1, y)), lambda x, y: x / y),
    "xlog1py": (lambda x, y: log1p(y), lambda x, y: x / (y + 1)),
    "huber": (
        lambda x, y: where(greater(absolute(y), x), absolute(y) - x, 0),
        lambda x, y: clip(y, -x, x),
    ),
    "wrightomega": (lambda ans: ans / (1 + ans),),
    "spence": (lambda x: where(equal(x, 1), -1, log(x) / where(equal(x, 1), 1, 1 - x)),),
    # exponentials and circular functions that NumPy has as well, or in other units
    "exp1": (lambda x: -exp(-x) / x,),
    "expi": (lambda x: exp(x) / x,),
    "expn": (None, lambda x, y: -_special("expn", x - 1, y)),
    "exp2": (lambda ans: math.log(2) * ans,),
    "exp10": (lambda ans: math.log(10) * ans,),
    "expm1": (lambda ans: ans + 1,),
    "log1p": (lambda x: 1 / (x + 1),),
    "cbrt": (lambda ans: 1 / (3 * ans * ans),),
    "cosm1": (lambda x: -sin(x),),
    "sindg": (lambda x: (math.pi / 180) * cos((math.pi / 180) * x),),
    "cosdg": (lambda x: (-math.pi / 180) * sin((math.pi / 180) * x),),
    "tandg": (lambda ans: (math.pi / 180) * (1 + ans * ans),),
    # Bessel functions
    "j0": (lambda x: -_special("j1", x),),
    "j1": (lambda x: 0.5 * (_special("j0", x) - _special("jv", 2, x)),),
    "y0": (lambda x: -_special("y1", x),),
    "y1": (lambda x: 0.5 * (_special("y0", x) - _special("yv", 2, x)),),
    "i0": (lambda x: _special("i1", x),),
    "i1": (lambda x: 0.5 * (_special("i0", x) + _special("iv", 2, x)),),
    "k0": (lambda x: -_special("k1", x),),
    "k1": (lambda x: -0.5 * (_special("k0", x) + _special("kv", 2, x)),),
    "i0e": (lambda x, ans: _special("i1e", x) - sign(x) * ans,),
    "i1e": (lambda x, ans: 0.5 * (_special("i0e", x) + _special("ive", 2, x)) - sign(x) * ans,),
    "k0e": (lambda x, ans: ans - _special("k1e", x),),
    "k1e": (lambda x, ans: ans - 0.5 * (_special("k0e", x) + _special("kve", 2, x)),),
    "jv": (None, _difference("jv", -1, 0.5)),
    "yv": (None, _difference("yv", -1, 0.5)),
    "iv": (None, _difference("iv", 1, 0.5)),
    "kv": (None, _difference("kv", 1, -0.5)),
    "ive": (None, lambda x, y, ans: _difference("ive", 1, 0.5)(x, y) - sign(y) * ans),
    "kve": (None, lambda x, y, ans: _difference("kve", 1, -0.5)(x, y) + ans),
}
