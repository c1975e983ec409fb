"""Laws that convolutions obey whoever computes them: adjoints, linearity, symmetries, determinism, derivatives."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from strategies import SLOTS, Problem, examples, integers, operands, problems, reals, seeds, tiers

import eagerconv as ec

Array = npt.NDArray[Any]

WHOLE_FORM = [algorithm for algorithm in ec.algorithms.TABLE["cpu"] if len(algorithm.slots) == 3]
ALGORITHMS = tuple(algorithm.name for algorithm in WHOLE_FORM)
EXACT = tuple(algorithm.name for algorithm in WHOLE_FORM if algorithm.exact)
every_algorithm = pytest.mark.parametrize("algorithm", tiers(ALGORITHMS))
every_shared_algorithm = pytest.mark.parametrize("algorithm", [name for name in EXACT if name != "local"])
every_exact_algorithm = pytest.mark.parametrize("algorithm", EXACT)  # laws hold without a rounding error
every_slot = pytest.mark.parametrize("slot", SLOTS)
WHOLE = np.float32  # holds these sums exactly, and its kernels are those that quick tests compile


def solve(p: Problem, slot: str, x: Any, w: Any, y: Any, algorithm: str = "auto") -> Array:
    """Ask the library; a problem that a forced algorithm refuses is passed over."""
    try:
        result: Array = p.call(ec, slot, x, w, y, algorithm=algorithm).numpy()
    except ec.algorithms.AlgorithmError:
        assume(False)
    return result


def inner(a: Array, b: Array) -> int:
    """Compute <a, b> in whole numbers, which know no rounding."""
    return int((a.astype(np.int64) * b.astype(np.int64)).sum())


# ----- one trilinear form -----


@every_exact_algorithm
@given(p=problems(), seed=seeds)
@examples(100)
def test_the_three_are_adjoint(algorithm: str, p: Problem, seed: int) -> None:
    p = p.suited(algorithm)
    # <conv(x, w), y> = <x, grad_inputs(y, w)> = <w, grad_weights(x, y)>
    x, w, y = operands(p, seed, WHOLE)
    form = inner(solve(p, "forward", x, w, y, algorithm), y)
    assert inner(x, solve(p, "grad_inputs", x, w, y, algorithm)) == form
    assert inner(w, solve(p, "grad_weights", x, w, y, algorithm)) == form


@every_exact_algorithm
@every_slot
@given(p=problems(), seed=seeds, scale=seeds.map(lambda n: n % 7 - 3))
@examples(40)
def test_linear_in_both_operands(algorithm: str, slot: str, p: Problem, seed: int, scale: int) -> None:
    p = p.suited(algorithm)
    first, second = operands(p, seed, WHOLE), operands(p, seed + 9, WHOLE)
    for n in range(3):  # the operand of the slot itself is ignored: linear in nothing
        if n == ("grad_inputs", "grad_weights", "forward").index(slot):
            continue
        mixed, other = list(first), list(first)
        mixed[n], other[n] = first[n] + scale * second[n], second[n]
        expected = solve(p, slot, *first, algorithm) + scale * solve(p, slot, *other, algorithm)
        np.testing.assert_array_equal(solve(p, slot, *mixed, algorithm), expected)


# ----- symmetries -----


@every_exact_algorithm
@given(p=problems(), seed=seeds)
@examples(40)
def test_groups_are_convolutions_side_by_side(algorithm: str, p: Problem, seed: int) -> None:
    p = p.suited(algorithm)
    x, w, y = operands(p, seed, WHOLE)
    one = replace(p, groups=1)
    parts = []
    for g in range(p.groups):
        ins, outs = slice(g * p.cin, (g + 1) * p.cin), slice(g * p.cout, (g + 1) * p.cout)
        alone = x[:, ins], w[outs], y[:, outs]
        parts.append([solve(one, slot, *alone, algorithm) for slot in SLOTS])
    for slot, axis, blocks in zip(SLOTS, (1, 1, 0), zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(solve(p, slot, x, w, y, algorithm), np.concatenate(blocks, axis))


@every_exact_algorithm
@given(p=problems(), seed=seeds)
@examples(40)
def test_flip_is_a_reversed_kernel(algorithm: str, p: Problem, seed: int) -> None:
    p = p.suited(algorithm)
    x, w, y = operands(p, seed, WHOLE)
    p, other = replace(p, flip=True), replace(p, flip=False)
    kernel = tuple(range(-p.ndim, 0))
    back = np.flip(w, kernel)
    for slot in ("forward", "grad_inputs"):
        np.testing.assert_array_equal(solve(p, slot, x, w, y, algorithm), solve(other, slot, x, back, y, algorithm))
    weights = solve(other, "grad_weights", x, w, y, algorithm)
    np.testing.assert_array_equal(solve(p, "grad_weights", x, w, y, algorithm), np.flip(weights, kernel))


@every_shared_algorithm
@given(p=problems(unshared=False), seed=seeds)
@examples(40)
def test_unshared_filters_that_are_equal_are_shared(algorithm: str, p: Problem, seed: int) -> None:
    x, w, y = operands(p, seed, WHOLE)
    local = replace(p, unshared=True)  # any algorithm: most refuse it
    places = tuple(range(1, 1 + p.ndim))
    filters = np.broadcast_to(np.expand_dims(w, places), local.filter_shape)  # (O, *out, I/G, *kernel)
    for slot in ("forward", "grad_inputs"):
        shared = solve(p, slot, x, w, y, algorithm)
        np.testing.assert_array_equal(solve(local, slot, x, filters, y), shared)
    summed = solve(local, "grad_weights", x, filters, y).sum(places)
    np.testing.assert_array_equal(solve(p, "grad_weights", x, w, y, algorithm), summed)


@every_shared_algorithm
@given(p=problems((2,), unshared=False), seed=seeds)
@examples(30)
def test_an_axis_of_one_may_be_left_out(algorithm: str, p: Problem, seed: int) -> None:
    # A 2-D problem with one row is the 1-D problem of its columns.
    p = replace(p, size=(1, p.size[1]), kernel=(1, p.kernel[1]), border_mode="same")
    line = replace(p, size=p.size[1:], kernel=p.kernel[1:], subsample=p.subsample[1:], dilation=p.dilation[1:])
    x, w, y = operands(p, seed, WHOLE)
    flat = x[:, :, 0], w[:, :, 0], y[:, :, 0]
    for slot in SLOTS:
        result = solve(p, slot, x, w, y, algorithm)[:, :, 0]
        np.testing.assert_array_equal(result, solve(line, slot, *flat, algorithm))


# ----- the same bits -----


@every_algorithm
@pytest.mark.parametrize("slot", ["forward", "grad_inputs"])
@given(p=problems(), seed=seeds, extra=seeds.map(lambda n: n % 6))
@examples(40)
def test_batch_neighbours_change_no_bit(algorithm: str, slot: str, p: Problem, seed: int, extra: int) -> None:
    p = p.suited(algorithm)
    p = replace(p, batch=p.batch + extra)
    x, w, y = reals(p, seed, np.float32)
    together = solve(p, slot, x, w, y, algorithm)
    for n in range(p.batch):
        alone = solve(replace(p, batch=1), slot, x[n : n + 1], w, y[n : n + 1], algorithm)
        np.testing.assert_array_equal(together[n : n + 1], alone)


@every_algorithm
@every_slot
@pytest.mark.parametrize(
    "p",
    [Problem(9, 1, 17, 33, (21, 19), (3, 3), "half"), Problem(5, 4, 3, 5, (40, 7), (5, 2), "full", (2, 1), (1, 2))],
    ids=str,
)
def test_the_same_bits_twice(algorithm: str, slot: str, p: Problem) -> None:
    p = p.suited(algorithm)
    # Large enough for several threads; reals, so that another order of summation would show.
    numbers = reals(p, 3, np.float32)
    try:
        first = p.call(ec, slot, *numbers, algorithm=algorithm).numpy()
    except ec.algorithms.AlgorithmError as refusal:
        pytest.skip(str(refusal).rpartition(": ")[2])
    for _ in range(5):
        np.testing.assert_array_equal(p.call(ec, slot, *numbers, algorithm=algorithm).numpy(), first)


MIXED = [
    Problem(2, 1, 3, 5, (9, 8), (3, 3), "half"),
    Problem(3, 2, 9, 4, (17, 5), (2, 3), 1, (2, 1)),
    Problem(1, 1, 17, 33, (12, 13), (1, 1)),
    Problem(4, 3, 1, 2, (30,), (5,), "full", (1,), (2,)),
    Problem(2, 1, 2, 3, (6, 5, 7), (3, 2, 3), "same"),
]


@every_algorithm
def test_eight_threads_at_once(algorithm: str) -> None:
    # Different problems side by side, so that a buffer that two calls share would show.
    def answer(job: tuple[Problem, str, int]) -> Array | None:
        p, slot, seed = job
        try:
            result: Array = p.call(ec, slot, *reals(p, seed, np.float32), algorithm=algorithm).numpy()
        except ec.algorithms.AlgorithmError:
            return None
        return result

    jobs = [(p.suited(algorithm), slot, seed) for p in MIXED for slot in SLOTS for seed in range(4)]
    alone = [answer(job) for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(answer, jobs))
    assert any(result is not None for result in alone)
    for first, second in zip(alone, together, strict=True):
        np.testing.assert_array_equal(first, second)


DIGESTS = """
import hashlib, os
import eagerconv as ec
from strategies import SLOTS, reals
from test_conv_laws import ALGORITHMS, MIXED

