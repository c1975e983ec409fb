"""The algorithm `local` for unshared filters: exact integers, tails, borders of arrays, bits, refusals."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    SLOTS,
    Problem,
    arranged,
    examples,
    fenced,
    integers,
    layouts,
    operands,
    problems,
    reals,
    seeds,
    surrounded,
)

import eagerconv as ec
from eagerconv import geometry
from eagerconv.kernels_cpu import local, threads
from eagerconv.record import Request

DTYPES = [np.float32, np.float64]
every_slot = pytest.mark.parametrize("slot", SLOTS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def solved(p: Problem, slot: str, x: Any, w: Any, y: Any) -> Any:
    return p.call(ec, slot, x, w, y, algorithm="local").numpy()


def check(p: Problem, slot: str, dtype: Any, seed: int = 0) -> None:
    """Small integers give the oracle's numbers, whatever the order of additions."""
    x, w, y = operands(p, seed, dtype)
    result = solved(p, slot, x, w, y)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, p.solve(slot, x, w, y))


# ----- values -----


@every_slot
@given(p=problems(unshared=True), dtype=st.sampled_from(DTYPES), seed=seeds)
@examples(150)
def test_exact_integers(slot: str, p: Problem, dtype: Any, seed: int) -> None:
    check(p, slot, dtype, seed)


# Elements of a filter: below, at and above one vector, groups of vectors, and what is multiplied at once.
TAILS = [
    (1, (1, 1)), (1, (1, 7)), (2, (2, 2)), (1, (3, 3)), (3, (1, 5)), (4, (2, 2)), (1, (17, 1)), (1, (7, 7)), (3, (7, 7)),
    (1, (1, 33)), (23, (5, 5)), (3, (14, 40)), (1, (2, 530)),
]  # fmt: skip


@pytest.mark.lanes
@every_slot
@every_dtype
@pytest.mark.parametrize(("cin", "kernel"), TAILS)
def test_filters_of_every_length(slot: str, dtype: Any, cin: int, kernel: tuple[int, int]) -> None:
    check(Problem(2, 1, cin, 2, (kernel[0] + 1, kernel[1] + 2), kernel, unshared=True), slot, dtype)


@every_slot
@pytest.mark.parametrize(("batch", "cout"), list(itertools.product([1, 3, 4, 5, 9], [1, 3, 4, 7, 8])))
def test_blocks_of_images_and_filters_and_what_remains(slot: str, batch: int, cout: int) -> None:
    check(Problem(batch, 2, 3, cout, (6, 19), (2, 3), "half", unshared=True), slot, np.float32)


@every_slot
@every_dtype
@pytest.mark.parametrize("flip", [False, True])
def test_batches_and_rows_larger_than_the_buffers(slot: str, dtype: Any, flip: bool) -> None:
    p = Problem(75, 1, 60, 2, (3, 23), (2, 3), (0, 1), flip=flip, unshared=True)
    assert 1 < cut(p, dtype).images < 75
    assert 1 < cut(p, dtype).positions < p.out[-1]
    assert 1 < cut(p, dtype).channels <= 60
    check(p, slot, dtype)


@every_slot
@pytest.mark.parametrize(("stride", "dilation"), list(itertools.product([1, 2, 3, 4, 6, 9], [1, 2, 3, 4, 6, 50])))
@pytest.mark.parametrize("flip", [False, True])
def test_residue_classes(slot: str, stride: int, dilation: int, flip: bool) -> None:
    size = 2 * dilation + 9 * stride + 1
    p = Problem(2, 1, 2, 3, (size,), (3,), [(2, 1)], (stride,), (dilation,), flip, unshared=True)
    check(p, slot, np.float32)


@every_slot
@given(p=problems(unshared=True, empty=False), seed=seeds, layout=layouts, dtype=st.sampled_from(DTYPES))
@examples(60)
def test_layouts_of_images(slot: str, p: Problem, seed: int, layout: str, dtype: Any) -> None:
    x, w, y = operands(p, seed, dtype)
    x, y = arranged(x, layout), arranged(y, layout)
    np.testing.assert_array_equal(solved(p, slot, x, w, y), p.solve(slot, x, w, y))


@every_slot
@given(p=problems(unshared=True, empty=False), seed=seeds)
@examples(10)
def test_derivatives_to_second_order(slot: str, p: Problem, seed: int) -> None:
    p = replace(p, batch=min(p.batch, 2), cin=min(p.cin, 2), cout=min(p.cout, 2))
    x, w, y = operands(p, seed, np.float64)
    pairs = {"forward": (x, w), "grad_inputs": (y, w), "grad_weights": (x, y)}
    places = {"forward": (0, 1), "grad_inputs": (2, 1), "grad_weights": (0, 2)}[slot]

    def function(a: Any, b: Any) -> Any:
        given = [None, None, None]
        given[places[0]], given[places[1]] = a, b
        return p.call(ec, slot, *given, algorithm="local")

    ec.check_grads(function, pairs[slot], 2, ("fwd", "rev"), eps=1.0)


