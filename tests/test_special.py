"""Functions of scipy.special on tensors: SciPy's values, and gradients in both modes to second order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
from processes import script

import eagerconv as ec
from eagerconv.autograd.rules import special
from eagerconv.func.gradcheck import check_grads
from eagerconv.tensor import Tensor, tensor

S = np.array([-1.3, 0.4, 2.1])
P = np.array([0.3, 1.6, 2.7])
U = np.array([0.2, 0.55, 0.9])
SIGNED = {"erf", "erfc", "erfcx", "erfi", "dawsn", "ndtr", "log_ndtr", "expit", "log_expit", "j0", "j1", "i0", "i1"}
SIGNED |= {"i0e", "i1e", "exp2", "exp10", "expm1", "cosm1", "sindg", "cosdg", "tandg", "wrightomega", "cbrt"}
UNIT = {"erfinv", "ndtri", "logit", "erfcinv"}
# Of several operands those that are not varied are numbers.
SEVERAL: dict[str, tuple[Any, ...]] = {
    "beta": (P, U), "betaln": (P, U), "gammainc": (1.7, P), "gammaincc": (1.7, P), "betainc": (1.5, 2.5, U),
    "rel_entr": (P, U), "kl_div": (P, U), "xlogy": (S, P), "xlog1py": (S, P), "huber": (P, S), "expn": (2, P),
    "jv": (1.5, P), "yv": (1.5, P), "iv": (1.5, P), "kv": (1.5, P), "ive": (2, S), "kve": (1.5, P),
    "wofz": (S + 0.5j,),
}  # fmt: skip


def sample(name: str) -> tuple[Any, ...]:
    return SEVERAL.get(name) or (S if name in SIGNED else U if name in UNIT else P,)


@pytest.mark.parametrize("name", special.PARTIALS)
def test_values_and_gradients(name: str) -> None:
    function, args = getattr(scipy.special, name), sample(name)
    moving = [i for i, a in enumerate(args) if isinstance(a, np.ndarray)]

    def on(*xs: Any) -> Any:
        whole = list(args)
        for i, x in zip(moving, xs, strict=True):
            whole[i] = x
        return function(*whole)

    xs = [args[i] for i in moving]
    out = on(*(tensor(x, requires_grad=True) for x in xs))
    assert isinstance(out, Tensor)
    np.testing.assert_array_equal(out.data, function(*args))
    check_grads(on, xs, order=2)
    if np.isrealobj(xs[0]):
        singles = [x.astype(np.float32) for x in xs]
        assert on(*(tensor(x, requires_grad=True) for x in singles)).dtype == on(*singles).dtype


def test_documentation_names_every_function() -> None:
    page = (Path(__file__).parents[1] / "docs" / "gradients.md").read_text(encoding="utf-8")
    assert [name for name in special.PARTIALS if name != "psi" and f"`{name}`" not in page] == []


def test_another_function_raises_by_name() -> None:
    x = tensor(P, requires_grad=True)
    y = scipy.special.struve(1, x)
    np.testing.assert_array_equal(y.data, scipy.special.struve(1, P))
    with pytest.raises(NotImplementedError, match="struve has no derivative"):
        y.sum().backward()
    with pytest.raises(NotImplementedError, match="gammainc has no derivative with respect to its 1st operand"):
        scipy.special.gammainc(x, 2.0).sum().backward()


def test_third_derivatives_of_the_gamma_function() -> None:
    x = tensor(P, requires_grad=True)
    y = scipy.special.gammaln(x)
    for order in range(3):
        (y,) = ec.grad(y.sum(), x, create_graph=True)
        np.testing.assert_allclose(y.data, scipy.special.polygamma(order, P), rtol=1e-13)


def test_places_where_a_formula_would_say_nothing() -> None:
    def slope(name: str, *at: float) -> float:
        x = tensor(at[0], requires_grad=True)
        return ec.grad(getattr(scipy.special, name)(x, *at[1:]), x)[0].item()

    assert (slope("j1", 0.0), slope("i1", 0.0), slope("spence", 1.0), slope("xlogy", 0.0, 0.0)) == (0.5, 0.5, -1, 0)


def test_a_ufunc_of_the_same_name_is_another() -> None:
    erf = np.frompyfunc(lambda x: x, 1, 1)
    assert special.row(erf) is None
    assert special.row(np.exp2) is None
    assert special.row(scipy.special.exp2) is not None


def test_nothing_is_imported_for_a_program_without_scipy() -> None:
    code = "import sys, numpy as np, eagerconv as ec; np.spacing(ec.tensor(1.0)); print('scipy' in sys.modules)"
    assert script(code) == ["False"]
