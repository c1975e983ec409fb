"""The tape: what is recorded and saved, sweeps in both directions, memory, versions, hooks, threads, transforms."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from eagerconv.autograd import rules, tape
from eagerconv.autograd.anomaly import detect_anomaly
from eagerconv.autograd.rules.operands import value
from eagerconv.autograd.tape import defvjp, elementwise, enable_grad, is_grad_enabled, linear, multilinear, no_grad
from eagerconv.func.gradcheck import check_grads
from eagerconv.func.transforms import grad, jvp, vjp
from eagerconv.tensor import Tensor, asarray, tensor


def leaf(*values: float) -> Tensor:
    return tensor(values, requires_grad=True)


@pytest.fixture
def no_gc() -> Iterator[None]:
    """Reference counting must do: the garbage collector, which would hide cycles, is off."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# ----- Backward -----


def test_gradients_add_up_over_uses_and_over_calls() -> None:
    x = leaf(2.0)
    (x * x + x).backward()
    assert x.grad.tolist() == [5]
    (3 * x).backward()
    assert x.grad.tolist() == [8]
    x.zero_grad()
    assert x.grad is None


def test_diamond_is_swept_once_per_node() -> None:
    """2**30 paths, 60 nodes."""
    x = leaf(1.0)
    y = x
    for _ in range(30):
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**30


def test_long_chain_needs_no_recursion(no_gc: None) -> None:
    x = leaf(1.0)
    y = x
    for _ in range(20_000):
        y = y + 1.0
    y.backward()
    assert x.grad.item() == 1
    del y


def test_gradient_may_be_left_out_only_for_one_element() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match=r"shape \(2,\).*\.sum\(\)"):
        (x * x).backward()
    (x * x).backward([1.0, 10.0])
    assert x.grad.tolist() == [2, 40]
    with pytest.raises(ValueError, match=r"cotangent must have the output's shape \(2,\), not \(3,\)"):
        (x * x).backward([1.0, 1.0, 1.0])
    with pytest.raises(RuntimeError, match="does not require a gradient"):
        tensor([1.0]).backward()


