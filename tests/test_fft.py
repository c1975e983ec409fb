"""The algorithm `fft`: its normal form, values and published error, bounded memory, bits, and where it is chosen."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SLOTS, Problem, examples, operands, problems, seeds

import eagerconv as ec
from eagerconv import geometry
from eagerconv.kernels_cpu import fft
from eagerconv.kernels_cpu.fft import FFT, Line
from eagerconv.record import OPERANDS, Request
from eagerconv.spec import ConvSpec, Slot

Array = npt.NDArray[Any]
SLOT: dict[str, Slot] = dict(zip(SLOTS, ("y", "x", "w"), strict=True))
dtypes = st.sampled_from(sorted(FFT.dtypes))


def spec_of(p: Problem) -> ConvSpec:
    options = (p.border_mode, p.subsample, p.flip, p.dilation, p.groups, p.unshared)
    return geometry.forward(f"conv{p.ndim}d", p.ndim, p.input_shape, p.filter_shape, None, None, *options)


def request_of(p: Problem, slot: Slot, dtype: Any, threads: int = 1) -> Request:
    spec = spec_of(p)
    a, b = (np.empty(spec.shape(operand)) for operand in OPERANDS[slot])
    return Request(
        spec, slot, np.dtype(dtype), (tuple(s // 8 for s in a.strides), tuple(s // 8 for s in b.strides)), threads
    )


def solve(p: Problem, slot: str, x: Array, w: Array, y: Array) -> Array:
    result = p.call(ec, slot, x, w, y, algorithm="fft")
    assert isinstance(result, ec.Tensor)
    return result.numpy()


def assert_rounds_to(result: Array, truth: Array, dtype: str) -> None:
    assert result.dtype == np.dtype(dtype)
    assert result.shape == truth.shape
    rounded = np.rint(result.real) + 1j * np.rint(result.imag) if np.iscomplexobj(result) else np.rint(result)
    np.testing.assert_array_equal(rounded, truth)


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Cut small problems into many tiles and blocks of everything: channels, groups, images, columns."""
    monkeypatch.setattr(fft, "TILE_SIZES", {1: (12,), 2: (6,), 3: (4,)})
    monkeypatch.setattr(fft, "FILTER_BYTES", 2**15)
    monkeypatch.setattr(fft, "TILE_BYTES", 2**15)
    monkeypatch.setattr(fft, "BLOCK_BYTES", 2**12)
    fft.layout.cache_clear()
    yield
    fft.layout.cache_clear()


# ----- geometry -----


@given(
    start=st.integers(-9, 9),
    step=st.sampled_from([-3, -2, -1, 1, 2, 3]),
    count=st.integers(0, 9),
    size=st.integers(1, 9),
)
def test_the_part_of_a_line_inside_an_array(start: int, step: int, count: int, size: int) -> None:
    axis = np.arange(1, size + 1)
    truth = [axis[i] if 0 <= i < size else 0 for i in range(start, start + step * count, step)]
    line = Line(start, step, count)
    for turned, expected in ((line, truth), (line.backwards(), truth[::-1])):
        found = np.zeros(count, int)
        places, indices = turned.inside(size)
        found[places] = axis[indices]
        assert found.tolist() == expected


@given(p=problems((1,), empty=False, unshared=False))
def test_the_phases_are_the_trilinear_form(p: Problem) -> None:
    # Every product x[i] * w[k] * y[o] of the form belongs to one pair of phases, and there to i = o' + k'.
    spec = spec_of(p)
    (axis,) = fft.normal(spec)
    form = {
        (o * spec.stride[0] + k * spec.step[0] + spec.origin[0], k, o)
        for o in range(spec.out[0])
        for k in range(spec.kernel[0])
    }
    found = []
    for ro, rk in itertools.product(range(axis.outs), range(axis.taps)):
        x, w, y = axis.x(ro, rk), axis.w(rk), axis.y(ro)
        for o, k in itertools.product(range(axis.out), range(axis.kernel)):
            found.append((x.start + x.step * (o + k), w.start + w.step * k, y.start + y.step * o))
    kept = [(i, k, o) for i, k, o in found if 0 <= k < spec.kernel[0] and 0 <= o < spec.out[0]]
    assert len(kept) == len(set(kept))
    assert set(kept) == form


# ----- values -----