def digest():
    found = hashlib.sha256()
    for algorithm in ALGORITHMS:
        for p in MIXED:
            for slot in SLOTS:
                try:
                    found.update(p.call(ec, slot, *reals(p, 3, "f4"), algorithm=algorithm).numpy().tobytes())
                except ec.algorithms.AlgorithmError:
                    pass
    return found.hexdigest()

before = digest()
child = os.fork()
if child == 0:
    os._exit(digest() != before)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the forked child"
assert digest() == before, "the parent after the fork"
print(before)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_the_same_bits_in_every_process_thread_count_and_forked_child() -> None:
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    found = set()
    for threads, layer in [("1", "workqueue"), ("2", "default"), ("7", "workqueue")]:
        settings = {"PYTHONPATH": path, "NUMBA_NUM_THREADS": threads, "NUMBA_THREADING_LAYER": layer}
        command = [sys.executable, "-W", "ignore", "-c", DIGESTS]
        done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        found.add(done.stdout.strip())
    assert len(found) == 1


# ----- derivatives -----


def pair(slot: str, x: Array, w: Array, y: Array) -> tuple[Array, Array]:
    """Pick the two operands that `slot` takes."""
    return {"forward": (x, w), "grad_inputs": (y, w), "grad_weights": (x, y)}[slot]


