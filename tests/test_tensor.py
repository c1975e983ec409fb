"""Tensor: creation, attributes, NumPy semantics of operators and dtypes, in-place changes; functions; optimisers."""

from __future__ import annotations

import copy
import operator
import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import eagerconv as ec
from eagerconv.autograd.tape import no_grad
from eagerconv.func.transforms import grad
from eagerconv.functional import array as fa
from eagerconv.optim import SGD, Adam
from eagerconv.tensor import Tensor, asarray, tensor


def leaf(*values: float) -> Tensor:
    return tensor(values, requires_grad=True)


# ----- Creation and attributes -----


def test_tensor_copies_and_asarray_shares() -> None:
    a = np.zeros(3)
    t, s = tensor(a), asarray(a)
    a[0] = 1
    assert t.tolist() == [0, 0, 0]
    assert s.tolist() == [1, 0, 0]
    assert s.data is a
    assert asarray(s) is s
    assert not np.shares_memory(tensor(s).data, a)
    assert asarray(s, "float32").dtype == np.float32


@pytest.mark.parametrize(
    "data", [3, 2.5, 1j, True, [1, 2], [[1.0], [2.0]], np.float32(3), np.arange(3)[::-1], range(3)]
)
def test_dtype_is_numpys(data: Any) -> None:
    for make in (tensor, asarray):
        t = make(data)
        assert (t.shape, t.dtype, t.tolist()) == (np.shape(data), np.asarray(data).dtype, np.asarray(data).tolist())


def test_bad_data() -> None:
    for make in (tensor, asarray):
        for data in ("text", [object()], None, np.array(["a"]), np.datetime64("2020")):
            with pytest.raises(TypeError, match="a tensor holds booleans, integers, floating or complex numbers, not"):
                make(data)
        with pytest.raises(ValueError, match=r"device must be one of .cpu., .cuda., not .gpu."):
            make([1.0], device="gpu")
    assert tensor([1.0], device="cpu").device == "cpu"
    with pytest.raises(TypeError, match="this one is int64; convert it first"):
        tensor([1], requires_grad=True)


def test_requires_grad_may_be_set_on_leaves() -> None:
    x = tensor([1.0])
    x.requires_grad = True
    y = x * 2
    assert (x.is_leaf, y.is_leaf, y.detach().is_leaf) == (True, False, True)
    with pytest.raises(RuntimeError, match="result of multiply cannot be switched off; use detach"):
        y.requires_grad = False
    y.requires_grad = True
    x.requires_grad = False
    assert not (x * 2).requires_grad


def test_attributes_and_conversions() -> None:
    x = tensor([[1, 2, 3]], "float32")
    assert (x.shape, x.ndim, x.size, x.dtype, len(x), x.device) == ((1, 3), 2, 3, np.float32, 1, "cpu")
    assert [row.tolist() for row in x] == [[1, 2, 3]]
    one = tensor([2.0])
    assert (float(one), int(one), complex(one), bool(one), one.item()) == (2.0, 2, 2 + 0j, True, 2.0)
    assert [10, 20, 30][tensor(2)] == 30
    with pytest.raises(TypeError, match="without axes"):
        len(tensor(1.0))
    with pytest.raises(ValueError, match="ambiguous"):
        bool(x)
    assert len({one, one, tensor([2.0])}) == 2


def test_repr_is_bounded_and_tells_dtype_and_tracking() -> None:
    assert (
        repr(tensor([1.0, 2.0], "float32", requires_grad=True)) == "tensor([1., 2.], dtype=float32, requires_grad=True)"
    )
    assert repr(tensor(3)) == "tensor(3, dtype=int64)"
    assert len(repr(tensor(np.zeros((1000, 1000))))) < 500


def test_out_to_numpy() -> None:
    x = tensor([1.0, 2.0])
    assert x.numpy() is x.data
    assert np.asarray(x) is x.data
    assert np.asarray(x, dtype="float32").dtype == np.float32
    y = leaf(1.0, 2.0)
    with pytest.raises(ValueError, match="read-only"):
        y.numpy()[0] = 1
    with pytest.raises(RuntimeError, match=r"lose its history.*x\.detach\(\)"):
        np.asarray(y)
    with no_grad():  # here it is known to be unwanted
        assert np.asarray(y).tolist() == [1, 2]
        assert not np.asarray(y).flags.writeable
        assert np.array(y).flags.writeable


