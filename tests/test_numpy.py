"""NumPy's functions on tensors: values are NumPy's own, gradients are checked by differences, nothing is lost unseen."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import eagerconv as ec
from eagerconv.autograd import rules
from eagerconv.autograd.tape import no_grad
from eagerconv.func.gradcheck import check_grads
from eagerconv.tensor import Tensor, tensor

rng = np.random.default_rng(0)
A, B = rng.standard_normal((3, 4)), rng.standard_normal((4,))
POSITIVE = rng.uniform(0.5, 1.5, (3, 4))
SQUARE = rng.standard_normal((3, 3))

# Functions of a tensor with a gradient, in the many ways in which NumPy lets one write a call.
DIFFERENTIABLE: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "ufunc": (lambda x: np.sin(x), (A,)),
    "ufunc of array and tensor": (lambda x: np.multiply(B, x), (A,)),
    "operator of array and tensor": (lambda x: B * x - np.float64(2) / x, (POSITIVE,)),
    "ufunc in another dtype": (lambda x: np.add(x, 1, dtype="complex128"), (A,)),
    "ufunc where": (lambda x: np.log(x, where=A > 0, out=np.zeros_like(x)), (A,)),
    "ufunc where, two operands": (lambda x, y: np.multiply(x, y, where=A > 0, out=np.ones_like(x)), (A, B)),
    "reduce": (lambda x: np.add.reduce(x), (A,)),
    "reduce over an axis": (lambda x: np.maximum.reduce(x, axis=1, keepdims=True), (A,)),
    "outer": (lambda x, y: np.multiply.outer(x, y), (A, B)),
    "sum": (lambda x: np.sum(x), (A,)),
    "sum by position": (lambda x: np.sum(x, 0), (A,)),
    "sum by name": (lambda x: np.sum(a=x, axis=(0, 1), keepdims=True), (A,)),
    "mean": (lambda x: np.mean(x, -1), (A,)),
    "where": (lambda x, y: np.where(A > 0, x, y), (A, B)),
    "transpose": (lambda x: np.transpose(x, (1, 0)), (A,)),
    "reshape": (lambda x: np.reshape(x, (2, 6)), (A,)),
    "concatenate": (lambda x, y: np.concatenate([x, np.ones((1, 4)), y[None]], axis=0), (A, B)),
    "stack of mixed": (lambda x: np.stack([x[0], B, x[1]]), (A,)),
    "block": (lambda x: np.block([[x, x], [x, SQUARE[:, :1], x[:, :3]]]), (A,)),
    "hstack": (lambda x: np.hstack((x, A)), (A,)),
    "einsum": (lambda x, y: np.einsum("ij,j->i", x, y), (A, B)),
    "einsum of mixed": (lambda x: np.einsum("ij,kj", A, x), (A,)),
    "tensordot": (lambda x, y: np.tensordot(x, y, axes=([1], [0])), (A, B)),
    "norm": (lambda x: np.linalg.norm(x), (A,)),
    "norm over an axis": (lambda x: np.linalg.norm(x, axis=1), (A,)),
    "inv": (lambda x: np.linalg.inv(x), (SQUARE,)),
    "solve, by name": (lambda x: np.linalg.solve(a=SQUARE, b=x), (SQUARE[0],)),
    "det": (lambda x: np.linalg.det(x), (SQUARE,)),
    "svd": (lambda x: np.linalg.svd(x, compute_uv=False), (A,)),
    "rfft": (lambda x: np.abs(np.fft.rfft(x)), (A,)),
    "cumsum": (lambda x: np.cumsum(x, axis=1), (A,)),
    "accumulate": (lambda x: np.add.accumulate(x, axis=1), (A,)),
    "diff": (lambda x: np.diff(x), (A,)),
    "var": (lambda x: np.var(x, axis=0, ddof=1), (A,)),
    "std": (lambda x: np.std(x), (A,)),
    "clip": (lambda x: np.clip(x, -0.5, None), (A,)),
    "clip by name": (lambda x, y: np.clip(x, min=y, max=2.0), (A, B)),
    "sort": (lambda x: np.sort(x, axis=None), (A,)),
    "median": (lambda x: np.median(x), (A,)),
    "trace": (lambda x: np.trace(x), (SQUARE,)),
    "outer product": (lambda x, y: np.outer(x, y), (A, B)),
    "kron": (lambda x: np.kron(x, SQUARE), (SQUARE,)),
    "flip and roll": (lambda x: np.roll(np.flip(x, 0), 1, axis=1), (A,)),
    "pad": (lambda x: np.pad(x, 1, mode="reflect"), (A,)),
    "split": (lambda x: np.split(x, 2, axis=1)[1], (A,)),
    "tril": (lambda x: np.tril(x), (SQUARE,)),
    "interp": (lambda x: np.interp([0.5, 1.5], [0.0, 1.0, 2.0], x), (SQUARE[0],)),
    "convolve": (lambda x: np.convolve(x, SQUARE[0]), (B,)),
    "hypot": (lambda x, y: np.hypot(x, y), (A, B)),
    "full_like": (lambda x: np.full_like(x, 2.0) * x, (A,)),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_value_and_gradient(name: str) -> None:
    function, args = DIFFERENTIABLE[name]
    inputs = [tensor(a, requires_grad=True) for a in args]
    got, expected = function(*inputs), function(*args)
    assert isinstance(got, Tensor)
    assert got.requires_grad
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got.detach().data, expected)
    check_grads(function, args)


# ----- Functions without a rule -----


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: np.nanpercentile(x, 30), "nanpercentile"),
        (lambda x: np.linalg.cond(x), "linalg.cond"),
        (lambda x: np.nextafter(x, 3.0), "nextafter"),
        (lambda x: np.frexp(x)[0], "frexp"),
        (lambda x: np.add.reduceat(x, [0, 2]), "reduceat"),
    ],
)
def test_without_a_rule_computes_and_raises_by_name_when_differentiated(function: Any, name: str) -> None:
    x = tensor(SQUARE, requires_grad=True)
    y = function(x)
    assert y.requires_grad
    np.testing.assert_array_equal(y.detach().data, function(SQUARE))
    with pytest.raises(NotImplementedError, match=f"{name} has no derivative"):
        y.sum().backward()
    assert not function(tensor(SQUARE)).requires_grad
    with no_grad():
        assert not function(x).requires_grad
    z = function(x)
    (x * 2).sum().backward()  # the untouched part of the graph is as good as ever
    assert z.requires_grad
    assert x.grad is not None


def test_anomaly_without_a_rule_is_named() -> None:
    with ec.detect_anomaly(), pytest.raises(FloatingPointError, match=r"linalg\.cond made 1 Inf .*test_numpy\.py"):
        np.linalg.cond(tensor(np.diag([1.0, 0.0])))


def test_a_function_that_tells_no_parameters_is_called_by_position() -> None:
    with pytest.raises(ValueError, match="no signature"):
        inspect.signature(max)  # as those of NumPy's functions in C that have none before NumPy 2.4
    where = rules._called_as(max, rules.where)
    assert where([True, False], tensor([1.0, 2.0]), 3.0).tolist() == [1, 3]
    with pytest.raises(TypeError):
        where(tensor([1.0, 2.0]))


def test_calls_that_a_row_does_not_know() -> None:
    """The value is there; the gradient is there where the call means the same, else refused by name."""
    x, w = tensor([1.0, 5.0, 2.0]), tensor([1.0, 5.0, 2.0], requires_grad=True)
    assert np.where(w > 1.5)[0].tolist() == [1, 2]
    assert np.tile(w, tensor([2, 1])).shape == (2, 3)
    assert np.sum(w, initial=2.0).item() == 10
    np.sum(w, where=np.array([True, False, True])).backward()
    assert w.grad.tolist() == [1, 0, 1]
    with pytest.raises(TypeError):
        np.sum(x, axis="first")
    with pytest.raises(NotImplementedError, match="pad has no derivative"):
        np.pad(x, 1, constant_values=w[0]).sum().backward()  # not lost unseen


def test_results_that_are_not_arrays_come_out_as_they_are() -> None:
    x = tensor(A, requires_grad=True)
    assert np.shape(x) == (3, 4)
    assert (np.ndim(x), np.size(x)) == (2, 12)
    assert np.allclose(x, A) is True
    assert np.array_equal(x, A) is True
    assert np.result_type(x, np.float32) == np.float64
    assert np.iscomplexobj(x) is False
    assert np.can_cast(x.dtype, "complex64", "same_kind") is True
    assert "1" in np.array2string(tensor([1.0, 2.0]))


def test_several_results_keep_their_kind() -> None:
    parts = np.unique_counts(tensor([1, 1, 2]))
    assert parts.values.tolist() == [1, 2]
    assert parts.counts.tolist() == [2, 1]
    assert isinstance(parts.counts, Tensor)
    assert isinstance(np.nonzero(tensor([0, 1]))[0], Tensor)
    assert [t.tolist() for t in np.broadcast_arrays(tensor([1]), tensor([2, 3]))] == [[1, 1], [2, 3]]
    whole, rest = np.divmod(tensor([7]), 2)
    assert (whole.item(), rest.item()) == (3, 1)


@pytest.mark.parametrize("view", [np.flip, np.trim_zeros])  # of a row, and without one
def test_result_that_is_a_view_shares_changes(view: Any) -> None:
    x = tensor([1.0, 2.0], requires_grad=True)
    h = x * 1
    y = (h * h).sum()
    with no_grad():
        view(h)[0] = 5  # memory that the product saved
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


# ----- out=, where=, functions that write -----


def test_out() -> None:
    x, a = tensor([1.0, 2.0]), np.zeros(2)
    target = tensor([0.0, 0.0])
    data = target.data
    assert np.add(x, 1, out=target) is target
    assert target.data is data
    assert target.tolist() == [2, 3]
    assert np.add(x, 1, out=a) is a
    assert np.sum(tensor(SQUARE), axis=0, out=tensor(np.zeros(3))).tolist() == SQUARE.sum(0).tolist()
    assert np.exp(x, out=target, where=np.array([True, False])).tolist() == [np.e, 3]
    w = tensor([3.0, 4.0], requires_grad=True)
    assert np.multiply(w, w, out=target) is target
    assert target.requires_grad
    (np.log(target, out=target, where=[True, False]) * [1.0, 10.0]).sum().backward()
    np.testing.assert_allclose(w.grad.data, [2 / 3, 80])
    with pytest.raises(RuntimeError, match=r"given to out= of an array, which would lose its history"):
        np.multiply(w, w, out=a)
    with pytest.raises(RuntimeError, match=r"given to out= of an array"):
        a += w
    with pytest.raises(RuntimeError, match="leaf that requires a gradient"):
        np.multiply(x, x, out=w)
    np.multiply(w, w, out=x[:])  # a view, through which it is written
    assert (x.tolist(), x.requires_grad) == ([9, 16], True)
    with pytest.raises(ValueError, match="does not fit"):
        np.multiply(w, SQUARE[:, :2], out=tensor([0.0, 0.0]))
    with no_grad():
        assert np.multiply(w, w, out=a).tolist() == [9, 16]


def test_out_is_noticed_by_the_tape() -> None:
    w, h = tensor([3.0], requires_grad=True), tensor([2.0])
    y = w * h
    np.negative(h, out=h)
    with pytest.raises(RuntimeError, match=r"2nd operand .* was changed in place"):
        y.backward()


def test_functions_that_write() -> None:
    x = tensor([1.0, 2.0, 3.0])
    w = tensor([1.0, 1.0, 1.0], requires_grad=True)
    y = (w * x).sum()
    np.put(x, [0], 9.0)
    np.copyto(x, [7.0, 0.0, 0.0], where=[False, True, False])
    assert x.tolist() == [9, 0, 3]
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()
    with pytest.raises(RuntimeError, match="put writes to its argument, which the tape does not see"):
        np.put(w, [0], 9.0)
    with pytest.raises(RuntimeError, match="copyto writes to its argument"):
        np.copyto(np.zeros(3), w)
    z = (w * x).sum()
    np.add.at(x, [0, 0], 1.0)
    assert x.tolist() == [11, 0, 3]
    with pytest.raises(RuntimeError, match="changed in place"):
        z.backward()
    with pytest.raises(RuntimeError, match=r"numpy\.add\.at writes to its argument, which the tape does not see"):
        np.add.at(w, [0], 1.0)


def test_masked_places_do_not_spoil_the_gradient() -> None:
    x = tensor([0.0, 4.0], requires_grad=True)
    np.log(x, where=x.detach().data > 0).sum().backward()
    assert x.grad.tolist() == [0, 0.25]


# ----- Meeting others -----


class Stranger:
    """An array of another library, which wants ufuncs and functions for itself."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> str:
        return f"stranger's {ufunc.__name__}"

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> str:
        return f"stranger's {func.__name__}"