def function(p: Problem, slot: str) -> Any:
    """Make a function of the two operands that `slot` takes."""
    if slot == "forward":
        return lambda x, w: p.call(ec, slot, x, w, None)
    if slot == "grad_inputs":
        return lambda y, w: p.call(ec, slot, None, w, y)
    return lambda x, y: p.call(ec, slot, x, None, y)


def derivatives(p: Problem, slot: str, x: Array, w: Array, y: Array) -> tuple[Array, Array]:
    """Ask the oracle for the gradients of <slot(a, b), c> in a and b: the form solved for the other two slots."""
    order = {
        "forward": ("grad_inputs", "grad_weights"),
        "grad_inputs": ("forward", "grad_weights"),
        "grad_weights": ("grad_inputs", "forward"),
    }
    first, second = (p.solve(other, x, w, y) for other in order[slot])
    return first, second


@every_slot
@given(p=problems(), seed=seeds)
@examples(60)
def test_pullback_is_the_oracle_of_the_other_slots(slot: str, p: Problem, seed: int) -> None:
    x, w, y = operands(p, seed, np.float64)
    cotangent = {"forward": y, "grad_inputs": x, "grad_weights": w}[slot]
    _, pullback = ec.vjp(function(p, slot), *pair(slot, x, w, y))
    for gradient, truth in zip(pullback(cotangent), derivatives(p, slot, x, w, y), strict=True):
        np.testing.assert_array_equal(gradient.numpy(), truth)


