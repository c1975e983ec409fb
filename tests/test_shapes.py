"""Shape helpers: values worked by hand, agreement with the convolutions themselves, unknown sizes, signatures, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import assume, given
from signatures import assert_follows, both_ways
from strategies import Problem, examples, problems

import eagerconv as ec

SEEDS = {
    "get_conv_output_shape": "image_shape, kernel_shape, border_mode, subsample, filter_dilation=None",
    "get_conv_shape_1axis": "image_shape, kernel_shape, border_mode, subsample, dilation=1",
    "get_conv_gradinputs_shape": "kernel_shape, top_shape, border_mode, subsample, filter_dilation=None, num_groups=1",
    "get_conv_gradinputs_shape_1axis": "kernel_shape, top_shape, border_mode, subsample, dilation",
    "get_conv_gradweights_shape": "image_shape, top_shape, border_mode, subsample, filter_dilation=None, num_groups=1, "
    "unshared=False",
    "get_conv_gradweights_shape_1axis": "image_shape, top_shape, border_mode, subsample, dilation",
    "check_conv_gradinputs_shape": "image_shape, kernel_shape, output_shape, border_mode, subsample, filter_dilation=None",
    "border_mode_to_pad": "mode, convdim, kshp",
    "assert_conv_shape": "shape",
    "assert_shape": "x, expected_shape, msg='Unexpected shape.'",
}
ONE_AXIS = ["get_conv_shape_1axis", "get_conv_gradinputs_shape_1axis", "get_conv_gradweights_shape_1axis"]


@pytest.mark.parametrize("name", SEEDS)
def test_signature_of_the_seeds(name: str) -> None:
    assert_follows(getattr(ec, name), SEEDS[name])


IMAGE, KERNEL, TOP = (2, 4, 9, 8), (6, 2, 3, 2), (2, 6, 6, 8)  # padding (1, 0), 1, dilation 2, 1; 2 groups
CALLS: dict[str, tuple[dict[str, Any], Any]] = {
    "get_conv_output_shape": (
        {"image_shape": IMAGE, "kernel_shape": KERNEL, "border_mode": ((1, 0), 1), "subsample": (1, 1),
         "filter_dilation": (2, 1)}, (2, 6, 6, 9)),
    "get_conv_shape_1axis": (
        {"image_shape": 9, "kernel_shape": 3, "border_mode": (1, 0), "subsample": 1, "dilation": 2}, 6),
    "get_conv_gradinputs_shape": (
        {"kernel_shape": KERNEL, "top_shape": TOP, "border_mode": ((1, 0), 0), "subsample": (1, 1),
         "filter_dilation": (2, 1), "num_groups": 2}, (2, 4, 9, 9)),
    "get_conv_gradinputs_shape_1axis": (
        {"kernel_shape": 3, "top_shape": 6, "border_mode": (1, 0), "subsample": 1, "dilation": 2}, 9),
    "get_conv_gradweights_shape": (
        {"image_shape": IMAGE, "top_shape": TOP, "border_mode": ((1, 0), 1), "subsample": (1, 1),
         "filter_dilation": (2, 1), "num_groups": 2, "unshared": True}, (6, 6, 8, 2, 3, 3)),
    "get_conv_gradweights_shape_1axis": (
        {"image_shape": 9, "top_shape": 6, "border_mode": (1, 0), "subsample": 1, "dilation": 2}, 3),
    "check_conv_gradinputs_shape": (
        {"image_shape": IMAGE, "kernel_shape": KERNEL, "output_shape": (2, 6, 6, 7), "border_mode": ((1, 0), 0),
         "subsample": (1, 1), "filter_dilation": (2, 1)}, True),
    "border_mode_to_pad": ({"mode": (1, (0, 2)), "convdim": 2, "kshp": (5, 2)}, ((1, 1), (0, 2))),
    "assert_conv_shape": ({"shape": (0, 0, 1, 1)}, (0, 0, 1, 1)),
    "assert_shape": ({"x": (1, 2), "expected_shape": (2,), "msg": "no"}, (1, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", SEEDS)
def test_by_position_and_by_keyword(name: str) -> None:
    values, expected = CALLS[name]
    assert both_ways(getattr(ec, name), SEEDS[name], values) == expected


# ----- one axis, worked by hand -----

BY_HAND = [
    # image, kernel, mode, stride, dilation -> output
    (7, 3, "valid", 1, 1, 5),
    (7, 3, "valid", 2, 1, 3),
    (8, 3, "valid", 2, 1, 3),
    (7, 3, "full", 1, 1, 9),
    (7, 3, "full", 1, 2, 11),
    (7, 3, "half", 1, 1, 7),
    (7, 2, "half", 1, 1, 8),
    (7, 2, "half", 1, 2, 7),
    (7, 3, 2, 3, 1, 3),
    (7, 3, (0, 2), 1, 1, 7),
    (7, 3, "same", 2, 1, 4),
    (7, 4, "same_lower", 3, 2, 3),
    (7, 3, "causal", 2, 2, 4),
    (2, 5, "valid", 1, 1, -2),  # not refused here
    (0, 1, "valid", 1, 1, 0),
]


@pytest.mark.parametrize(("image", "kernel", "mode", "stride", "dilation", "out"), BY_HAND)
def test_output_size_by_hand(image: int, kernel: int, mode: Any, stride: int, dilation: int, out: int) -> None:
    result = ec.get_conv_shape_1axis(image, kernel, mode, stride, dilation)
    assert result == out
    assert type(result) is int


@pytest.mark.parametrize("case", [case for case in BY_HAND if case[3] == 1], ids=str)
def test_the_other_two_sizes_invert_it(case: Any) -> None:
    image, kernel, mode, _, dilation, out = case
    assert ec.get_conv_gradinputs_shape_1axis(kernel, out, mode, 1, dilation) == image
    told = None if mode in ("half", "same", "same_lower", "causal") else kernel
    result = ec.get_conv_gradweights_shape_1axis(image, out, mode, 1, dilation)
    assert result == told
    assert type(result) is type(told)


def test_no_dilated_kernel_fits() -> None:
    assert ec.get_conv_gradweights_shape_1axis(7, 4, "valid", 1, 2) is None


@pytest.mark.parametrize("mode", ["valid", "full", "half", "same", 1, (1, 0)])
def test_a_stride_leaves_the_other_two_open(mode: Any) -> None:
    assert ec.get_conv_gradinputs_shape_1axis(3, 5, mode, 2, 1) is None
    assert ec.get_conv_gradweights_shape_1axis(9, 5, mode, 2, 1) is None


@pytest.mark.parametrize("name", ONE_AXIS)
@pytest.mark.parametrize("unknown", range(5))
def test_unknown_sizes(name: str, unknown: int) -> None:
    values: list[Any] = [7, 5, 1, 1, 1]
    values[unknown] = None
    assert getattr(ec, name)(*values) is None


def test_integers_of_numpy() -> None:
    n = np.int64
    assert ec.get_conv_shape_1axis(n(7), n(3), (n(1), n(0)), n(1), n(1)) == 6
    assert ec.get_conv_output_shape(np.array([2, 3, 7, 7]), [4, 3, 3, 3], n(1), np.array([2, 1])) == (2, 4, 4, 7)


# ----- whole shapes agree with what convolutions do -----


@given(p=problems())
@examples(200)
def test_output_shape(p: Problem) -> None:
    options = (p.border_mode, p.subsample, p.dilation)
    assert ec.get_conv_output_shape(p.input_shape, p.filter_shape, *options) == p.output_shape
    unknown = (None, None, *p.input_shape[2:])
    assert ec.get_conv_output_shape(unknown, (None, *p.filter_shape[1:]), *options) == (None, None, *p.out)
    if not p.unshared:
        assert ec.check_conv_gradinputs_shape(p.input_shape, p.filter_shape, p.output_shape, *options)
        wrong = (*p.output_shape[:-1], p.output_shape[-1] + 1)
        assert not ec.check_conv_gradinputs_shape(p.input_shape, p.filter_shape, wrong, *options)


@given(p=problems())
@examples(200)
def test_input_shape(p: Problem) -> None:
    options = (p.border_mode, p.subsample, p.dilation)
    known = tuple(size if s == 1 else None for size, s in zip(p.size, p.subsample, strict=True))
    shape = ec.get_conv_gradinputs_shape(p.filter_shape, p.output_shape, *options, p.groups)
    assert shape == (*p.input_shape[:2], *known)


@given(p=problems())
@examples(200)
def test_filter_shape(p: Problem) -> None:
    options = (p.border_mode, p.subsample, p.dilation)
    open_ = p.border_mode in ("half", "same", "same_lower")
    known = tuple(None if s > 1 or open_ else k for k, s in zip(p.kernel, p.subsample, strict=True))
    shape = ec.get_conv_gradweights_shape(p.input_shape, p.output_shape, *options, p.groups, p.unshared)
    assert shape == (*p.filter_shape[: -p.ndim], *known)


def test_options_for_all_axes_at_once() -> None:
    for spread, one in [((2, 2), 2), ((1, 1), 1)]:
        many = ec.get_conv_output_shape(IMAGE, KERNEL, (1, 1), spread, spread)
        assert ec.get_conv_output_shape(IMAGE, KERNEL, 1, one, one) == many
    assert ec.get_conv_output_shape(IMAGE, KERNEL, None, (1, None)) == (2, 6, None, None)
    assert ec.get_conv_output_shape(IMAGE, KERNEL, (None, 0), 1) == (2, 6, None, 7)
    assert ec.get_conv_gradinputs_shape((6, None, 3, None), (None, 6, 7, 7), "valid", 1, None, 2) == (
        None,
        None,
        9,
        None,
    )
    assert ec.get_conv_gradweights_shape((2, None, 9, 9), (None,) * 4, "valid", 1) == (None, None, None, None)


# ----- check_conv_gradinputs_shape -----


@pytest.mark.parametrize(
    ("image", "kernel", "output", "options", "fits"),
    [
        ((2, 3, 9, 9), (4, 3, 3, 3), (2, 4, 7, 7), ("valid", (1, 1)), True),
        ((2, 3, 9, 9), (4, 3, 3, 3), (2, 4, 7, 6), ("valid", (1, 1)), False),
        ((2, 3, 9, 9), (4, 3, 3, 3), (1, 4, 7, 7), ("valid", (1, 1)), False),
        ((2, 3, 9, 9), (4, 3, 3, 3), (2, 5, 7, 7), ("valid", (1, 1)), False),
        ((2, 8, 9, 9), (4, 3, 3, 3), (2, 4, 7, 7), ("valid", (1, 1)), True),  # input channels are not compared
        ((None,) * 4, (4, 3, 3, 3), (2, 4, 7, 6), ("valid", (1, 1)), True),
        ((2, 3, 9, 9), (None, 3, 3, None), (2, 5, 7, 1), ("valid", (1, 1)), True),
        ((2, 3, 9, 9), (4, 3, 3, 3), (None, None, 7, None), ("valid", (1, 1)), True),
        ([2, 3, 9, 9], [4, 3, 3, 3], [2, 4, 3, 3], ("valid", [2, 2], [2, 2]), True),
        ((2, 3, 9, 9), (4, 7, 7, 3, 3, 3), (2, 4, 7, 7), ("valid", (1, 1)), False),
        ((2, 3, 9, 9), (4, 3, 3), (2, 4, 7, 7), ("valid", (1, 1)), False),
        ((2, 3, 9, 9), (4, 3, 3, 3), (2, 4, 7), ("valid", (1, 1)), False),
        ((2, 3, 9, 9), (4, 3, 3, 3), (2, 4, 7, 7), ("valid", (1, 1, 1)), False),
        ((2, 3, 9, 9), (4, 3, 3, 3), (2, 4, 7, 7), ("valid", np.array([1, 1, 1])), False),
        ((2, 3, 9, 9), (4, 3, 3, 3), (2, 4, 7, 7), ("valid", (1, 1), (1,)), False),
        ((2, 3, 9, 9), (4, 3, 3, 3), (2, 4, 7, 7), ((0, 0, 0), (1, 1)), False),
    ],
)
def test_check(image: Any, kernel: Any, output: Any, options: Any, fits: bool) -> None:
    assert ec.check_conv_gradinputs_shape(image, kernel, output, *options) is fits


# ----- padding -----


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("valid", ((0, 0), (0, 0))),
        ("full", ((2, 2), (3, 3))),
        ("half", ((1, 1), (2, 2))),
        (2, ((2, 2), (2, 2))),
        ((1, 2), ((1, 1), (2, 2))),
        ((1, (0, 2)), ((1, 1), (0, 2))),
        (((3, 1), (0, 2)), ((3, 1), (0, 2))),
    ],
)
def test_padding_by_hand(mode: Any, expected: Any) -> None:
    assert ec.border_mode_to_pad(mode, 2, (3, 4)) == expected


@given(p=problems())
def test_padding_of_dilated_kernels(p: Problem) -> None:
    assume(p.border_mode not in ("same", "same_lower"))
    extents = [(k - 1) * d + 1 for k, d in zip(p.kernel, p.dilation, strict=True)]
    truth = oracle.pads(p.border_mode, p.size, p.kernel, p.subsample, p.dilation)
    assert ec.border_mode_to_pad(p.border_mode, p.ndim, extents) == truth


def test_padding_of_one_axis() -> None:
    assert ec.border_mode_to_pad("causal", 1, (5,)) == ((4, 0),)
    assert ec.border_mode_to_pad(1, 2, None) == ((1, 1), (1, 1))  # type: ignore[arg-type]  # kshp is not needed


# ----- checks -----


@pytest.mark.parametrize(
    "shape", [(0, 0, 1), (2, 3, 4, 5), [2, 3, None, 5], (None, None, None), (1, 1, 1, 1, 1), (0, 0), ()]
)
def test_shapes_of_convolutions(shape: Any) -> None:
    assert ec.assert_conv_shape(shape) == tuple(shape)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((-1, 3, 4, 5), r"shape\[0\] must be at least 0, got -1"),
        ((2, -1, 4, 5), r"shape\[1\]"),
        ((2, 3, 0, 5), r"shape\[2\] must be at least 1, got 0"),
        ((2, 3, 4, -2), r"shape\[3\]"),
        ((2, 3, 1.5), "shape"),
        (5, "shape"),
    ],
)
def test_shapes_of_no_convolution(shape: Any, told: str) -> None:
    with pytest.raises(ValueError, match=f"assert_conv_shape: .*{told}"):
        ec.assert_conv_shape(shape)


def test_assert_shape_gives_the_array_itself() -> None:
    tensor, array = ec.tensor(np.ones((2, 3)), requires_grad=True), np.ones((2, 3))
    for expected in [None, (None, None), (2, None), [2, 3]]:
        assert ec.assert_shape(tensor, expected) is tensor
        assert ec.assert_shape(array, expected) is array


@pytest.mark.parametrize("expected", [(2, 4), (2,), (2, 3, 1), (None, 2)])
def test_assert_shape_refuses(expected: Any) -> None:
    with pytest.raises(AssertionError, match=r"Unexpected shape\. Expected .*, got \(2, 3\)"):
        ec.assert_shape(np.ones((2, 3)), expected)
    with pytest.raises(AssertionError, match=r"^wrong images"):
        ec.assert_shape(ec.asarray(np.ones((2, 3))), expected, "wrong images")


# ----- errors -----


@pytest.mark.parametrize("name", ONE_AXIS)
@pytest.mark.parametrize(
    ("position", "value", "told"),
    [
        *[(0, v, "_shape") for v in (1.5, "7", (7,))],
        *[(1, v, "_shape") for v in (1.5, "5", [5])],
        *[(2, v, "border_mode") for v in (-1, (-1, 0), (0, -1), "VALID", 1.5, (1,), (1, 2, 3), ("half", 1))],
        *[(3, v, "subsample") for v in (0, -1, 1.5, "1")],
        *[(4, v, "dilation") for v in (0, -1, 1.5, "1")],
    ],
)
def test_bad_arguments_of_one_axis(name: str, position: int, value: Any, told: str) -> None:
    values: list[Any] = [7, 5, 1, 1, 1]
    values[position] = value
    with pytest.raises(ValueError, match=f"{name}: .*{told}"):
        getattr(ec, name)(*values)


@pytest.mark.parametrize(
    "name", [name for name in CALLS if name.endswith("_shape") and "border_mode" in CALLS[name][0]]
)
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("border_mode", (-1, 0)), ("border_mode", ((0, -1), 0)), ("border_mode", "VALID"), ("border_mode", ((1, 2, 3), 0)),
        ("subsample", (0, 1)), ("subsample", 0), ("filter_dilation", (1, -1)), ("filter_dilation", 1.5),
    ],
)  # fmt: skip
def test_bad_options(name: str, argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=argument.removeprefix("filter_")):
        getattr(ec, name)(**{**CALLS[name][0], argument: value})


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("get_conv_output_shape", {"border_mode": (1, 1, 1)}, "border_mode must have one entry per spatial axis, 2"),
        ("get_conv_output_shape", {"subsample": (1,)}, "subsample must have one entry per spatial axis, 2"),
        ("get_conv_output_shape", {"filter_dilation": (1, 1, 1)}, "filter_dilation must have one entry"),
        ("get_conv_output_shape", {"image_shape": (2, 3)}, "image_shape must have 3 or more entries"),
        ("get_conv_output_shape", {"image_shape": 7}, "image_shape must have 3 or more entries"),
        ("get_conv_output_shape", {"kernel_shape": (4, 3, 3)}, "kernel_shape must have 4 entries"),
        ("get_conv_output_shape", {"kernel_shape": (4, 3, 3, "3")}, "kernel_shape"),
        ("get_conv_gradinputs_shape", {"kernel_shape": (4, 3, 3)}, "kernel_shape must have 4 entries"),
        ("get_conv_gradinputs_shape", {"num_groups": 0}, "num_groups must be an int >= 1"),
        ("get_conv_gradweights_shape", {"num_groups": 1.5}, "num_groups"),
        ("get_conv_gradweights_shape", {"top_shape": (2, 6, 6, 8, 9)}, "top_shape must have 4 entries"),
        ("get_conv_gradweights_shape", {"unshared": None}, "unshared"),
        ("border_mode_to_pad", {"mode": (1, 1, 1)}, "border_mode"),
        ("border_mode_to_pad", {"mode": ((1, 1, 1), 1)}, "border_mode"),
        ("border_mode_to_pad", {"mode": -1}, "border_mode"),
        ("border_mode_to_pad", {"mode": (-1, 0)}, "border_mode"),
        ("border_mode_to_pad", {"mode": "VALID"}, "border_mode"),
        ("border_mode_to_pad", {"mode": None}, "border_mode"),
        ("border_mode_to_pad", {"mode": "causal"}, "border_mode"),
        ("border_mode_to_pad", {"mode": "same"}, "depends on the input"),
        ("border_mode_to_pad", {"mode": "half", "kshp": (3,)}, "kshp must have one int per spatial axis, 2"),
        ("border_mode_to_pad", {"mode": "full", "kshp": (3, None)}, "kshp"),
        ("border_mode_to_pad", {"convdim": 4}, "convdim must be 1, 2 or 3"),
    ],
)
def test_arguments_that_do_not_go_together(name: str, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: .*{told}"):
        getattr(ec, name)(**{**CALLS[name][0], **changes})