def test_other_libraries_get_their_turn() -> None:
    assert np.add(tensor([1.0]), Stranger()) == "stranger's add"
    assert np.concatenate([tensor([1.0]), Stranger()]) == "stranger's concatenate"


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
def test_array_of_a_stranger_does_not_hide_in_a_tensor() -> None:
    torch = pytest.importorskip("torch")
    for function in (lambda x, y: x * y, lambda x, y: y * x, np.add):
        with pytest.raises(TypeError, match=r"result a torch\.Tensor; give it to from_dlpack or asarray first"):
            function(tensor([1.0]), torch.ones(1, dtype=torch.float64))


def test_python_and_numpy_take_a_tensor_for_an_array() -> None:
    v, one = tensor([3.0, 1.0, 2.0]), tensor(2.5, requires_grad=True)
    assert f"{one:.2f} {v[0]:g} {v[1:]}" == "2.50 3 tensor([1., 2.], dtype=float64)"
    assert (v.item(2), v.strides, v.nbytes, v.tobytes()) == (2.0, (8,), 24, v.data.tobytes())
    assert 2.0 in v
    assert [float(x) for x in sorted(v)] == [1, 2, 3]
    assert np.arange(9.0)[tensor([1, 2])].tolist() == [1, 2]
    assert np.ones(6).reshape(tensor(3), 2).shape == (3, 2)
    assert np.random.default_rng(0).permutation(v).shape == (3,)
    assert np.array([v[0], v[1]]).tolist() == [3, 1]
    np.testing.assert_allclose(v, v.data)
    v.sort()
    assert v.tolist() == [1, 2, 3]
    v.fill(7)
    assert v.tolist() == [7, 7, 7]
    whole, part = divmod(v, 2)
    assert (whole.tolist(), part.tolist()) == ([3, 3, 3], [1, 1, 1])
    bits = tensor([6, 5])
    assert ((bits & 3).tolist(), (3 | bits).tolist(), (bits ^ 1).tolist(), (~bits).tolist()) == (
        [2, 1],
        [7, 7],
        [7, 4],
        [-7, -6],
    )
    assert ((bits << 1).tolist(), (bits >> tensor(1)).tolist(), (13 % bits).tolist()) == ([12, 10], [3, 2], [1, 3])
    bits <<= 2
    bits |= 1
    bits //= 2
    assert bits.tolist() == [12, 10]