@every_slot
@given(p=problems(), seed=seeds)
@examples(60)
def test_pushforward_is_the_product_rule(slot: str, p: Problem, seed: int) -> None:
    primals = pair(slot, *operands(p, seed, np.float64))
    tangents = pair(slot, *operands(p, seed + 9, np.float64))
    f = function(p, slot)
    value, tangent = ec.jvp(f, primals, tangents)
    truth = f(tangents[0], primals[1]).numpy() + f(primals[0], tangents[1]).numpy()
    np.testing.assert_array_equal(value.numpy(), f(*primals).numpy())
    np.testing.assert_array_equal(tangent.numpy(), truth)


@every_slot
@given(p=problems(empty=False), seed=seeds)
@examples(20)
def test_check_grads_to_second_order_in_both_modes(slot: str, p: Problem, seed: int) -> None:
    # A central difference of a map linear in each operand is exact with any step; 1 rounds least.
    p = replace(p, batch=min(p.batch, 2), cin=min(p.cin, 2), cout=min(p.cout, 2))
    ec.check_grads(function(p, slot), pair(slot, *operands(p, seed, np.float64)), 2, ("fwd", "rev"), eps=1.0)


@every_slot
@given(p=problems(empty=False), seed=seeds)
@examples(15)
def test_check_grads_of_complex_numbers(slot: str, p: Problem, seed: int) -> None:
    p = replace(p, batch=min(p.batch, 2), cin=min(p.cin, 2), cout=min(p.cout, 2))
    ec.check_grads(function(p, slot), pair(slot, *operands(p, seed, np.complex128)), 2, ("fwd", "rev"), eps=1.0)


@given(p=problems(empty=False), seed=seeds)
@examples(20)
def test_check_grads_of_transposed(p: Problem, seed: int) -> None:
    keywords = p.keywords()
    keywords["input_dilation"] = keywords.pop("subsample")
    transposed = getattr(ec, f"conv{p.ndim}d_transpose")
    _, w, y = operands(p, seed, np.float64)
    ec.check_grads(lambda a, b: transposed(a, b, p.input_shape, **keywords), (y, w), 2, ("fwd", "rev"), eps=1.0)


@every_shared_algorithm
def test_backward_through_two_layers(algorithm: str) -> None:
    x, y = integers((2, 3, 6, 5), 1, np.float64), integers((2, 2, 6, 5), 2, np.float64)
    first = ec.tensor(integers((4, 3, 3, 3), 3, np.float64), requires_grad=True)
    second = ec.tensor(integers((2, 4, 3, 3), 4, np.float64), requires_grad=True)
    hidden = ec.conv2d(x, first, border_mode="half", algorithm=algorithm)
    ec.conv2d(hidden, second, border_mode="half", algorithm=algorithm).backward(y)
    p = Problem(2, 1, 4, 2, (6, 5), (3, 3), "half")
    np.testing.assert_array_equal(second.grad.numpy(), p.solve("grad_weights", hidden.numpy(), None, y))
    back = p.solve("grad_inputs", None, second.numpy(), y)
    truth = replace(p, cin=3, cout=4).solve("grad_weights", x, None, back)
    np.testing.assert_array_equal(first.grad.numpy(), truth)