def test_second_backward_needs_retain_graph() -> None:
    x = leaf(3.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 12
    with pytest.raises(RuntimeError, match=r"multiply: .*retain_graph=True"):
        y.backward()
    assert x.grad.item() == 12


@pytest.mark.parametrize(
    "shared",
    [
        lambda x: x.T, lambda x: x.reshape(3, 2), lambda x: x[:, [0, 2, 0]], lambda x: x[1:], lambda x: x.sum(axis=0),
        lambda x: x.mean(), lambda x: x + 1, lambda x: 3 - x, lambda x: np.flip(x).T.ravel(), lambda x: np.cumsum(x),
        lambda x: np.concatenate([x, x]), lambda x: np.stack([x, x])[0], lambda x: np.pad(x, 1), lambda x: np.tile(x, 2),
    ],
)  # fmt: skip
def test_two_losses_share_what_saved_nothing(shared: Any) -> None:
    x = tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
    view = shared(x)
    (view * view).sum().backward()
    (view * 3).sum().backward()
    together = shared(x)
    expected = grad((together * together).sum() + (together * 3).sum(), x)[0]
    assert x.grad.tolist() == expected.tolist()


def test_create_graph_retains_by_default() -> None:
    x = leaf(3.0)
    y = x**3
    y.backward(create_graph=True)
    first, x.grad = x.grad, None
    first.backward()
    assert x.grad.item() == 18


def test_gradients_have_a_history_only_if_asked_for() -> None:
    x = leaf(1.0)
    (x * x).backward()
    assert not x.grad.requires_grad
    (x * x).backward()
    assert not x.grad.requires_grad
    assert not grad(x * x, x)[0].requires_grad
    assert grad(x * x, x, create_graph=True)[0].requires_grad


def test_gradients_do_not_share_memory() -> None:
    a, b, seed = leaf(1.0, 2.0), leaf(3.0, 4.0), tensor([1.0, 1.0])
    (a + b).backward(seed)
    a.grad *= 5
    assert b.grad.tolist() == seed.tolist() == [1, 1]
    g1, g2 = grad((a + b).sum(), [a, b])
    g1 += 1
    assert g2.tolist() == [1, 1]
    direction = np.ones(2)
    tangent = jvp(lambda x: x * 1 + 0, [[1.0, 2.0]], [direction])[1]
    tangent += 1
    assert direction.tolist() == [1, 1]


def test_gradient_of_a_sum_can_be_written() -> None:
    x = leaf(1.0, 2.0)
    x.sum().backward()
    x.grad[0] = 7
    assert x.grad.tolist() == [7, 1]


def test_deleted_leaf_is_no_obstacle() -> None:
    x, y = leaf(1.0), leaf(2.0)
    z = x * y
    del x
    z.backward()
    assert y.grad.item() == 1


def test_grad_reaches_intermediate_tensors_and_leaves_grad_alone() -> None:
    x = leaf(2.0)
    h = x * x
    y = h * h
    gh, gx, gy = grad(y, [h, x, y])
    assert (gh.item(), gx.item(), gy.item()) == (8, 32, 1)
    assert x.grad is None


def test_grad_sweeps_only_what_leads_to_the_inputs() -> None:
    broken = defvjp("broken", lambda x: x * 1)
    x, other = leaf(2.0), leaf(1.0)
    y = x * 3 + broken(other)
    assert grad(y, x)[0].item() == 3
    with pytest.raises(NotImplementedError, match="broken"):
        grad(x * 3 + broken(other), other)


def test_grad_arguments() -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0)
    out = [x * 2, x * x]
    assert grad(out, x, [[1.0, 0.0], [0.0, 1.0]])[0].tolist() == [2, 4]
    assert grad(x * 2, [x], [1.0, 3.0])[0].tolist() == [2, 6]
    assert grad(x * 2, [x], [tensor([1.0, 3.0])])[0].tolist() == [2, 6]
    assert grad(x.sum(), [x, y], allow_unused=True)[1] is None
    with pytest.raises(RuntimeError, match=r"no output depends on inputs\[1\] \(shape \(1,\)\).*allow_unused"):
        grad(x.sum(), [x, y])
    with pytest.raises(RuntimeError, match=r"inputs\[0\] .*does not require a gradient"):
        grad(x.sum(), tensor([1.0]))
    with pytest.raises(ValueError, match="one cotangent per output, that is 2, not 1"):
        grad([x * 2, x * x], x, [[1.0, 1.0]])
    with pytest.raises(TypeError, match="expected a Tensor"):
        grad(x.sum(), np.ones(2))


def test_complex_gradient_is_steepest_ascent() -> None:
    """L = |z - c|**2 has the gradient 2 (z - c)."""
    z, c = tensor(1 + 2j, requires_grad=True), 4 - 1j
    d = z - c
    (d * d.conj()).real.backward()
    assert z.grad.item() == 2 * (1 + 2j - c)
    x = tensor(2.0, requires_grad=True)
    (x * 1j * 1j).real.backward()
    assert x.grad.item() == -1
    assert x.grad.dtype == np.float64


# ----- Exceptions and memory -----


def test_exception_in_a_rule_leaves_nothing(no_gc: None) -> None:
    def fail(g: Any) -> Any:
        raise ZeroDivisionError

    bad = defvjp("bad", lambda x: x + 0, lambda g: fail(g))
    x, y = leaf(1.0), leaf(1.0)
    before = x * y  # saved by nodes that the sweep does not come to
    after = bad(before * before)
    refs = [weakref.ref(before.data), weakref.ref(after.data)]
    z = (after * after).sum() + y.sum()
    del before, after
    with pytest.raises(ZeroDivisionError):
        z.backward()
    assert x.grad is None
    assert y.grad is None
    assert [r() for r in refs] == [None, None]
    assert is_grad_enabled()
    (x * y).backward()
    assert x.grad.item() == 1


def test_exception_in_an_operation_leaves_nothing(no_gc: None) -> None:
    x = leaf(1.0, 2.0)
    h = x * 2
    array = weakref.ref(h.data)
    with pytest.raises(ValueError, match="broadcast"):
        h + np.ones(3)
    del h
    assert array() is None


@pytest.mark.parametrize("create_graph", [False, True])
def test_dropping_the_result_drops_the_graph(no_gc: None, create_graph: bool) -> None:
    x = leaf(1.0, 2.0)
    h = rules.exp(x * 2)  # exp saves its own result
    y = (rules.softmax(h) * h).sum()
    (g,) = grad(y, x, create_graph=create_graph, retain_graph=True)
    refs = [weakref.ref(h), weakref.ref(h.data), weakref.ref(y), weakref.ref(g)]
    del h, y, g
    assert [r() for r in refs] == [None] * 4


