"""Views: in-place changes of tracked tensors reach all that show the same memory, with the gradient of the whole program."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest

import eagerconv as ec

X = np.arange(1.0, 13.0).reshape(3, 4) / 4


def rows(y: Any, x: Any) -> None:
    row = y[0]
    row += 10 * x[1]
    for r in y:
        r *= x[2]


def view_of_a_view(y: Any, x: Any) -> None:
    y[1:][0][1:3] *= x[0, :2]
    block = y[1:]
    corner = block[:, 2:]
    corner -= x[:2, :2]
    y *= y
    corner *= 2  # the memory that y has now


def permuted(y: Any, x: Any) -> None:
    t = y.T
    t[0] *= 3
    t *= t
    flat = y.reshape(12)
    flat[5] = x[0, 0] * flat[4]
    flat[::2] += 1
    y.reshape(2, 6).T[1:4] /= x[2, 2]
    np.swapaxes(y, 0, 1)[1] *= x[1, 0]
    np.squeeze(y[None])[2] -= y[0]
    np.rot90(y)[0] += 2 * x[0, 1]


def parts(y: Any, x: Any) -> None:
    a, b = np.split(y, 2, axis=1)
    a *= b
    b -= x[:, 1:3]
    a[...] = b * a
    y[1] += a[0, 0]
    b[0] = b[1]


def siblings(y: Any, x: Any) -> None:
    left, right = y[:, :3], y[:, 1:]
    left *= x[:, :3]
    right *= left
    z = y * y
    left += 1  # z is of the old values
    right[...] = z[:, 1:]


def assigned(y: Any, x: Any) -> None:
    y[0][1] = x[1, 1] ** 2
    y[1][...] = y[0]
    y[2] += y[1]
    y[2, 1:][1] += y[2, 0]
    v = y[0]
    y[0] = v
    np.multiply(v, x[0], out=v)
    np.add(y[1], v, out=y[1])
    y[1:][:, np.array([0, 2])] *= x[0, 0]


PROGRAMS = [rows, view_of_a_view, permuted, parts, siblings, assigned]


def ran(program: Any, x: Any) -> Any:
    y = x * 1.0
    program(y, x)
    return y


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_recorded_changes_through_views_are_those_of_numpy(program: Any, order: Any) -> None:
    a = np.array(X, order=order)
    x = ec.asarray(a.copy(order="K"))
    x.requires_grad = True
    assert x.strides == a.strides
    y = ran(program, x)
    np.testing.assert_allclose(y.numpy(), ran(program, a), rtol=1e-14)
    weights = np.cos(np.arange(12.0)).reshape(3, 4)
    (g,) = ec.grad((y * weights).sum(), x)
    expected = np.empty((3, 4))
    for i in np.ndindex(3, 4):  # the derivative of the same program on complex NumPy arrays: exact to rounding
        step = a.astype(complex)
        step[i] += 1e-30j
        expected[i] = (ran(program, step) * weights).sum().imag / 1e-30
    np.testing.assert_allclose(g.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("program", PROGRAMS)
def test_recorded_changes_through_views_have_derivatives_of_both_modes_and_orders(program: Any) -> None:
    ec.check_grads(lambda x: (ran(program, x) ** 2).sum(), [X[:, :]], order=2)


def test_recorded_changes_through_views_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch")
    x, t = ec.tensor(X, requires_grad=True), torch.tensor(X, requires_grad=True)
    results = []
    for a in (x, t):
        y = a * 1
        view = y[1:].T
        row = view[0]
        row *= a[0, :2]
        y[0] += row[1]
        view[1:3] -= a[:2, :2]
        flat = y.reshape(12)
        flat[3:7] *= 2
        results.append((y, view, row, flat, (y * row[0] + flat[11] * view[3, 0]).sum()))
    (*ours, loss), (*theirs, their_loss) = results
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-14)
    np.testing.assert_allclose(ec.grad(loss, x)[0].numpy(), torch.autograd.grad(their_loss, t)[0].numpy(), rtol=1e-13)


def test_all_views_show_the_new_values() -> None:
    x = ec.tensor(X, requires_grad=True)
    y = x * 1
    views = [y[1], y.T, y.reshape(-1)[3:9], y.T[1:][:, 2], y.detach(), y.detach()[2], y[:, ::-1]]
    with ec.no_grad():
        views.append(y[2])
    twin = np.array(X)
    same = [twin[1], twin.T, twin.reshape(-1)[3:9], twin.T[1:][:, 2], twin, twin[2], twin[:, ::-1], twin[2]]
    views[1][2] = x[0, 0] * 0 + 7
    same[1][2] = 7
    y -= 1
    twin -= 1
    for view, expected in zip((y, *views), (twin, *same), strict=True):
        np.testing.assert_array_equal(view.data, expected)
        assert np.shares_memory(view.data, y.data)
    assert [v.requires_grad for v in views] == [True] * 4 + [False] * 2 + [True, False]
    with ec.no_grad():
        y[...] = 5  # in the memory, which is still one
    assert all((v.data == 5).all() for v in views)


def test_complex_parts_are_views() -> None:
    z = ec.tensor([1 + 2j, 3 - 1j], requires_grad=True)
    w = z * 1
    re, im = w.real, w.imag
    re *= 3
    im += re
    assert w.tolist() == [3 + 5j, 9 + 8j]
    # |w|^2 = (3a)^2 + (b + 3a)^2
    (g,) = ec.grad((w * w.conj()).real.sum(), z)
    assert g.tolist() == [18 * 1 + 6 * (2 + 3) + 2j * 5, 18 * 3 + 6 * (-1 + 9) + 2j * 8]


def test_a_tracked_value_makes_all_that_shows_the_memory_tracked() -> None:
    w = ec.tensor(2.0, requires_grad=True)
    buffer = ec.tensor(np.zeros(4))
    first, second = buffer[:2], buffer[1:]
    first[1] = w * 3
    assert (buffer.requires_grad, second.requires_grad) == (True, True)
    second *= w
    assert first.tolist() == [0, 12]
    assert ec.grad(first.sum(), w)[0].item() == 12  # 3 w^2


def test_what_was_recorded_before_keeps_the_old_values() -> None:
    x = ec.tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    view = y[:1]
    squared = (y * y).sum() + view.sum() * y[1]
    view *= 100
    assert ec.grad(squared, x)[0].tolist() == [18 + 18, 36 + 9]


def test_a_view_of_a_leaf_changes_only_under_no_grad() -> None:
    w = ec.tensor(X, requires_grad=True)
    row = w[0]
    for change in (lambda: row.__iadd__(1), lambda: row.T.__setitem__(0, 1), lambda: next(iter(w)).fill(0)):
        with pytest.raises(RuntimeError, match=r"view of a leaf that requires a gradient.*no_grad.*clone"):
            change()
    np.testing.assert_array_equal(w.numpy(), X)
    with ec.no_grad():
        row += 1
    assert w.numpy()[0].tolist() == (X[0] + 1).tolist()


@pytest.mark.parametrize("cut", ["detach", "no_grad"])
def test_a_change_that_would_reach_the_history_of_some_only_raises(cut: str) -> None:
    w = ec.tensor(2.0, requires_grad=True)
    y = w * np.ones(3)
    with ec.no_grad():
        d = y.detach() if cut == "detach" else y[:]
    with pytest.raises(RuntimeError, match=r"detach\(\) or under no_grad.*clone"):
        d[0] = w
    with pytest.raises(RuntimeError, match="clone"):
        d *= w
    assert y.tolist() == d.tolist() == [2, 2, 2]
    del y
    d[0] = w * 5  # nobody else shows the memory any more
    assert (d.tolist(), ec.grad(d.sum(), w)[0].item()) == ([10, 2, 2], 5)


@pytest.mark.parametrize("make", [lambda w: w, lambda w: w * 1])
def test_a_view_made_under_no_grad_is_changed_there(make: Any) -> None:
    y = make(ec.tensor(X, requires_grad=True))
    with ec.no_grad():
        row = y[0]
        row[1:][0] = 3
    for change in (lambda: row.__imul__(2), lambda: row[1:].__setitem__(0, 5), lambda: row.fill(0)):
        with pytest.raises(RuntimeError, match=r"view of one that.*made under no_grad\(\).*in the block.*clone"):
            change()
    d = y.detach()[1]
    d += 1  # asked for
    assert y.tolist() == [[X[0, 0], 3, *X[0, 2:]], (X[1] + 1).tolist(), X[2].tolist()]


def test_changes_through_views_reach_arrays_of_a_device(place: Any) -> None:
    w = ec.tensor(place.put(np.array([2.0])), requires_grad=True)
    y = ec.tensor(place.put(X)) * w
    row, t = y[1], y.T
    row[1:3] *= w
    t[0] -= 1
    flat = y.reshape(-1)
    flat[::2] += row[3]
    (g,) = ec.grad((y * y).sum(), w)
    a, v = X * 2, np.array([2.0])
    a[1, 1:3] *= v
    a[:, 0] -= 1
    a.reshape(-1)[::2] += a[1, 3]
    np.testing.assert_allclose(place.get(y.data), a, rtol=1e-14)
    np.testing.assert_allclose(place.get(row.data), a[1], rtol=1e-14)
    # dy/dw: X everywhere, twice as much w where it was multiplied again, and that of row[3] at the even places
    slope = X.copy()
    slope[1, 1:3] *= 2 * v
    slope.reshape(-1)[::2] += X[1, 3]
    np.testing.assert_allclose(place.get(g.data), [(2 * a * slope).sum()], rtol=1e-13)


@pytest.mark.parametrize("requires_grad", [False, True])
def test_a_plus_sign_gives_a_copy(requires_grad: bool) -> None:
    x = ec.tensor([1.0, 2.0], requires_grad=requires_grad)
    y = +x
    y -= 1
    assert (x.tolist(), y.tolist()) == ([1, 2], [0, 1])


def test_views_whose_tensor_is_gone() -> None:
    w = ec.tensor(2.0, requires_grad=True)
    y = ec.tensor(np.zeros(4))
    first, second = y.detach(), y.detach()
    view = y[1:]
    del y
    view[0] = 3  # an attached view keeps it
    assert first.tolist() == [0, 3, 0, 0]
    del view
    gc.collect()
    with pytest.raises(RuntimeError, match=r"all taken of is gone.*clone"):
        first *= w
    assert first.tolist() == second.tolist() == [0, 3, 0, 0]


def test_a_leaf_of_its_own_follows_in_its_values() -> None:
    x = ec.tensor(X)
    leaf = x[0]
    leaf.requires_grad = True
    x *= ec.tensor(2.0, requires_grad=True)
    assert leaf.is_leaf
    assert leaf.tolist() == (2 * X[0]).tolist()
    leaf.sum().backward()
    assert leaf.grad.tolist() == [1, 1, 1, 1]


def test_views_of_a_leaf_that_was_detached() -> None:
    x = ec.tensor(X)
    leaf = x.detach()
    leaf.requires_grad = True
    row = leaf[0]
    with pytest.raises(RuntimeError, match="clone"):
        row += 1
    (row * row).sum().backward()
    assert leaf.grad[0].tolist() == (2 * X[0]).tolist()
    with ec.no_grad():
        x -= 1
    assert row.tolist() == (X[0] - 1).tolist()


def test_places_that_stand_for_several_elements_are_not_written_to() -> None:
    x = ec.tensor([1.0, 2.0], requires_grad=True)
    y = x * 1
    for view in (y.broadcast_to((3, 2)), y.broadcast_to((1, 2))):
        with pytest.raises(ValueError, match="read-only"):
            view += 1
    square = ec.tensor(np.eye(3), requires_grad=True) * 2
    for diagonal in (square.diagonal(), np.diagonal(square, 1), np.diagonal(ec.tensor(np.eye(3)))):
        with pytest.raises(ValueError, match="read-only"):
            diagonal += 1
        with pytest.raises(ValueError, match="read-only"):
            diagonal[0] = 1
    square[1, 1] = 7
    assert square.diagonal().tolist() == [2, 7, 2]
    windows = np.lib.stride_tricks.sliding_window_view(y, 2)
    with pytest.raises(ValueError, match="read-only"):
        windows[0] = 0
    assert y.tolist() == [1, 2]


def test_a_view_that_numpy_made_without_a_rule_cannot_follow() -> None:
    x = ec.tensor(X, requires_grad=True)
    y = x * 1
    view = np.trim_zeros(y[0])
    assert np.shares_memory(view.data, y.data)
    with pytest.raises(RuntimeError, match=r"trim_zeros made a view.*clone"):
        y += 1
    np.testing.assert_array_equal(y.numpy(), X)
    del view
    y += 1
    np.testing.assert_array_equal(y.numpy(), X + 1)


def test_another_array_is_no_view_any_more() -> None:
    w = ec.tensor(2.0, requires_grad=True)
    x = ec.tensor(np.zeros(3))
    view = x[1:]
    x.data = np.ones(3)
    x *= w
    assert (x.tolist(), view.tolist()) == ([2, 2, 2], [0, 0])


def test_dead_views_are_forgotten_and_keep_nothing_alive() -> None:
    y = ec.tensor(np.ones(2), requires_grad=True) * 1
    live = [y[:1] for _ in range(40)]
    for _ in range(5000):
        y[1:]
    assert len(y._version) < 200
    y += 1
    assert all(v.tolist() == [2] for v in live)

    def add_views() -> None:
        kept = [y[:1] for _ in range(500)]
        seen.extend(kept)

    seen: list[Any] = []
    threads = [threading.Thread(target=add_views) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    y += 1
    assert len(seen) == 4000
    assert all(v.tolist() == [3] for v in seen)


def test_an_augmented_assignment_at_an_index_makes_one_copy() -> None:
    y = ec.tensor(np.ones((4, 2)), requires_grad=True) * 1
    y[1] += 1
    names = []
    node = y._node
    while node is not None and node.op is not None:
        names.append(node.op.name)
        node = node.parents[0]
    assert names == ["write", "multiply"]