# ----- memory -----


@every_slot
@every_dtype
@given(p=problems(unshared=True, empty=False), seed=seeds)
@examples(30)
def test_what_lies_around_the_arrays_is_not_read_into_results(slot: str, dtype: Any, p: Problem, seed: int) -> None:
    arrays = operands(p, seed, dtype)
    x, y = (surrounded(a)[0] for a in (arrays[0], arrays[2]))
    w = np.full((p.groups * p.cout + 2, *arrays[1].shape[1:]), np.nan, dtype)[1:-1]  # NaN before and after
    w[...] = arrays[1]
    np.testing.assert_array_equal(solved(p, slot, x, w, y), p.solve(slot, *arrays))


@pytest.mark.skipif(sys.platform != "linux", reason="forbids pages with Linux' mprotect")
@every_slot
@every_dtype
@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize(("cin", "kernel"), [(1, (1, 1)), (1, (1, 7)), (1, (3, 3)), (3, (4, 4)), (3, (7, 7))])
def test_nothing_is_read_outside_arrays(slot: str, dtype: Any, at_end: bool, cin: int, kernel: Any) -> None:
    p = Problem(3, 1, cin, 5, (kernel[0] + 2, kernel[1] + 17), kernel, unshared=True)
    for flip in (False, True):
        q = replace(p, flip=flip)
        arrays = operands(q, 1, dtype)
        x, w, y = (fenced(a, at_end) for a in arrays)
        np.testing.assert_array_equal(solved(q, slot, x, w, y), q.solve(slot, *arrays))


def cut(p: Problem, dtype: Any) -> local.Blocks:
    return local._blocks(request(p, "y", dtype))


def request(p: Problem, slot: Any, dtype: Any, n_threads: int = 1) -> Request:
    """What the forward function asks of the algorithm, but for another slot."""
    spec = geometry.forward(
        f"conv{p.ndim}d", p.ndim, p.input_shape, p.filter_shape, None, None, p.border_mode, p.subsample, p.flip,
        p.dilation, p.groups, p.unshared,
    )  # fmt: skip
    a, b = (local.contiguous(spec.shape(s)) for s in local.OPERANDS[slot])
    return Request(spec, slot, np.dtype(dtype), (a, b), n_threads)


@pytest.mark.plans
@every_slot
@pytest.mark.parametrize("dtype", DTYPES)
def test_workspace_is_as_large_as_told_and_bounded(slot: str, dtype: Any) -> None:
    for p in (
        Problem(1, 1, 1, 1, (5,), (3,), unshared=True),
        Problem(300, 1, 70, 2, (3, 40), (3, 3), unshared=True),
        Problem(2, 1, 1, 1, (5000,), (4000,), unshared=True),
        Problem(2, 1, 2, 1, (3, 700), (2, 3), dilation=(1, 300), unshared=True),
    ):
        threads._local.workspace = np.empty(0, np.uint8)
        solved(p, slot, *operands(p, 0, dtype))
        asked = request(p, {"forward": "y", "grad_inputs": "x", "grad_weights": "w"}[slot], dtype, ec.get_num_threads())
        said = local.LOCAL.workspace(asked)
        assert 0 < threads._local.workspace.size - 64 <= said
        assert said <= 3 * local.BUFFER * ec.get_num_threads()


# ----- bits -----


@pytest.fixture
def all_threads() -> Any:
    before = ec.get_num_threads()
    yield
    ec.set_num_threads(before)


BITS = [
    Problem(6, 2, 5, 6, (9, 40), (3, 3), "half", unshared=True),
    Problem(40, 1, 60, 9, (70,), (9,), 2, unshared=True),
    Problem(3, 1, 1, 8, (6, 7, 30), (3, 2, 3), "half", (1, 1, 2), (1, 2, 1), unshared=True),
    Problem(3, 1, 1, 2, (1200,), (600,), 9, unshared=True),
]


@every_slot
@every_dtype
@pytest.mark.parametrize("p", BITS)
def test_bits_do_not_depend_on_threads(slot: str, dtype: Any, p: Problem, all_threads: None) -> None:
    x, w, y = reals(p, 1, dtype)
    results = []
    for n in range(1, threads.available_threads() + 1):
        ec.set_num_threads(n)
        results += [solved(p, slot, x, w, y), solved(p, slot, x, w, y)]
    assert all(np.array_equal(results[0], r) for r in results)


