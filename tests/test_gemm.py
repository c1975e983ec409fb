"""The algorithm `gemm` where its parts meet: tiles, chunks of channels, panels, segments of pixels, phases, strips."""

from __future__ import annotations

import numpy as np
import pytest
from strategies import SLOTS, Problem, arranged, operands

import eagerconv as ec
from eagerconv import geometry
from eagerconv.kernels_cpu import gemm, panels
from eagerconv.record import OPERANDS, Request

PROBLEMS = {
    "several tiles and phases, panels of three and of two vectors": Problem(
        2, 1, 5, 75, (37, 41), (3, 2), (1, 0), (2, 3)
    ),
    "more channels than one chunk has": Problem(1, 1, 500, 20, (6, 7), (3, 1), 1),
    "1x1, several images in a tile": Problem(9, 1, 700, 40, (7, 7), (1, 1)),
    "1x1, images shorter than a vector": Problem(9, 2, 21, 13, (2, 3), (1, 1)),
    "1x1, panels of filters short and long": Problem(2, 1, 40, 35, (20, 20), (1, 1)),
    "1x1, more channels than one chunk has": Problem(2, 1, 5000, 30, (5, 7), (1, 1)),
    "1x1 with channels a page apart": Problem(1, 1, 40, 33, (32, 32), (1, 1)),
    "1x1, strided": Problem(3, 1, 30, 50, (15, 14), (1, 1), "valid", (2, 3)),
    "1x1, more filters than channels, in groups": Problem(3, 2, 20, 50, (9, 10), (1, 1)),
    "1x1, strided, whose last pixels no filter meets": Problem(2, 2, 18, 21, (16, 23), (1, 1), "valid", (3, 5)),
    "1x1, strided, three axes": Problem(2, 1, 9, 12, (5, 6, 9), (1, 1, 1), "valid", (2, 1, 4)),
    "1x1 whose stride and padding leave the size": Problem(2, 1, 5, 9, (5, 5), (1, 1), 2, (2, 2)),
    "few channels on both sides": Problem(3, 1, 3, 2, (40, 75), (5, 4), 2, (1, 1)),
    "few inputs, many phases": Problem(2, 1, 3, 30, (45, 50), (7, 7), 3, (3, 2)),
    "groups of some channels": Problem(2, 3, 12, 20, (9, 21), (3, 3), 1),
    "long and dilated": Problem(2, 1, 20, 33, (1500,), (3,), (16,), (1,), (8,)),
    "three axes": Problem(1, 1, 9, 17, (7, 12, 13), (3, 2, 3), (1, 0, 1), (1, 2, 1)),
    "taps beyond one block of depth": Problem(1, 1, 2, 9, (30, 31), (21, 20), 10),
}


@pytest.mark.lanes
@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_whole_numbers_give_exact_results(name, slot):
    problem = PROBLEMS[name]
    x, w, y = (a.astype(np.float32) for a in operands(problem, 7))
    expected = problem.solve(slot, *(a.astype(np.float64) for a in (x, w, y)))
    assert np.array_equal(problem.call(ec, slot, x, w, y, algorithm="gemm").numpy(), expected)


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize(
    "layout", ["channels-last", "Fortran", "reversed", "zero stride, columns", "zero stride, batch"]
)
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)])
def test_operands_are_read_where_they_lie(kernel, layout, slot):
    problem = Problem(2, 1, 20, 24, (9, 10), kernel, "same")
    x, w, y = (arranged(a.astype(np.float32), layout) for a in operands(problem, 3))
    expected = problem.solve(slot, *(a.astype(np.float64) for a in (x, w, y)))
    assert np.array_equal(problem.call(ec, slot, x, w, y, algorithm="gemm").numpy(), expected)


def request_of(x, w, threads=2, slot="y", **options):
    arguments = {"border_mode": "valid", "subsample": 1} | options
    spec = geometry.forward(
        "conv2d", 2, x, w, None, None, arguments["border_mode"], arguments["subsample"], False, 1, 1, False
    )
    a, b = {"y": (x, w), "x": (spec.shape("y"), w), "w": (x, spec.shape("y"))}[slot]
    strides = tuple(tuple(s // 4 for s in np.empty(shape, np.float32).strides) for shape in (a, b))
    return Request(spec, slot, np.dtype(np.float32), strides, threads)


@pytest.mark.plans
def test_unpadded_images_are_not_copied():
    assert gemm.cut(request_of((2, 64, 28, 28), (64, 64, 3, 3))).fields["IN_PLACE"] == 1
    assert gemm.cut(request_of((2, 64, 28, 28), (64, 64, 3, 3), border_mode=1)).fields["IN_PLACE"] == 0


@pytest.mark.plans
def test_one_tap_meets_panels_of_pixels_whose_size_the_images_do_not_tell():
    cuts = [panels.cut(request_of((n, 512, 28, 28), (64, 512, 1, 1))) for n in (1, 8, 64)]
    assert len({cut.shared for cut in cuts}) == 1
    assert cuts[-1].work <= 2 * cuts[0].work
    for problem, slot in (((3, 3), "y"), ((1, 1), "w")):
        assert not panels.suits(request_of((2, 64, 28, 28), (64, 64, *problem), slot=slot))


@pytest.mark.parametrize("slot", ["y", "x"])
def test_chunks_of_channels_and_parts_of_filters_change_no_bit(slot, monkeypatch):
    request = request_of((3, 70, 9, 11), (37, 70, 1, 1), 1, slot)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(request.spec.shape(s)).astype(np.float32) for s in OPERANDS[slot])
    expected = panels.plan(request, 1)(a, b)
    monkeypatch.setattr(panels, "PANEL_BYTES", 1 << 10)
    monkeypatch.setattr(panels, "SUMS_BYTES", 1 << 12)
    monkeypatch.setattr(panels, "cut", panels.cut.__wrapped__)
    assert panels.cut(request).fields["CHUNK"] < 37
    assert panels.cut(request).fields["PART"] < panels.cut(request).fields["PANELS"]
    assert panels.plan(request, 1)(a, b).tobytes() == expected.tobytes()


@pytest.mark.plans
def test_the_order_of_sums_does_not_depend_on_the_number_of_threads():
    # Only the tiling of pixels and the panels of a task may: not the tiles and segments that weights are summed in.
    for x, w in (((8, 16, 40, 40), (24, 16, 5, 5)), ((4, 300, 14, 14), (200, 300, 1, 1))):
        cuts = [gemm.cut(request_of(x, w, threads, "w")) for threads in (1, 2, 7, 64)]
        assert all(cut == cuts[0] for cut in cuts)


@pytest.mark.plans
def test_workspaces_do_not_grow_with_the_images():
    small, large = (gemm.cut(request_of((n, 32, n * 16, n * 16), (64, 32, 3, 3), border_mode=1)) for n in (8, 32))
    assert large.work <= 2 * small.work
    assert large.shared == small.shared