@pytest.mark.parametrize("slot", SLOTS)
@given(p=problems(unshared=False), seed=seeds, dtype=dtypes)
@examples(80)
def test_integers_after_rounding(slot: str, p: Problem, seed: int, dtype: str) -> None:
    x, w, y = operands(p, seed, dtype)
    assert_rounds_to(solve(p, slot, x, w, y), p.solve(slot, x, w, y), dtype)


MANY_BLOCKS = [
    Problem(5, 1, 70, 9, (40,), (5,), "half"),
    Problem(3, 2, 3, 5, (33,), (9,), ((7, 3),), (2,), (3,), False),
    Problem(4, 3, 4, 3, (17, 19), (3, 4), "full", (1, 2), (2, 1)),
    Problem(40, 1, 2, 2, (6,), (3,)),
    Problem(9, 7, 1, 2, (13, 11), (4, 2), "half", (2, 2), (2, 2), False),
    Problem(2, 2, 3, 2, (9, 8, 7), (3, 2, 2), "same", (1, 2, 1), (1, 1, 2)),
]


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize("pointwise", [0, 8, 1000])
@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("p", MANY_BLOCKS, ids=str)
def test_many_blocks(monkeypatch: pytest.MonkeyPatch, slot: str, pointwise: int, p: Problem) -> None:
    monkeypatch.setattr(fft, "POINTWISE", pointwise)
    plan = fft.layout(spec_of(p), SLOT[slot], np.dtype(np.float64))
    assert plan.columns > plan.tiles or p.batch > plan.images
    ec.algorithms._planned.cache_clear()
    x, w, y = operands(p, 3, np.float64)
    assert_rounds_to(solve(p, slot, x, w, y), p.solve(slot, x, w, y), "float64")
    ec.algorithms._planned.cache_clear()


@pytest.mark.usefixtures("tiny_blocks")
def test_the_blocks_of_these_tests_cut_every_axis() -> None:
    plans = [(p, fft.layout(spec_of(p), slot, np.dtype(float))) for p in MANY_BLOCKS for slot in SLOT.values()]
    assert any(plan.groups < p.groups for p, plan in plans)
    assert any(plan.cin < p.cin for p, plan in plans)
    assert any(plan.cout < p.cout for p, plan in plans)
    assert any(1 < plan.images < p.batch for p, plan in plans)
    assert any(1 < plan.tiles < plan.columns for _, plan in plans)


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize(
    "p",
    [
        Problem(1, 1, 1, 1, (30_000,), (1024,)),
        Problem(1, 1, 2, 2, (70, 90), (31, 47), "half"),
        Problem(2, 4, 1, 1, (56, 56), (31, 31), "half"),
        Problem(1, 1, 2, 3, (200, 40), (15, 3), "half", (4, 1), (1, 5)),
    ],
    ids=str,
)
def test_large_kernels_agree_with_gemm(slot: str, p: Problem) -> None:
    x, w, y = operands(p, 1, np.float64)
    assert_rounds_to(solve(p, slot, x, w, y), p.call(ec, slot, x, w, y, algorithm="gemm").numpy(), "float64")


# ----- the published error -----

MAGNITUDES = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "positive": lambda rng, shape: rng.random(shape),
    "equal": lambda rng, shape: np.full(shape, 0.1),
    "signs": lambda rng, shape: np.sign(rng.standard_normal(shape)),
    "alternating": lambda rng, shape: np.full(shape, 1 / 3) * (-1.0) ** np.arange(shape[-1]),
    "24 orders of magnitude": lambda rng, shape: rng.standard_normal(shape) * 10.0 ** rng.uniform(-12, 12, shape),
    "a spike above noise": lambda rng, shape: (
        rng.standard_normal(shape) * np.where(rng.random(shape) < 0.001, 1e6, 1e-3)
    ),
    "one number": lambda rng, shape: np.where(np.arange(math.prod(shape)) == 3, 1.1, 0).reshape(shape),
}