def test_tracked_tensor_is_not_turned_into_an_array_unseen() -> None:
    w = tensor([1.0], requires_grad=True)
    with pytest.raises(RuntimeError, match="lose its history"):
        np.asarray(w)
    with pytest.raises(RuntimeError, match="lose its history"):
        np.zeros(1)[...] = w
    with pytest.raises(RuntimeError, match="lose its history"):
        np.from_dlpack(w)


def test_code_written_for_numpy_is_differentiable() -> None:
    def softplus_energy(x: Any) -> Any:
        shifted = x - np.max(x, axis=-1, keepdims=True)
        return np.sum(np.log(1 + np.exp(shifted)) * np.where(x > 0, x, 0.5 * x), axis=-1)

    np.testing.assert_array_equal(softplus_energy(ec.asarray(A)).data, softplus_energy(A))
    check_grads(softplus_energy, (A,), order=2)


# ----- Arrays of another library -----

ON_A_DEVICE: dict[str, Callable[..., Any]] = {
    "ufunc": lambda x: np.exp(np.sin(x)) + np.maximum(x, 0.1),
    "reductions": lambda x: np.sum(x, axis=0) * np.max(x, axis=0) - np.mean(x) + np.var(x, axis=0),
    "shapes": lambda x: np.transpose(np.reshape(x, (2, 6))) @ np.ravel(np.moveaxis(x, 0, 1))[:2],
    "joining": lambda x: np.concatenate([x, np.stack([x[0], x[1]])], axis=0),
    "where": lambda x: np.where(x > 0, x, 2 * x),
    "products": lambda x: np.einsum("ij,kj->ik", x, x) + np.tensordot(x, x, axes=([1], [1])),
    "matrices": lambda x: np.linalg.solve(x[:, :3] @ x[:, :3].T + 3 * x[:1, :1] ** 2, x),
    "norm": lambda x: np.linalg.norm(x),
    "order": lambda x: np.flip(np.sort(x, axis=1), axis=1),
    "running": lambda x: np.cumsum(x, axis=1) + np.roll(x, 1),
    "namespace": lambda x: ec.sum(ec.sqrt(ec.abs(x)), axis=1) + ec.linalg.vector_norm(x, axis=1),
}