def test_pickle_and_copy() -> None:
    x = leaf(1.0, 2.0)
    for y in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x), copy.copy(x)):
        assert (y.tolist(), y.requires_grad, y.is_leaf) == ([1, 2], True, True)
        assert not np.shares_memory(y.data, x.data)
    for order in ("C", "F"):
        a = np.asarray(np.arange(6.0).reshape(2, 3), order=order)  # type: ignore[call-overload]
        x = asarray(a)
        x.requires_grad = True
        x.grad = asarray(a * 2)
        for y in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x), copy.copy(x)):
            assert (y.strides, y.requires_grad, y.is_leaf) == (x.strides, True, True)
            assert (y.tolist(), y.grad.tolist(), y.grad.strides) == (x.tolist(), x.grad.tolist(), x.grad.strides)
            for mine, other in ((y, x), (y.grad, x.grad)):
                assert not np.shares_memory(mine.data, other.data)
                assert mine.data.flags.writeable
    assert copy.deepcopy(asarray(np.arange(6.0).reshape(2, 3).T)).strides == (8, 24)
    tied = copy.deepcopy([x, {"again": x}])
    assert tied[0] is tied[1]["again"]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_history_is_not_lost_by_copying(copied: Any) -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    with pytest.raises(RuntimeError, match=r"would lose its history.*detach\(\).*no_grad"):
        copied(y)
    copied(y.detach())
    with no_grad():
        copied(y)
    assert grad(y.clone().sum(), x)[0].tolist() == [2, 2]


# ----- Operators -----

BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
COMPARE = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


@pytest.mark.parametrize("op", BINARY + COMPARE)
@pytest.mark.parametrize("other", [2, 2.0, True, np.float64(2), np.array([3.0, 2.0]), np.array(2, "int16"), [1, 2], 1j])
def test_operators_compute_and_promote_as_numpy(op: Any, other: Any) -> None:
    for dtype in ("int32", "float32", "float64"):
        if isinstance(other, complex) and op in COMPARE[2:]:
            continue
        a = np.array([1, 2], dtype)
        numpys = np.power if op is operator.pow else op  # before NumPy 2.3 an array's own ** forgets a square's dtype
        for got, expected in [
            (op(tensor(a), other), numpys(a, other)),
            (op(other, tensor(a)), numpys(other, a)),
            (op(tensor(a), tensor(other)), numpys(a, np.asarray(other))),
        ]:
            assert isinstance(got, Tensor)
            assert got.dtype == expected.dtype
            np.testing.assert_array_equal(got.data, expected)