ACCURACY = {
    "2-D": Problem(2, 1, 8, 6, (40, 30), (7, 7), "half"),
    "2-D, large": Problem(1, 1, 2, 3, (80, 70), (31, 31), "half"),
    "1-D, long": Problem(1, 1, 1, 1, (20_000,), (1024,)),
    "3-D": Problem(1, 1, 3, 2, (14, 14, 14), (5, 5, 5), "half"),
    "strided, grouped": Problem(2, 2, 3, 4, (40, 40), (9, 9), "half", (2, 3), (3, 1)),
    "512 channels": Problem(1, 1, 512, 3, (12, 12), (5, 5), "half"),
    "512 filters": Problem(1, 1, 3, 512, (12, 12), (5, 5), "half"),
    "512 images": Problem(512, 1, 2, 2, (9, 9), (4, 4)),
}


def scale(p: Problem, slot: Slot, a: Array, b: Array) -> Array:
    """max|a| * sum|b|, the sum over what makes one channel of the result."""
    sums = abs(b).astype(float)
    if slot == "y":
        each = sums.reshape(len(b), -1).sum(1)[None]  # per filter
    elif slot == "x":
        each = sums.reshape(p.groups, p.cout, p.cin, -1).sum((1, 3)).reshape(1, -1)  # per input channel
    else:
        each = sums.sum((0, *range(2, b.ndim)))[:, None]  # per filter, over all images and places
    return float(abs(a).max()) * each.reshape(*each.shape, *(1,) * p.ndim)


@pytest.mark.parametrize("name", ACCURACY)
@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize(("dtype", "wide"), [("float32", "float64"), ("complex64", "complex128"), ("float64", None)])
def test_the_error_is_below_the_published_bound(dtype: str, wide: str | None, slot: str, name: str) -> None:
    p, s = ACCURACY[name], SLOT[slot]
    request = request_of(p, s, dtype)
    bound = FFT.error(request)
    assert bound < (1e-4 if wide else 2e-13)
    run = FFT.plan(request)
    rng = np.random.default_rng(5)
    kinds = list(itertools.product(MAGNITUDES.values(), repeat=2))
    for first, second in [kinds[i] for i in rng.permutation(len(kinds))[: 64 if wide else 8]]:
        pair = [f(rng, request.spec.shape(o)) for f, o in zip((first, second), OPERANDS[s], strict=True)]
        turn = np.exp(0.7j) if dtype.startswith("c") else 1
        a, b = ((n * turn).astype(dtype) for n in pair)
        if wide:  # the same sums with an error smaller by nine orders of magnitude
            truth = FFT.plan(request_of(p, s, wide))(a.astype(wide), b.astype(wide))
        else:
            truth = ec.algorithms.run(request.spec, s, a, b, ec.algorithms.Policy(require="gemm"))
        room = bound * scale(p, s, a, b) + p.terms(slot) * np.finfo(wide or dtype).eps * scale(p, s, a, b)
        assert (abs(run(a, b) - truth) <= room).all(), (first, second)


def test_infinity_spoils_a_tile_and_no_other() -> None:
    x, w = np.ones((1, 1, 400_000)), np.ones((1, 1, 300))
    clean = ec.conv1d(x, w, algorithm="fft").numpy()
    x[0, 0, 1000] = np.inf
    plan = fft.layout(spec_of(Problem(1, 1, 1, 1, (400_000,), (300,))), "y", np.dtype(float))
    spoilt = ec.conv1d(x, w, algorithm="fft").numpy()
    assert not np.isfinite(spoilt[..., 701:1001]).any()
    assert plan.columns > 2
    np.testing.assert_array_equal(spoilt[..., 2 * plan.valid[0] :], clean[..., 2 * plan.valid[0] :])