@pytest.mark.parametrize("name", ON_A_DEVICE)
def test_arrays_of_a_device_stay_there(place: Any, name: str) -> None:
    """Forward and backward, and never by way of NumPy: such an array refuses to become one."""
    here, there = (tensor(A, requires_grad=True, device=device) for device in ("cpu", "cuda"))
    results = [ON_A_DEVICE[name](x) for x in (here, there)]
    assert results[1].device == "cuda"
    for x, result in zip((here, there), results, strict=True):
        (result * result).sum().backward()
        assert x.grad.device == x.device
    np.testing.assert_allclose(results[1].detach().to("cpu").data, results[0].detach().data, rtol=1e-12)
    np.testing.assert_allclose(there.grad.to("cpu").data, here.grad.data, rtol=1e-9)


# ----- Operands of other libraries, and methods as arrays have them -----


class Apart:
    """Says that no ufunc applies, as `pytest.approx` does: its own operators do."""

    __array_ufunc__ = None

    def answer(self, other: Any) -> str:
        return "theirs"

    __radd__ = __rmul__ = __rmatmul__ = __rpow__ = __eq__ = __ne__ = __gt__ = __le__ = answer  # type: ignore[assignment]
    __hash__ = object.__hash__


class Symbol:
    """What NumPy takes for an element, and arrays of it for results."""

    def __radd__(self, other: Any) -> str:
        return "a sum"