def test_other_operators() -> None:
    x, a = tensor([[1.0, -2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [2.0, 1.0]])
    np.testing.assert_array_equal((a @ x).data, a @ x.data)
    np.testing.assert_array_equal((x @ a).data, x.data @ a)
    assert (abs(x).tolist(), (-x).tolist(), (+x).tolist()) == ([[1, 2], [3, 4]], [[-1, 2], [-3, -4]], x.tolist())
    assert (((x > 0) & ~(x > 3)) | (x == 4)).tolist() == [[True, False], [True, True]]
    with pytest.raises(TypeError):
        x + None


def test_methods_match_numpy() -> None:
    a = np.random.default_rng(0).standard_normal((2, 1, 3))
    x = tensor(a)
    for name, args in [
        ("sum", (1,)), ("mean", (0, 2)), ("max", (-1,)), ("min", ()), ("argmax", (2,)), ("argmin", ()), ("squeeze", ()),
        ("transpose", (2, 0, 1)), ("transpose", ()), ("reshape", (3, 2)), ("ravel", ()), ("conj", ()), ("tolist", ()),
    ]:  # fmt: skip
        args = (args,) if name == "mean" else args
        got, expected = getattr(x, name)(*args), getattr(a, name)(*args)
        np.testing.assert_array_equal(getattr(got, "data", got), expected)
    np.testing.assert_allclose(x.std(axis=0, ddof=1).data, a.std(axis=0, ddof=1))
    assert not (x > 9).any()
    assert (x < 9).all()
    assert x.reshape((3, 2)).shape == x.reshape(-1, 2).shape == (3, 2)
    assert x.transpose((2, 0, 1)).shape == x.transpose([2, 0, 1]).shape == (3, 2, 1)
    assert x.T.shape == (3, 1, 2)
    assert x.expand_dims(0).shape == (1, 2, 1, 3)
    assert x.broadcast_to([4, 2, 5, 3]).shape == (4, 2, 5, 3)
    assert (x.real is x, x.imag.tolist() == (0 * a).tolist()) == (True, True)


def test_indexing() -> None:
    a = np.arange(12.0).reshape(3, 4)
    x = tensor(a)
    for index in (1, (1, 2), slice(None, None, -1), (Ellipsis, None, 2), [0, 2], (np.array([0, 1]), [1, 2]), a > 5):
        np.testing.assert_array_equal(x[index].data, a[index])
    np.testing.assert_array_equal(x[tensor([2, 0])].data, a[[2, 0]])
    np.testing.assert_array_equal(x[x > 5].data, a[a > 5])
    np.testing.assert_array_equal(x[1, tensor([2, 0])].data, a[1, [2, 0]])
    assert np.shares_memory(x[1:].data, x.data)


SEQUENCES: dict[str, Any] = {  # of two numbers and a pair
    "asarray": lambda t, u, w: asarray([t, u]),
    "nested": lambda t, u, w: asarray([[t, u], w, (1, u)]),
    "mean": lambda t, u, w: fa.mean([t, u, w[0]]),
    "operator": lambda t, u, w: w * [t, u] + (u, 2.0),
    "reflected": lambda t, u, w: [t, u] / w,
    "power": lambda t, u, w: [t, u] ** w,
    "joined": lambda t, u, w: fa.concatenate([[t, u], w, [2.0]]),
    "where": lambda t, u, w: fa.where([True, False], [t, u], w),
    "matrix": lambda t, u, w: fa.matmul([[t, u], [u, 1.0]], w),
    "assigned": lambda t, u, w: _assigned(w, [u, t]),
    "convolution": lambda t, u, w: ec.conv1d([[[t, u, t * u]]], [[w]]),
    "determinant": lambda t, u, w: ec.linalg.det([[t, u], w]),
    "activation": lambda t, u, w: ec.softplus([t, u]),
    "loss": lambda t, u, w: ec.mse_loss([t, u], w),
}


def _assigned(w: Any, value: Any) -> Any:
    h = w * 2
    h[...] = value
    return h * w


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences_of_tracked_tensors_are_recorded(name: str) -> None:
    def f(t: Any, u: Any, w: Any) -> Any:
        return (SEQUENCES[name](t, u, w) ** 2).sum()

    values = [np.array(2.0), np.array(3.0), np.array([1.0, 4.0])]
    tracked = [tensor(v, requires_grad=True) for v in values]
    out = f(*tracked)
    assert out.requires_grad
    assert out.item() == f(*map(asarray, values)).item()
    ec.check_grads(f, values)


def test_a_tensor_of_a_sequence_has_no_history() -> None:
    w = leaf(1.0, 2.0)
    x = tensor([w[0], 3.0, w.sum()])
    assert (x.tolist(), x.requires_grad, x.dtype) == ([1, 3, 3], False, np.float64)
    assert asarray([w[0], 3], dtype="float32").dtype == np.float32
    with pytest.raises(ValueError, match="shape"):
        asarray([w, [1.0]])


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_fractions_are_numbers(kind: Any) -> None:
    number: Any = Fraction(1, 4)
    for x in (tensor([1.0, 2.0], kind), tensor([1.0, 2.0], kind, requires_grad=True)):
        for found, expected in (
            (x * number, [0.25, 0.5]), (number + x, [1.25, 2.25]), (x / number, [4, 8]), (number - x, [-0.75, -1.75]),
            (x**number, [1, 2**0.25]), (fa.maximum(x, number), [1, 2]), (np.multiply(number, x), [0.25, 0.5]),
            (fa.where(x > number, x, number), [1, 2]),
        ):  # fmt: skip
            assert found.dtype == kind
            np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
            assert found.requires_grad == x.requires_grad
        y = x * 1
        y += number
        y[0] = number
        np.testing.assert_allclose(y.numpy(), [0.25, 2.25])
    assert grad((x * number).sum(), x)[0].tolist() == [0.25, 0.25]
    assert tensor([1, 2]).dtype == (tensor([1, 2]) * 2).dtype
    assert (tensor([1, 2]) * number).tolist() == [0.25, 0.5]


# ----- In-place changes -----


def test_untracked_changes_write_to_the_memory() -> None:
    a = np.arange(6.0)
    x = asarray(a)
    alias = x
    x += 1
    x *= [1.0] * 6
    x -= tensor(0.5)
    x /= 2
    x **= 2
    x[0] = 9
    x[1:3][0] = 8  # through a view
    x[x > 5] = -1
    assert alias is x
    np.testing.assert_allclose(a, [-1, -1, 1.5625, 3.0625, -1, -1])
    with pytest.raises(TypeError, match="Cannot cast"):
        x += 1j
    y = tensor([1, 2])
    with pytest.raises(TypeError, match="Cannot cast"):
        y += 0.5
    locked = asarray(np.broadcast_to(1.0, (2,)))
    with pytest.raises(ValueError, match="read-only"):
        locked[0] = 2
    with pytest.raises(ValueError, match="read-only"):
        locked += 2


def test_leaf_changes_only_under_no_grad() -> None:
    w = leaf(1.0, 2.0)
    (w * w).sum().backward()
    data = w.data
    with pytest.raises(RuntimeError, match=r"leaf that requires a gradient.*no_grad"):
        w -= 0.1 * w.grad
    with pytest.raises(RuntimeError, match=r"leaf that requires a gradient.*no_grad"):
        w[0] = 1
    with no_grad():
        w -= 0.25 * w.grad
        w[1] = 7
    assert w.data is data
    assert w.tolist() == [0.5, 7]
    assert w.is_leaf
    assert w.requires_grad


def test_data_keeps_shape_and_dtype() -> None:
    w = leaf(1.0, 2.0)
    y = (w * w).sum()
    w.data = np.array([5.0, 6.0])
    assert (w.tolist(), w.requires_grad, w.is_leaf) == ([5, 6], True, True)
    assert grad(y, w)[0].tolist() == [2, 4]  # of the values that were used
    w.data = tensor([7.0, 8.0])
    assert isinstance(w.data, np.ndarray)
    for bad in ([1.0, 2.0], 3.0, np.float64(3), None):
        with pytest.raises(TypeError, match=rf"data must be an array, not {type(bad).__name__}; .*x\[...\] = value"):
            w.data = bad
    for other in (np.ones(3), np.ones((1, 2)), np.ones(2, "f4"), np.ones(2, complex), tensor([1, 2])):
        with pytest.raises(ValueError, match=r"data must keep its shape \(2,\) and dtype float64.*make a new tensor"):
            w.data = other
    assert w.tolist() == [7, 8]


def test_tracked_change_is_recorded() -> None:
    x = leaf(1.0, 2.0, 3.0)
    h = x * 2
    before = h.data
    squared = (h * h).sum()  # needs h as it was
    h[1] = x[0] * 10
    h *= 3
    h += x
    assert h.tolist() == [7, 32, 21]
    assert before.tolist() == [2, 4, 6]
    assert grad(h.sum(), x, retain_graph=True)[0].tolist() == [7 + 30, 1, 7]
    with no_grad():
        h[...] = 0  # memory of its own by now, that nothing was saved from
    assert grad(squared, x)[0].tolist() == [8, 16, 24]


def test_tracked_value_makes_the_target_tracked() -> None:
    x = leaf(5.0)
    buffer = tensor(np.zeros(3))
    view = buffer[:]
    buffer[1] = x[0]
    assert buffer.requires_grad
    assert buffer.tolist() == view.tolist() == [0, 5, 0]
    buffer[0] += x[0] * 2
    assert grad((buffer * [1.0, 10.0, 100.0]).sum(), x)[0].tolist() == [12]


def test_assignment_to_a_temporary_view_is_not_lost() -> None:
    x, w = tensor(np.zeros((2, 2))), leaf(1.0)
    x[0][1] = w[0]
    x[:][1][0] = w[0] * 2
    assert x.tolist() == [[0, 1], [2, 0]]
    h = x.reshape(4)
    del x
    h[0] = w[0]  # nobody else can see the old memory
    assert grad(h.sum(), w)[0].tolist() == [4]


def test_tracked_change_keeps_shape_and_dtype() -> None:
    w = leaf(1.0, 2.0)
    h = (w * 1.0).astype("float32")
    h += np.ones(2)
    assert h.dtype == np.float32
    with pytest.raises(ValueError, match=r"in-place result of shape \(3, 2\).*does not fit"):
        h += np.ones((3, 2))
    with pytest.raises(ValueError, match="complex128"):
        h += 1j * w


def test_clone_and_detach() -> None:
    x = leaf(1.0, 2.0)
    c, d = x.clone(), x.detach()
    assert np.shares_memory(d.data, x.data)
    assert not np.shares_memory(c.data, x.data)
    assert (c.requires_grad, d.requires_grad) == (True, False)
    assert grad((c * d).sum(), x)[0].tolist() == [1, 2]


# ----- Functions of the namespace -----


def test_functions_take_anything() -> None:
    for data in ([1.0, 4.0], (1, 4), np.array([1, 4], "float32"), tensor([1.0, 4.0])):
        assert fa.sqrt(data).tolist() == [1, 2]
        assert fa.maximum(data, 2).tolist() == fa.maximum(2, data).tolist() == [2, 4]
        assert fa.where([True, False], data, 0).tolist() == [1, 0]
    assert fa.maximum(tensor([1.0], "float32"), 2.0).dtype == np.float32
    assert fa.maximum(1, 2).item() == 2
    assert fa.clip(np.array([1.0, 9.0], "float32"), None, 5).dtype == np.float32
    assert fa.clip([1.0, 9.0], 2).tolist() == [2, 9]
    assert fa.clip([1, 9], max=5).tolist() == [1, 5]


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric", "wrap"])
@pytest.mark.parametrize("width", [0, 2, (1, 2), ((0, 1), (3, 0)), [(2, 2)]])
def test_pad(mode: Any, width: Any) -> None:
    a = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(fa.pad(a, width, mode).data, np.pad(a, width, mode))
    x = tensor(a, requires_grad=True)
    v = np.random.default_rng(0).integers(0, 9, fa.pad(a, width, mode).shape).astype(float)
    (g,) = grad(fa.pad(x, width, mode), x, v)
    assert (g.data * a).sum() == (v * np.pad(a, width, mode)).sum()  # the adjoint, on integers


def test_pad_arguments() -> None:
    assert fa.pad([1], 1, constant_values=7).tolist() == [7, 1, 7]
    with pytest.raises(ValueError, match="mode must be 'constant' or one of"):
        fa.pad([1.0], 1, "linear_ramp")
    with pytest.raises(ValueError, match="must not be negative"):
        fa.pad([1.0], -1)
    for width in (1.5, (1, 2, 3), "1", None, [[1, 2], [3, 4]]):
        with pytest.raises(ValueError, match="pad_width must be an int, a pair"):
            fa.pad([1.0], width)
    with pytest.raises(ValueError, match="empty"):
        fa.pad(np.zeros(0), 1, "edge")


def test_joining() -> None:
    x, y = leaf(1.0, 2.0), tensor([3.0], "float32", requires_grad=True)
    joined = fa.concatenate([x, y, [4]], axis=-1)
    assert joined.dtype == np.float64
    gx, gy = grad((joined * [1, 2, 3, 4]).sum(), [x, y])
    assert (gx.tolist(), gy.tolist(), gy.dtype) == ([1, 2], [3], np.float32)
    a, b = fa.ones((2, 1), requires_grad=True), fa.ones((2, 3), requires_grad=True)
    ga, gb = grad(fa.concatenate([a, b], axis=1), [a, b], np.arange(8.0).reshape(2, 4))
    assert (ga.tolist(), gb.tolist()) == ([[0], [4]], [[1, 2, 3], [5, 6, 7]])
    assert fa.stack([x, x], axis=-1).tolist() == [[1, 1], [2, 2]]
    for function in (fa.concatenate, fa.stack):
        with pytest.raises(ValueError, match="at least one array"):
            function([])
        with pytest.raises(ValueError, match=r"same number of axes, got shapes \[\(2,\), \(1, 2\)\]"):
            function([x, x.expand_dims(0)])
        with pytest.raises(ValueError, match="axis=2 is out of range"):
            function([x, x], axis=2)
        with pytest.raises(ValueError, match=r"array dimensions .* must match|same shape, got \[\(1, 2\), \(3, 4\)\]"):
            function([fa.zeros((1, 2)), fa.zeros((3, 4))])


def test_creation() -> None:
    assert fa.zeros((2, 1)).data.tolist() == [[0], [0]]
    assert fa.ones(2, "float32", requires_grad=True).requires_grad
    assert fa.full((), 1j).item() == 1j
    assert fa.arange(1, 2, 0.5).tolist() == [1, 1.5]
    assert fa.arange(3, dtype="float32").dtype == np.float32
    assert (fa.zeros_like(tensor([1])).tolist(), fa.ones_like([1.5]).tolist()) == ([0], [1])


# ----- Optimisers -----


@pytest.mark.parametrize(
    ("ours", "name", "settings"),
    [
        (SGD, "SGD", {"lr": 0.1}),
        (SGD, "SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
        (SGD, "SGD", {"lr": 0.1, "momentum": 0.5, "nesterov": True}),
        (Adam, "Adam", {}),
        (Adam, "Adam", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_optimisers_step_as_pytorch(ours: Any, name: str, settings: Any, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    start = np.random.default_rng(0).standard_normal((3, 2)).astype(dtype) + (1j if dtype[0] == "c" else 0)
    x, ref = tensor(start, requires_grad=True), torch.tensor(start, requires_grad=True)
    optimizer, theirs = ours([x], **settings), getattr(torch.optim, name)([ref], **settings)
    data = x.data
    for _ in range(5):
        for opt, w in ((optimizer, x), (theirs, ref)):
            opt.zero_grad()
            (abs(w) ** 2 * abs(w) + abs(w) ** 2).sum().backward()
            opt.step()
    assert x.data is data
    np.testing.assert_allclose(x.numpy(), ref.detach().numpy(), rtol=2e-5 if dtype == "float32" else 1e-12)


def test_optimisers_check_their_arguments() -> None:
    w = leaf(1.0)
    for bad in ([tensor([1.0])], [w * 2], [np.ones(1)]):
        with pytest.raises(ValueError, match=r"params\[0\] must be a leaf Tensor"):
            SGD(bad, lr=0.1)
    with pytest.raises(ValueError, match=r"lr must be a number in \[0, inf\)"):
        SGD([w], lr=-1)
    with pytest.raises(ValueError, match=r"beta2 must be a number in \[0, 1\), not 1\.5"):
        Adam([w], betas=(0.9, 1.5))
    with pytest.raises(ValueError, match="nesterov"):
        SGD([w], lr=0.1, nesterov=True)
    optimizer = SGD(iter([w]), lr=0.1)
    with pytest.warns(UserWarning, match=r"step: no parameter has a gradient.*backward.*new optimiser"):
        optimizer.step()
    assert w.tolist() == [1]
    y = w * w
    y.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="multiply saved"):
        y.backward()  # the step was noticed