class Backwards(threads.Launch):
    """Runs the tasks one by one, the last one first."""

    def __call__(self, x: Any, w: Any, y: Any) -> None:
        ((kernel, tasks),) = self.stages
        work = np.empty(self.work + 64, np.uint8)
        addresses = (x.ctypes.data, w.ctypes.data, y.ctypes.data, work.ctypes.data, self._table_address)
        for task in reversed(tasks):
            kernel.call(task, task + 1, 0, *addresses)


@every_slot
@given(p=problems(unshared=True, empty=False), seed=seeds, n_threads=st.sampled_from([2, 5, 64]))
@examples(60)
def test_tasks_leave_each_other_alone(slot: str, p: Problem, seed: int, n_threads: int) -> None:
    x, w, y = operands(p, seed, np.float64)
    given = {"forward": ("y", x, w), "grad_inputs": ("x", y, w), "grad_weights": ("w", x, y)}
    solved_for, a, b = given[slot]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "Launch", Backwards)
        result = local.LOCAL.plan(request(p, solved_for, np.float64, n_threads))(a, b)
    np.testing.assert_array_equal(result, p.solve(slot, x, w, y))


@every_dtype
@pytest.mark.parametrize("slot", ["forward", "grad_inputs"])
@pytest.mark.parametrize("p", BITS)
def test_bits_of_an_image_do_not_depend_on_its_company(slot: str, dtype: Any, p: Problem) -> None:
    x, w, y = reals(p, 1, dtype)
    together = solved(p, slot, x, w, y)
    for n in range(p.batch):
        alone = solved(replace(p, batch=1), slot, x[n : n + 1], w, y[n : n + 1])
        assert np.array_equal(alone[0], together[n])


@pytest.mark.plans
def test_work_is_cut_into_tasks_for_every_thread() -> None:
    p = Problem(2, 1, 3, 8, (40, 40), (3, 3), unshared=True)
    for slot, few in itertools.product(("y", "x", "w"), (False, True)):
        q = replace(p, size=(3, 6)) if few else p
        tasks = local._inputs_tasks if slot == "x" else local._forward_tasks
        alone, together = (tasks(request(q, slot, np.float32, n))[-1] for n in (1, 16))
        assert alone <= together
        assert together >= (2 if few else 12) or slot == "x"


# ----- choice -----


@pytest.mark.plans
@every_slot
def test_it_is_chosen_for_unshared_layers_and_refuses_others(slot: str) -> None:
    p = Problem(2, 1, 8, 8, (20, 20), (3, 3), unshared=True)
    assert ec.explain(p.call, ec, slot, *operands(p, 0, np.float32))[0].chosen == "local"
    with pytest.raises(ec.AlgorithmError, match="local is for unshared filters"):
        solved(replace(p, unshared=False), slot, *operands(replace(p, unshared=False), 0, np.float32))


def test_filters_in_pieces_are_copied_first() -> None:
    p = Problem(2, 1, 8, 8, (20, 20), (3, 3), unshared=True)
    x, w, _ = operands(p, 0, np.float64)
    turned = np.ascontiguousarray(w.swapaxes(-1, -2)).swapaxes(-1, -2)
    (told,) = ec.explain(ec.conv2d, x, turned, unshared=True)
    assert told.chosen == "local"
    assert next(c.workspace for c in told.candidates if c.name == "local") > w.nbytes
    np.testing.assert_array_equal(ec.conv2d(x, turned, unshared=True).numpy(), p.solve("forward", x, w, None))


def test_outer_axes_of_filters_may_lie_anyhow() -> None:
    p = Problem(2, 2, 2, 3, (6, 20), (3, 3), unshared=True)
    x, w, y = operands(p, 0, np.float64)
    shared = np.broadcast_to(w[:, :1, :1], w.shape)  # the same filter at every position, with stride zero
    for filters in (w[::-1], w[:, ::-1, ::-1], shared):
        np.testing.assert_array_equal(solved(p, "forward", x, filters, y), p.solve("forward", x, filters, y))
        np.testing.assert_array_equal(solved(p, "grad_inputs", x, filters, y), p.solve("grad_inputs", x, filters, y))


def test_longest_sums_here_are_exact_in_float32() -> None:
    longest = Problem(2, 1, 3, 2, (15, 42), (14, 40), unshared=True)
    assert max(longest.terms(slot) for slot in SLOTS) * abs(integers((100,), 0)).max() ** 2 < 2**24