def test_grad_with_a_history_makes_no_cycle(no_gc: None) -> None:
    x = leaf(1.0)
    (x * x * x).backward(create_graph=True)
    refs = [weakref.ref(x), weakref.ref(x.grad), weakref.ref(x.data)]
    del x
    assert [r() for r in refs] == [None] * 3


def test_reassigned_tensor_makes_no_cycle(no_gc: None) -> None:
    x = leaf(1.0, 2.0)
    h = x * 3
    y = h * h  # saves h
    h[0] = y[1]  # and now h depends on y
    ref = weakref.ref(h.data)
    assert grad(h.sum(), x)[0].tolist() == [0, 39]
    del h, y
    assert ref() is None


def test_backward_gives_memory_back_while_the_result_lives(no_gc: None) -> None:
    x = leaf(1.0, 2.0)
    h = x * 2
    ref = weakref.ref(h.data)
    y = (h * h).sum()
    del h
    assert ref() is not None
    y.backward()
    assert ref() is None


def test_backward_frees_as_it_goes(no_gc: None) -> None:
    """When the sweep comes to a tensor, everything that was computed from it is gone already, cotangents too."""
    x = leaf(1.0, 2.0)
    tensors, alive, seen = [x], [], []
    for _ in range(4):
        tensors.append(tensors[-1] * tensors[-1])

    def watch(place: int) -> Any:
        def hook(g: Any) -> None:
            alive.append([ref() is not None for ref in arrays[place + 1 :]])
            seen.append(weakref.ref(g.data))
            if len(seen) > 2:
                assert seen[-3]() is None

        return hook

    for place, t in enumerate(tensors):
        t.register_hook(watch(place))
    arrays = [weakref.ref(t.data) for t in tensors]
    y = tensors[-1].sum()
    del tensors, t
    y.backward()
    assert alive == [[False] * n for n in range(5)]


def test_only_what_a_rule_names_is_saved(no_gc: None) -> None:
    w = leaf(1.0, 2.0)
    for op in (rules.multiply, rules.matmul):
        a = w * 1.0
        a_data, b = weakref.ref(a.data), tensor([3.0, 4.0])
        y = op(a, b)  # b is needed for the gradient of a; a for nothing, because b is not tracked
        del a
        assert a_data() is None
        assert grad(y.sum(), w)[0].tolist() == [3, 4]
    h = w * 1.0
    h_data = weakref.ref(h.data)
    y = h.sum() + rules.exp(h).sum()
    del h
    assert h_data() is None
    y.backward()


def test_nothing_is_recorded_without_need() -> None:
    x = leaf(1.0)
    with no_grad():
        assert not (x * 2).requires_grad
    assert not (tensor([1.0]) * 2).requires_grad
    assert (x * 2).requires_grad
    assert not (x * 2).astype("int64").requires_grad


# ----- Grad mode -----


def test_grad_mode_nests_decorates_and_survives_exceptions() -> None:
    @no_grad()
    def off(depth: int) -> bool:
        return is_grad_enabled() if depth == 0 else off(depth - 1)

    assert not off(3)
    mode = no_grad()
    with mode, enable_grad(), mode:
        assert not is_grad_enabled()
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert is_grad_enabled()


