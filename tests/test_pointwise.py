"""Large arrays: what NumPy would give, on all threads, without memory of their own where a result is at hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import eagerconv as ec
from eagerconv.autograd import rules
from eagerconv.kernels_cpu import formulas, pointwise, pooling, reduce, table, threads

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
SHAPES = [(8, 64, 32, 32), (3, 37, 65, 67), (600, 500), (300_001,)]


def numbers(shape, dtype, seed=0):
    """Normal numbers with zeros of both signs, infinities and NaN among them."""
    x = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    x.flat[3:200:17], x.flat[5], x.flat[-1], x.flat[-7], x.flat[40] = 0, np.nan, np.nan, np.inf, -np.inf
    return x


@pytest.fixture(params=[0, 1 << 60], ids=["streamed", "cached"])
def _stored(request, monkeypatch):
    monkeypatch.setattr(formulas, "STREAM_BYTES", request.param)


@pytest.mark.usefixtures("_stored")
@every_dtype
@pytest.mark.parametrize("shape", SHAPES)
def test_values_are_numpys(shape, dtype):
    a, b = numbers(shape, dtype), numbers(shape, dtype, 1)
    places = {4: [np.s_[:1, :, :1, :1], np.s_[0, :, :1, :1], np.s_[:, :1, :1, :1], np.s_[:, :, :1, :1]],
              2: [np.s_[:, :1]]}  # fmt: skip
    columns = [b[place] for place in places.get(a.ndim, [])]
    if a.ndim == 4 and a.shape[-1] >= pointwise.SHORTEST:
        columns += [b[0, 0, :, :1], b[0, 0, 0], b[0, 0], b[0]]
    for other in (b, *columns):
        other = np.ascontiguousarray(other)
        with np.errstate(invalid="ignore"):
            sums, products = a + other, a * other
        for found, expected in (
            (pointwise.add(a, other), sums),
            (pointwise.add(other, a), sums),
            (pointwise.multiply(a, other), products),
        ):
            np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(pointwise.relu(a), np.maximum(a, 0))
    np.testing.assert_array_equal(pointwise.gate(a, b), np.where(b > 0, a, 0))


@every_dtype
@pytest.mark.parametrize("kept", [0, 1])
def test_sums_over_all_axes_but_one(dtype, kept):
    x = np.random.default_rng(0).standard_normal((9, 37, 65, 67)).astype(dtype)
    axes = tuple(i - x.ndim if i % 2 else i for i in range(x.ndim) if i != kept)
    true = x.sum(axes, dtype=np.longdouble)
    largest = float(np.abs(x).sum(axes).max())
    found, wide = reduce.sum(x, axes), reduce.sum(x, axes, keepdims=True)
    assert found.shape == true.shape
    assert wide.shape == x.sum(axes, keepdims=True).shape
    # Sums of parts, each of a 128th of a row, then of the parts: fewer roundings in a row than this.
    assert np.abs(found - true).max() <= largest * np.finfo(dtype).eps * 40
    assert np.array_equal(wide.ravel(), found)


def test_numpy_is_asked_where_it_is_as_good_or_all_there_is():
    a = np.ones((8, 64, 32, 32), np.float32)
    for x, y in (
        (a[:1], a[:1]), (a.astype(np.float16), a.astype(np.float16)), (a.astype(int), a.astype(int)),
        (a[:, :, ::2], a[:, :, ::2]), (a, a.astype(np.float64)), (a, 2.0), (a, a[:, :1]), (a, a[..., :1]),
        (a, a[:, :, :, 0, None]), (a[:1].transpose(0, 1, 3, 2), a[:1]), (a, np.ones(32, np.float32)),
    ):  # fmt: skip
        assert pointwise.add(x, y) is None
    assert pointwise.relu(a[:1]) is None
    assert pointwise.gate(a, a[:1]) is None
    assert reduce.sum(a, (0, 2, 3), np.float64) is None
    assert reduce.sum(a, (0, 2, 2)) is None
    with pytest.raises(ValueError, match="duplicate"):
        ec.sum(ec.asarray(a), axis=(0, 2, 2))


@pytest.mark.skipif(threads.available_threads() < 2, reason="needs two processors")
def test_bits_do_not_depend_on_the_number_of_threads():
    x = numbers((7, 33, 61, 43), np.float32)
    x[~np.isfinite(x)] = 1
    found = []
    try:
        for count in (1, 2):
            threads.set_num_threads(count)
            t = ec.tensor(x, requires_grad=True)
            y = ec.relu(t * x[0, :, :1, :1] + t)
            y.backward(x)
            found.append((y.numpy(), t.grad.numpy(), ec.sum(t, axis=(0, 2, 3)).numpy()))
    finally:
        threads.set_num_threads(threads.available_threads())
    for a, b in zip(*found, strict=True):
        assert a.tobytes() == b.tobytes()


def test_gradients_of_large_arrays_are_those_of_their_parts():
    rng = np.random.default_rng(0)
    x, w, g = (rng.standard_normal((40, 30, 16, 16)).astype("f") for _ in range(3))
    column = rng.standard_normal((30, 1, 1)).astype("f")

    def gradients(x, w, g):
        leaves = [ec.tensor(v, requires_grad=True) for v in (x, w, column)]
        a, b, c = leaves
        return [t.numpy() for t in ec.grad(ec.relu(a * c + b) * b, leaves, g)]

    whole = gradients(x, w, g)
    parts = [gradients(*(v[i : i + 4] for v in (x, w, g))) for i in range(0, 40, 4)]
    assert x.size >= pointwise.LARGE > x[:4].size
    for i in range(2):
        np.testing.assert_array_equal(whole[i], np.concatenate([part[i] for part in parts]))
    np.testing.assert_allclose(whole[2], sum(part[2] for part in parts), rtol=1e-4, atol=1e-3)


def test_operations_on_large_arrays_and_products_of_chain_rules_are_given_to_the_kernels(monkeypatch):
    taken = []

    def counted(name, function):
        def call(*arrays, **params):
            found = function(*arrays, **params)
            if found is not None:
                taken.append(name)
            return found

        return call

    for name, row in rules.table().items():
        if row.large is not None:
            monkeypatch.setattr(row, "large", counted(name, row.large))
    x = np.ones((8, 32, 32, 32), np.float32)
    assert x.size >= pointwise.LARGE
    a, b = ec.tensor(x, requires_grad=True), ec.tensor(x[0, :, :1, :1], requires_grad=True)
    y = ec.relu(a * a + b)
    assert taken == ["multiply", "add", "relu"]
    y.backward(x)
    assert sorted(taken[3:]) == ["add", "gate", "multiply", "multiply", "sum"]
    ec.tensor(x.reshape(512, 512)) @ x.reshape(512, 512)
    assert taken[8:] == ["matmul"]


def test_gate_lets_nothing_through_where_it_is_shut():
    x = ec.tensor([1.0, np.nan, np.inf, 3.0], requires_grad=True)
    y = rules.gate(x, ec.tensor([1.0, -1.0, 0.0, np.nan]))
    assert y.numpy().tolist() == [1, 0, 0, 0]
    ec.check_grads(lambda a, b: rules.gate(a, b), (np.array([1.0, 2.0]), np.array([0.5, -0.5])), order=2)


# ----- Bias and activation of a convolution -----


@pytest.mark.parametrize("size", [5, 96], ids=["small", "large"])
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
def test_an_activation_is_that_of_the_composition(size, transpose, has_bias):
    rng = np.random.default_rng(0)
    x, w, bias = (rng.standard_normal(shape) for shape in ((2, 16, size, size), (16, 16, 3, 3), (16,)))
    function = ec.conv2d_transpose if transpose else ec.conv2d
    given = [x, w, bias][: 2 + has_bias]

    def fused(x, w, bias=None):
        return function(x, w, border_mode=1, bias=bias, activation="relu")

    def composed(x, w, bias=None):
        y = function(x, w, border_mode=1)
        return ec.relu(y if bias is None else y + ec.reshape(bias, (16, 1, 1)))

    results = []
    for f in (fused, composed):
        leaves = [ec.tensor(v, requires_grad=True) for v in given]
        y = f(*leaves)
        first = ec.grad(y, leaves, np.cos(y.numpy()), create_graph=True)
        second = ec.grad(first[0], leaves[1], np.sin(x))  # of x: through the gradient wrt inputs, to the filters
        out, tangent = ec.jvp(f, tuple(given), tuple(np.cos(v) for v in given))
        results.append([t.numpy() for t in (y, *first, *second, out, tangent)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (results[0][0] == 0).any()


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_activations_pass_the_gradient_check(ndim):
    rng = np.random.default_rng(ndim)
    x, w = rng.standard_normal((2, 4, *(4,) * ndim)), rng.standard_normal((4, 2, *(2,) * ndim))
    convolve = getattr(ec, f"conv{ndim}d")
    for options in ({"num_groups": 2}, {"num_groups": 2, "unshared": True}):
        filters = w
        if "unshared" in options:
            filters = rng.standard_normal((4, *(3,) * ndim, 2, *(2,) * ndim))
        ec.check_grads(
            lambda x, w, b, options=options: convolve(x, w, bias=b, activation="relu", **options),
            (x, filters, rng.standard_normal(4)),
            order=2,
            modes=("fwd", "rev"),
        )


def test_integers_halves_and_anomalies_are_rectified_too():
    x, w = np.arange(-8, 8).reshape(1, 1, 16), np.ones((1, 1, 1))
    found = ec.conv1d(x > 0, w > 0, bias=[False], activation="relu")
    assert (found.dtype, found.numpy().sum()) == (bool, 7)
    for dtype in (np.int32, np.float16):
        y = ec.conv1d(x.astype(dtype), w.astype(dtype), bias=np.array([2], dtype), activation="relu")
        assert y.dtype == dtype
        assert y.numpy().ravel().tolist() == [max(v + 2, 0) for v in range(-8, 8)]
    huge = np.full((1, 1, 3), 3e38, np.float32)
    with ec.detect_anomaly(), pytest.raises(FloatingPointError, match="add"), np.errstate(over="ignore"):
        ec.conv1d(huge, w.astype("f"), bias=huge[0, 0, :1], activation="relu")


def test_activations_that_there_are_not():
    with pytest.raises(ValueError, match="conv1d: activation must be None or 'relu', got 'gelu'; apply another one"):
        ec.conv1d(np.ones((1, 1, 3)), np.ones((1, 1, 2)), activation="gelu")
    with pytest.raises(TypeError, match="needs real numbers, not complex128"):
        ec.conv1d(np.ones((1, 1, 3), complex), np.ones((1, 1, 2)), activation="relu")


# ----- Max pooling -----


@every_dtype
@pytest.mark.parametrize("ndim", [1, 2])
def test_max_pooling_of_large_arrays_is_that_of_small_ones(dtype, ndim):
    rng = np.random.default_rng(0)
    size = (130, 70) if ndim == 2 else (9000,)
    x = rng.integers(-3, 4, (2, 20, *size)).astype(dtype)  # many ties
    x.flat[::1001] = np.nan
    pooled = {1: ec.max_pool1d, 2: ec.max_pool2d}[ndim]
    for window, stride, pad in itertools.product((2, 3), (1, 2, 3), (0, 1)):
        if pad >= window:
            continue
        found = []
        for limit in (pooling.LEAST, x.size + 1):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(pooling, "LEAST", limit)
                t = ec.tensor(x, requires_grad=True)
                y = pooled(t, window, stride, pad)
                (g,) = ec.grad(y, t, np.arange(y.size, dtype=dtype).reshape(y.shape) % 7)
                found.append((y.numpy(), g.numpy()))
        for a, b in zip(*found, strict=True):
            np.testing.assert_array_equal(a, b)


def test_tables_of_streaming_agree():
    assert formulas.STREAM_BYTES == table.STREAM_BYTES


@every_dtype
def test_arithmetic_of_large_arrays_with_numbers_and_with_one_another_is_numpys(dtype, monkeypatch):
    a, b = numbers((70, 65, 67), dtype), numbers((70, 65, 67), dtype, 1)
    taken = []
    evaluate = formulas.evaluate
    monkeypatch.setattr(formulas, "evaluate", lambda name, *rest: taken.append(name) or evaluate(name, *rest))
    t, u = ec.asarray(a), ec.asarray(b)
    with np.errstate(all="ignore"):
        for number in (3, 0.1, -7.25, 0):
            for function in (
                lambda x, n=number: x + n, lambda x, n=number: n + x, lambda x, n=number: x - n, lambda x, n=number: n - x,
                lambda x, n=number: x * n, lambda x, n=number: n * x, lambda x, n=number: x / n, lambda x, n=number: n / x,
            ):  # fmt: skip
                np.testing.assert_array_equal(function(t).data, function(a))
        np.testing.assert_array_equal((t - u).data, a - b)
        for numbers_ in (b[:, :1, :1].copy(), b[0, :, :1].copy(), b[:, :, :1].copy()):
            np.testing.assert_array_equal((t - ec.asarray(numbers_)).data, a - numbers_)
            np.testing.assert_array_equal((t / ec.asarray(numbers_)).data, a / numbers_)
        np.testing.assert_array_equal((t / u).data, a / b)
        np.testing.assert_array_equal(abs(t).data, abs(a))
        np.testing.assert_array_equal((-t).data, -a)
        np.testing.assert_array_equal((t + 2**60).data, a + 2**60)
    expected = {
        "plus_number",
        "times_number",
        "over_number",
        "number_less",
        "subtract",
        "divide",
        "absolute",
        "negative",
    }
    assert set(taken) == expected