class Labelled:
    """A column of a table, by the protocol that pandas follows: a way of its own with ufuncs, and operators."""

    __array_priority__ = 1000

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.values

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any) -> Any:
        return Labelled(ufunc(*(np.asarray(x) for x in inputs)))

    def __radd__(self, other: Any) -> Any:
        return Labelled(np.asarray(other) + self.values)


def test_operators_leave_it_to_operands_with_a_way_of_their_own() -> None:
    t, apart = tensor([1.0, 2.0]), Apart()
    for out in (t + apart, t * apart, t @ apart, t**apart, t == apart, t != apart, t < apart, t >= apart):
        assert out == "theirs"
    u = t
    u += apart
    assert u == "theirs"
    with pytest.raises(TypeError, match="unsupported operand"):
        t - apart
    assert isinstance(t + Labelled([1.0, 1.0]), Labelled)
    assert (t + Labelled([1.0, 1.0])).values.tolist() == [2, 3]
    assert tensor(1.0) == pytest.approx(1.0 + 1e-9)
    assert t == pytest.approx(np.array([1.0, 2.0]))


def test_products_with_sparse_matrices() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    t, s = tensor([1.0, 2.0]), np.array([[1.0, 0.0, 4.0], [0.0, 3.0, 0.0]])
    for kind in (sparse.csr_array, sparse.csr_matrix, sparse.coo_array):
        np.testing.assert_array_equal(t @ kind(s), t.data @ s)
        np.testing.assert_array_equal(kind(s) @ tensor([1.0, 2.0, 3.0]), s @ [1.0, 2.0, 3.0])