def test_grad_mode_belongs_to_the_thread() -> None:
    seen = []
    with no_grad():
        thread = threading.Thread(target=lambda: seen.append(is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_threads_with_graphs_of_their_own() -> None:
    results: list[float] = []

    def work(k: int) -> None:
        x = leaf(float(k))
        for _ in range(50):
            x.grad = None
            (rules.exp(x * 0) * x * x).sum().backward()
        results.append(x.grad.item() / k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(1, 9)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [2.0] * 8


def test_threads_add_to_the_gradient_of_one_leaf() -> None:
    w = leaf(1.0)
    meeting = threading.Barrier(8, timeout=10)
    handle = w.register_hook(lambda g: [None, meeting.wait()][0])  # hooks may wait for each other

    def work() -> None:
        (w * 0.0).sum().backward()
        meeting.wait()
        handle.remove()
        for _ in range(400):
            (w * 1.0).sum().backward()

    threads = [threading.Thread(target=work) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(interval)
    assert w.grad is not None
    assert w.grad.item() == 3200


# ----- Versions -----


def test_change_of_a_saved_operand_is_found() -> None:
    x, y = leaf(1.0, 2.0), tensor([3.0, 4.0])
    z = x * y
    y += 1
    with pytest.raises(RuntimeError, match=r"multiply saved its 2nd operand \(shape \(2,\)\).*in place.*backward"):
        z.sum().backward()


def test_change_of_a_saved_result_is_found() -> None:
    x = leaf(1.0, 2.0)
    y = rules.exp(x)
    with no_grad():
        y[0] = 5
    with pytest.raises(RuntimeError, match="exp saved its result"):
        y.sum().backward()


@pytest.mark.parametrize(
    "view",
    [
        lambda y: y[0], lambda y: y[None], lambda y: y.reshape(4), lambda y: y.T, lambda y: y.detach(),
        lambda y: y.ravel(), lambda y: y.expand_dims(0), lambda y: y.squeeze(), lambda y: y[0][1:],
        rules.real,
    ],
)  # fmt: skip
def test_change_through_a_view_is_found(view: Any) -> None:
    x, y = leaf(1.0, 2.0), tensor([[3.0, 4.0], [5.0, 6.0]])
    v = view(y)
    z = (x * y).sum()
    v[...] = 0
    assert (y.data == 0).any()
    with pytest.raises(RuntimeError, match="multiply saved its 2nd operand"):
        z.backward()


def test_change_of_what_is_not_needed_is_allowed() -> None:
    x, y = leaf(1.0, 2.0), tensor([3.0, 4.0])
    z = (x + y).sum() + (x * y.clone()).sum() + (y[[0, 1]] * x).sum()
    y += 100
    z.backward()
    assert x.grad.tolist() == [7, 9]


def test_optimiser_step_before_backward_is_found() -> None:
    w = leaf(1.0)
    y = w * w
    with no_grad():
        w -= 0.5
    with pytest.raises(RuntimeError, match="multiply saved"):
        y.backward()


# ----- Parts -----


PICKED: list[Any] = [
    0,
    2,
    -1,
    slice(1, 3),
    [0, 0, 2],
    (slice(None), 1),
    (..., None, 0),
    np.array([True, False, True]),
    0,
]


def sum_of_parts(x: Any) -> Any:
    total = (x**3).sum() * x[0, 0]
    for k, index in enumerate(PICKED):
        part = x[index]
        total = total + (part * part).sum() * (k + 1) + part.reshape(-1)[0] ** 3
    return total


def test_cotangents_of_parts_are_added_in_one_array() -> None:
    a = np.random.default_rng(0).standard_normal((3, 4))
    check_grads(sum_of_parts, [a], order=3)
    x = tensor(a, requires_grad=True)
    seen: list[int] = []
    x.register_hook(lambda g: seen.append(1))
    first = grad(sum_of_parts(x), x, create_graph=True)[0]
    plain = grad(sum_of_parts(x), x)[0]
    with detect_anomaly():  # one after another
        np.testing.assert_allclose(first.data, grad(sum_of_parts(x), x)[0].data, rtol=1e-13)
    np.testing.assert_array_equal(first.data, plain.data)
    assert len(seen) == 3


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_loop_over_rows_is_linear(create_graph: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(np, name)

        def zeros_like(self, like: Any, shape: Any) -> Any:
            made.append(int(np.prod(shape)))
            return np.zeros_like(like, shape=shape)

    monkeypatch.setattr(rules.indexing, "np", Counting())
    x = tensor(np.arange(600.0).reshape(200, 3), requires_grad=True)
    total: Any = 0
    for row in x:
        total = total + (row * row).sum()
    (g,) = grad(total, x, create_graph=create_graph)
    np.testing.assert_array_equal(g.data, 2 * x.data)
    assert made == [600]


@pytest.mark.parametrize(
    ("index", "once"),
    [
        (np.array([2, 0, 1]), True), (np.array([2, 0, 2]), False), ((slice(None), [3, 1]), True), (np.array([0, -1]), False),
        (np.array([-1, -3]), True), ((np.array([0, 1, 2]), np.array([1, 1, 1])), True), ((np.array([1]), [0, 0]), False),
        ((np.arange(3)[:, None], np.array([0, 2])), False), (np.array([True, False, True]), True), (np.array([], int), True),
        ((np.array([True, False, False]), [0, 0]), False), (np.array([2, 1], "u8"), True), (np.array([[0, 2], [1, 1]]), False),
        (([0, 1], slice(None), None), True),
    ],
)  # fmt: skip
def test_numbers_that_differ_are_put_without_adding(index: Any, once: bool) -> None:
    assert rules.indexing._each_once(index) == once
    a = np.random.default_rng(0).standard_normal((3, 4))
    v = np.random.default_rng(1).standard_normal(a[index].shape)
    expected = np.zeros((3, 4))
    np.add.at(expected, index, v)
    x = tensor(a, requires_grad=True)
    np.testing.assert_allclose(grad(x[index], x, v)[0].data, expected)


def test_a_zero_in_a_running_product_costs_a_few_operations() -> None:
    a = np.random.default_rng(0).uniform(0.5, 1.5, 300)
    a[[5, 17]] = 0
    weights = np.random.default_rng(1).standard_normal(300)
    expected = np.zeros(300)
    for i in range(300):  # y[k], k >= i, without the factor a[i]
        without = np.where(np.arange(300) == i, 1, a)
        expected[i] = (weights * np.cumprod(without))[i:].sum()

    class Counting:
        count = 0

        def computed(self, *told: Any) -> None:
            self.count += 1

        def pulled(self, op: Any, node: Any, position: int, g: Any) -> Any:
            return op.pull(op, node, position, g)

    x = tensor(a, requires_grad=True)
    y = np.cumprod(x)
    tape.watch(watcher := Counting())
    try:
        (g,) = grad(y, x, weights, create_graph=True)
    finally:
        tape.unwatch(watcher)
    np.testing.assert_allclose(g.data, expected, rtol=1e-12, atol=1e-14)
    assert watcher.count < 150  # for each doubling some
    check_grads(
        lambda x: np.cumprod(x, axis=1), [np.array([[0.5, 0.0, 2.0, 0.0, 3.0], [1.0, 2.0, 0.0, 4.0, -1.0]])], order=2
    )
    huge = tensor([0.0, 1e300, 1e300, 1.0], requires_grad=True)
    assert grad(np.cumprod(huge), huge, [1.0, 0.0, 0.0, 0.0])[0].tolist() == [1, 0, 0, 0]


# ----- Hooks -----


def test_hooks_see_and_replace_gradients() -> None:
    x = leaf(1.0, 2.0)
    seen: list[Any] = []
    h = x * 3
    h.register_hook(lambda g: seen.append(g.tolist()))
    doubled = h.register_hook(lambda g: 2 * g)
    last = x.register_hook(lambda g: g + 1)
    (h + h).sum().backward()
    assert seen == [[2, 2]]  # once, with the whole gradient
    assert x.grad.tolist() == [13, 13]
    x.grad = None
    for handle in (doubled, last, last):
        handle.remove()
    (x * 3).sum().backward()
    assert x.grad.tolist() == [3, 3]


def test_hook_errors() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="does not require a gradient"):
        tensor([1.0]).register_hook(lambda g: None)
    x.register_hook(lambda g: g.sum())
    with pytest.raises(ValueError, match=r"shape \(2,\); it returned \(\)"):
        x.sum().backward()


def test_hooks_run_in_grad() -> None:
    x = leaf(1.0)
    x.register_hook(lambda g: 5 * g)
    assert grad(x * 2, x)[0].item() == 10


# ----- Forward mode, nesting -----


def f(x: Any) -> Any:
    return rules.exp(rules.sin(x) * x)


def df(x: float, order: int) -> float:
    """Derivatives of f by the recursion of its Taylor coefficients, without autograd: order 1 to 3."""
    s, c = np.sin(x), np.cos(x)
    u1, u2, u3 = c * x + s, -s * x + 2 * c, -c * x - 3 * s
    return float(np.exp(s * x) * {1: u1, 2: u1**2 + u2, 3: u1**3 + 3 * u1 * u2 + u3}[order])


def d_forward(fn: Any) -> Any:
    return lambda x: jvp(fn, [x], [np.ones(x.shape)])[1]


def d_reverse(fn: Any) -> Any:
    return lambda x: vjp(fn, x)[1](np.ones(x.shape))[0]


def d_grad(fn: Any) -> Any:
    def derivative(x: Any) -> Any:
        x = x * 1.0 if x.requires_grad else leaf(*x.tolist())
        return grad(fn(x).sum(), x, create_graph=True)[0]

    return derivative


@pytest.mark.parametrize("first", [d_forward, d_reverse, d_grad])
@pytest.mark.parametrize("second", [d_forward, d_reverse, d_grad])
@pytest.mark.parametrize("third", [d_forward, d_reverse, d_grad])
def test_nesting(first: Any, second: Any, third: Any) -> None:
    x = np.array([0.3, 1.2])
    for order, fn in enumerate((first(f), second(first(f)), third(second(first(f)))), 1):
        np.testing.assert_allclose(fn(asarray(x)).numpy(), [df(v, order) for v in x], rtol=1e-12)


def test_no_perturbation_confusion() -> None:
    """d/dx [x * d/dy (x + y)] = 1, not 2 (Siskind and Pearlmutter 2005)."""
    inner = lambda x: x * jvp(lambda y: x + y, [1.0], [1.0])[1]  # noqa: E731
    assert jvp(inner, [1.0], [1.0])[1].item() == 1
    assert vjp(inner, 1.0)[1](1.0)[0].item() == 1


def test_forward_mode_transposes_a_pullback_where_no_rule_is_written() -> None:
    cube = defvjp("cube", lambda x: x**3, lambda g, x: 3 * x * x * g)
    zero = defvjp("zero", lambda x: x * 0, lambda g, like: tensor(np.zeros(like.shape)))
    out, tangent = jvp(cube, [[1.0, 2.0]], [[1.0, 10.0]])
    assert (out.tolist(), tangent.tolist()) == ([1, 8], [3, 120])
    check_grads(cube, [[1.0, 2.0]], order=3)
    check_grads(defvjp("turn", lambda z: z * 1j, lambda g: g * -1j), [[1 + 2j]])
    assert jvp(zero, [[1.0]], [[1.0]])[1].tolist() == [0]


def test_results_are_tracked_only_if_something_outside_is() -> None:
    w = leaf(3.0)
    x = tensor([2.0])
    for primal, fn, tracked in [(x, f, False), (w, f, True), (x, lambda x: x * w, True), ([2.0], f, False)]:
        out, tangent = jvp(fn, [primal], [[1.0]])
        value, pullback = vjp(fn, primal)
        assert out.requires_grad == value.requires_grad == tracked
        assert tangent.requires_grad == pullback([1.0])[0].requires_grad == tracked
        with no_grad():
            out, tangent = jvp(fn, [primal], [[1.0]])
            value, pullback = vjp(fn, primal)
            results = [out, tangent, value, pullback([1.0])[0]]
        assert not any(r.requires_grad for r in results)
    assert jvp(lambda x: x * 2, [x], [w])[1].requires_grad
    assert vjp(lambda x: x * 2, x)[1](w)[0].requires_grad


def test_gradient_flows_through_value_and_tangent_of_jvp() -> None:
    w = leaf(3.0)
    out, tangent = jvp(lambda x: x * x * w, [[2.0]], [[1.0]])  # 4 w, 4 w
    assert grad(out + tangent, w)[0].item() == 8


def test_vjp_and_jvp_arguments() -> None:
    (a, b), pullback = vjp(lambda x, n: (x * n, x.sum()), [1.0, 2.0], [2, 3])
    assert (a.tolist(), b.item()) == ([2, 6], 3)
    gx, gn = pullback([1.0, 1.0], 10.0)
    assert (gx.tolist(), gn) == ([12, 13], None)
    assert pullback([0.0, 0.0], 1.0)[0].tolist() == [1, 1]  # again
    (a, b), (ta, tb) = jvp(lambda x, n: (x * n, x.sum()), [[1.0, 2.0], [2, 3]], [[1.0, 0.0], None])
    assert (ta.tolist(), tb.item()) == ([2, 0], 1)
    assert jvp(lambda x, y: y * 1, [[1.0], [1.0]], [[1.0], None])[1].tolist() == [0]
    assert vjp(lambda x, y: y * 1, [1.0], [1.0])[1]([1.0])[0].tolist() == [0]
    with pytest.raises(ValueError, match="one cotangent per output, that is 2, not 1"):
        pullback([1.0, 1.0])
    with pytest.raises(ValueError, match=r"cotangents\[0\]: expected shape \(2,\), got \(3,\)"):
        pullback([1.0] * 3, 1.0)
    with pytest.raises(ValueError, match="one tangent per primal, that is 1, not 2"):
        jvp(f, [[1.0]], [[1.0], [1.0]])
    with pytest.raises(ValueError, match=r"tangents\[0\]: expected shape \(1,\), got \(2,\)"):
        jvp(f, [[1.0]], [[1.0, 1.0]])
    with pytest.raises(TypeError, match=r"primals\[0\] is int64"):
        jvp(f, [[1]], [[1]])
    with pytest.raises(TypeError, match="tuple or list"):
        jvp(f, np.ones(1), np.ones(1))
    with pytest.raises(TypeError, match="expected a Tensor or a tree of Tensors, got ndarray"):
        vjp(lambda x: x.data, [1.0])


def test_single_precision_in_both_modes() -> None:
    x = tensor([1.0, 2.0], "float32")
    out, tangent = jvp(f, [x], [np.ones(2)])
    assert out.dtype == tangent.dtype == vjp(f, x)[1](np.ones(2))[0].dtype == np.float32


# ----- Constructors of operations -----


def test_rules_may_ask_for_anything() -> None:
    asked: dict[str, Any] = {}

    def rule(g: Any, operands: Any, ans: Any, like: Any, position: int, power: int, shift: float) -> Any:
        asked.update(n=len(operands), ans=ans.tolist(), like=(like.shape, like.dtype.name), at=position, shift=shift)
        return g * power * operands[position] ** (power - 1)

    powers = defvjp("powers", lambda *xs, power, shift=0.5: sum(x**power for x in xs) + shift, rule)
    x, y = leaf(1.0, 2.0), leaf(3.0)
    out = powers(x, 1.0, y, power=2)
    assert grad(out.sum(), y)[0].tolist() == [12]  # 2 y for each of two broadcast elements
    assert asked == {"n": 3, "ans": [11.5, 14.5], "like": ((1,), "float64"), "at": 2, "shift": 0.5}


def test_partial_must_not_be_none() -> None:
    x = leaf(1.0)
    with pytest.raises(TypeError, match="partial derivative"):
        elementwise("bad", np.exp, lambda ans: None)(x).backward()


def test_linear_and_multilinear_maps_in_both_modes() -> None:
    double = linear("double", lambda x, by: x * by, lambda g, by: double(g, by=by))
    outer = multilinear("outer", np.multiply.outer, lambda g, y: g @ y, lambda g, x: x @ g)
    check_grads(lambda x: double(x, by=3.0), [[1.0, 2.0]], eps=1.0)
    check_grads(outer, [[1.0, 2.0], [3.0, 4.0, 5.0]], eps=1.0)


# ----- check_grads itself must be able to fail -----


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (elementwise("wrong", np.exp, lambda ans: 2 * ans), "mode fwd, order 1, argument 0"),
        (
            defvjp("wrong", np.exp, lambda g, ans: 2 * g * ans, jvp=lambda t, ans: t * ans),
            "mode rev, order 1, argument 0",
        ),
        (elementwise("wrong", np.exp, lambda ans: value(ans)), "mode fwd-fwd, order 2, argument 0"),
    ],
)
def test_check_grads_finds_wrong_rules(op: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=f"check_grads: {message}: expected .*, got"):
        check_grads(op, [[0.5, 1.0]])


def test_check_grads_finds_wrong_conjugation_and_argument() -> None:
    with pytest.raises(AssertionError, match="mode rev, order 1"):
        check_grads(defvjp("turn", lambda z: z * 1j, lambda g: g * 1j, jvp=lambda t: t * 1j), [[1 + 2j]])
    with pytest.raises(AssertionError, match="argument 2"):
        check_grads(lambda x, n, y: x * y.detach() * n, [[1.0], [2], [3.0]])


def test_check_grads_arguments() -> None:
    with pytest.raises(TypeError, match=r"args\[1\] must be float64 or complex128, not float32"):
        check_grads(lambda x, y: x * y, [[1.0], np.ones(1, "float32")])
    with pytest.raises(TypeError, match="none of the arguments"):
        check_grads(lambda x: x, [[1]])
    with pytest.raises(ValueError, match="modes"):
        check_grads(f, [[1.0]], modes=("forward",))
    with pytest.raises(ValueError, match="order"):
        check_grads(f, [[1.0]], order=0)
    check_grads(f, [[1.0]], order=3, modes=("rev",), rtol=1e-4)