# ----- memory -----


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize(
    "p",
    [
        Problem(1, 1, 1, 1, (1_500_000,), (500,)),
        Problem(4, 1, 32, 32, (40, 40), (9, 9), "half"),
        Problem(3, 40, 1, 1, (60, 60), (31, 31), "half"),
        Problem(40, 1, 4, 3, (32, 32), (9, 9), "half", (2, 2)),
        Problem(1, 1, 200, 160, (12, 12), (9, 9), "half"),
        Problem(1, 1, 4, 4, (24, 24, 24), (9, 9, 9), "half"),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_the_workspace_is_what_is_promised(dtype: str, slot: str, p: Problem) -> None:
    request = request_of(p, SLOT[slot], dtype)
    a, b = (np.ones(request.spec.shape(operand), dtype) for operand in OPERANDS[SLOT[slot]])
    run = FFT.plan(request)
    fft._scratch.memory = np.empty(0, np.uint8)  # what earlier contractions left
    tracemalloc.start()
    try:
        result = run(a, b)
        peak = tracemalloc.get_traced_memory()[1] - result.nbytes
    finally:
        tracemalloc.stop()
    promised = FFT.workspace(request)
    assert fft._scratch.memory.size == promised <= fft.LIMIT
    assert peak <= promised + 500_000  # NumPy's own buffers: three times 8192 numbers


@pytest.mark.parametrize("slot", SLOTS)
def test_the_workspace_does_not_grow_with_the_image(slot: str) -> None:
    for size in (10**4, 10**6, 10**9):
        request = request_of_long(size, SLOT[slot])
        assert FFT.refuses(request) is None
        assert FFT.workspace(request) <= fft.LIMIT


def request_of_long(size: int, slot: Slot) -> Request:
    spec = spec_of(Problem(8, 1, 4, 4, (size,), (1000,)))
    return Request(spec, slot, np.dtype(np.float64), ((1, 1, 1), (1, 1, 1)), 1)


def test_a_kernel_too_large_for_the_workspace_is_refused() -> None:
    p = Problem(1, 1, 1, 1, (300, 300, 300), (250, 250, 250))
    spec = spec_of(p)
    request = Request(spec, "y", np.dtype(np.float64), ((1,) * 5, (1,) * 5), 1)
    assert "do not fit" in (FFT.refuses(request) or "")


# ----- bits -----

NEIGHBOURS = [
    Problem(7, 1, 6, 5, (20, 20), (9, 9), "half"),
    Problem(7, 1, 48, 40, (12, 12), (7, 7), "half"),
    Problem(7, 6, 1, 1, (20, 20), (9, 9), "half"),
    Problem(7, 2, 2, 2, (700,), (64,), "half", (2,), (3,)),
    Problem(7, 1, 3, 3, (40_000,), (100,)),
]


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("slot", SLOTS[:2])
@pytest.mark.parametrize("p", NEIGHBOURS, ids=str)
def test_an_image_has_the_same_bits_in_any_company(p: Problem, slot: str, dtype: str) -> None:
    rng = np.random.default_rng(2)
    x, w, y = (rng.standard_normal(shape).astype(dtype) for shape in p.shapes())
    together = solve(p, slot, x, w, y)
    for some in ([3], [6, 0], [1, 2, 3, 4, 5]):
        fewer = Problem(len(some), *(getattr(p, f) for f in list(p.__dataclass_fields__)[1:]))
        np.testing.assert_array_equal(solve(fewer, slot, x[some], w, y[some]), together[some])


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("p", NEIGHBOURS, ids=str)
def test_bits_do_not_depend_on_threads(p: Problem, slot: str) -> None:
    rng = np.random.default_rng(2)
    a, b = (rng.standard_normal(spec_of(p).shape(operand)) for operand in OPERANDS[SLOT[slot]])
    one, four = (FFT.plan(request_of(p, SLOT[slot], float, threads))(a, b) for threads in (1, 4))
    np.testing.assert_array_equal(one, four)


# ----- choice -----


@pytest.mark.plans
def test_auto_takes_it_for_large_kernels_and_not_for_small_ones() -> None:
    def chosen(x: tuple[int, ...], w: tuple[int, ...], **options: Any) -> str | None:
        conv = getattr(ec, f"conv{len(x) - 2}d")
        return ec.explain(conv, np.ones(x, np.float32), np.ones(w, np.float32), border_mode="half", **options)[0].chosen

    assert chosen((1, 16, 128, 128), (16, 16, 63, 63)) == "fft"
    assert chosen((1, 1, 2**18), (1, 1, 1024)) == "fft"
    assert chosen((1, 16, 64, 64), (16, 16, 3, 3)) != "fft"
    with ec.using(exact=True):
        assert chosen((1, 1, 2**18), (1, 1, 1024)) != "fft"
    with ec.using(tolerance=1e-9):
        assert chosen((1, 1, 2**18), (1, 1, 1024)) != "fft"
    with ec.using(workspace=100_000):
        assert chosen((1, 1, 2**18), (1, 1, 1024)) != "fft"


def test_unshared_is_refused() -> None:
    with pytest.raises(ec.AlgorithmError, match="fft does not know unshared"):
        ec.conv1d(np.ones((1, 1, 4)), np.ones((1, 3, 1, 2)), unshared=True, algorithm="fft")