@given(p=problems(empty=False), seed=seeds)
@examples(20)
def test_grad_of_grad(p: Problem, seed: int) -> None:
    # L = sum(y * conv(x, w)) is linear in w, so d/dw <dL/dx, v> = grad_weights(v, y), and d/dx of it vanishes.
    x, w, y = operands(p, seed, np.float64)
    v = integers(p.input_shape, seed + 9, np.float64)
    tx, tw = ec.tensor(x, requires_grad=True), ec.tensor(w, requires_grad=True)
    (gx,) = ec.grad((p.call(ec, "forward", tx, tw, None) * y).sum(), tx, create_graph=True)
    again = ec.grad((gx * v).sum(), (tx, tw), allow_unused=True)
    assert again[0] is None or not again[0].numpy().any()
    np.testing.assert_array_equal(again[1].numpy(), p.solve("grad_weights", v, w, y))


@given(p=problems(empty=False, unshared=False), seed=seeds)
@examples(20)
def test_grad_of_grad_of_a_square(p: Problem, seed: int) -> None:
    # L = <z, z> / 2, z = conv(x, w): the Hessian in x maps v to grad_inputs(conv(v, w), w).
    x, w, _ = operands(p, seed, np.float64)
    v = integers(p.input_shape, seed + 9, np.float64)
    tx = ec.tensor(x, requires_grad=True)
    z = p.call(ec, "forward", tx, w, None)
    (gx,) = ec.grad((z * z).sum() * 0.5, tx, create_graph=True)
    (product,) = ec.grad(gx, tx, grad_outputs=v)
    truth = p.solve("grad_inputs", None, w, p.solve("forward", v, w, None))
    np.testing.assert_array_equal(product.numpy(), truth)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_gradient_reaches_only_what_asks_for_it(ndim: int) -> None:
    p = Problem(1, 1, 2, 2, (5, 4, 3)[:ndim], (2, 2, 2)[:ndim])
    x, w, y = operands(p, 1, np.float64)
    assert not p.call(ec, "forward", x, w, y).requires_grad
    tw = ec.tensor(w, requires_grad=True)
    result = p.call(ec, "forward", x, tw, y)
    assert result.requires_grad
    result.backward(y)
    np.testing.assert_array_equal(tw.grad.numpy(), p.solve("grad_weights", x, w, y))


@every_slot
def test_float32_stays_float32_in_its_gradients(slot: str) -> None:
    p = Problem(2, 1, 2, 3, (5, 4), (2, 2))
    x, w, y = operands(p, 1, np.float32)
    a, b = (ec.tensor(operand, requires_grad=True) for operand in pair(slot, x, w, y))
    result = function(p, slot)(a, b)
    result.backward(np.ones(result.shape, np.float32))
    assert result.dtype == a.grad.dtype == b.grad.dtype == np.float32


def test_gradients_have_the_dtypes_of_their_operands() -> None:
    x = ec.tensor(integers((1, 2, 6), 1, np.float32), requires_grad=True)
    w = ec.tensor(integers((3, 2, 2), 2, np.float64), requires_grad=True)
    result = ec.conv1d(x, w)
    result.backward(np.ones(result.shape))
    assert (result.dtype, x.grad.dtype, w.grad.dtype) == (np.float64, np.float32, np.float64)


def test_terms_of_a_problem_are_counted() -> None:
    # The rounding bound of the value tests rests on this count.
    p = Problem(2, 3, 4, 5, (6, 7), (2, 3))
    ones = [np.ones(shape, np.int64) for shape in p.shapes()]
    assert [int(p.solve(slot, *ones).max()) for slot in SLOTS] == [p.terms(slot) for slot in SLOTS]
    assert p.terms("forward") == 4 * math.prod(p.kernel)