def test_comparison_with_what_is_no_number() -> None:
    t = tensor([[3.0, 1.0], [2.0, 4.0]])
    assert ((t == "a").tolist(), (t != "a").tolist()) == ([[False] * 2] * 2, [[True] * 2] * 2)
    assert (t == None).tolist() == [[False] * 2] * 2  # noqa: E711  # as NumPy does
    assert (3 in t, 5 in t, "a" in t) == (True, False, False)
    with pytest.raises(TypeError):
        t < "a"  # noqa: B015


def test_fractions_are_numbers_and_objects_are_not() -> None:
    t = tensor([1.0, 3.0], "float32", requires_grad=True)
    out = t * Fraction(1, 2)
    assert (out.dtype, out.tolist()) == (np.float32, [0.5, 1.5])
    assert (Fraction(3) / t).tolist() == [3, 1]
    assert (np.multiply(t, Fraction(1, 2)).dtype, np.maximum(Fraction(2), t).tolist()) == (np.float32, [2, 3])
    for call in (
        lambda: t * Decimal("0.5"),
        lambda: np.multiply(t, object()),
        lambda: np.add(ec.asarray([1]), Symbol()),
    ):
        with pytest.raises(TypeError):
            call()


METHODS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    *((name, (), {"where": A > 0}) for name in ("sum", "prod", "mean", "var", "std", "all", "any")),
    *((name, (), {"initial": 0.5}) for name in ("sum", "prod", "max", "min")),
    *((name, (1,), {"initial": 0.5, "where": A > 0, "keepdims": True}) for name in ("sum", "prod", "max", "min")),
    *((name, (), {"mean": np.array([[0.25]]), "axis": 0}) for name in ("var", "std")),
    *((name, ("F",), {}) for name in ("ravel", "flatten")),
    ("reshape", (6, 2), {"order": "F"}),
    ("reshape", ((6, 2),), {"copy": True}),
    ("compress", ([True, False, True],), {"axis": 0}),
    ("argpartition", (1,), {}),
]


@pytest.mark.parametrize(("name", "args", "kwargs"), METHODS)
def test_methods_take_what_those_of_arrays_take(name: str, args: Any, kwargs: Any) -> None:
    out, expected = getattr(tensor(A, requires_grad=True), name)(*args, **kwargs), getattr(A, name)(*args, **kwargs)
    assert out.dtype == expected.dtype
    np.testing.assert_allclose(out.data, expected, rtol=1e-13)
    if out.dtype.kind == "f":
        check_grads(lambda x: getattr(x, name)(*args, **kwargs), [A], order=1)


def test_flat() -> None:
    t = ec.asarray(np.arange(6.0).reshape(2, 3).T)
    assert [float(x) for x in t.flat] == [0, 3, 1, 4, 2, 5]
    assert (len(t.flat), t.flat[1].item(), t.flat[-2:].tolist()) == (6, 3, [2, 5])
    t.flat[[0, 3]] = [7, 8]
    assert t.tolist() == [[7, 3], [1, 8], [2, 5]]
    t.flat = 1
    assert t.tolist() == [[1, 1]] * 3
    w = tensor([1.0, 2.0], requires_grad=True)
    x = ec.zeros((2, 2))
    x.flat[1:3] = w
    x.sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [1, 1]
