"""Every bad argument ends in a documented exception that names the argument, and garbage never does worse."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import oracle
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import SLOTS, examples, integers, problems, seeds, tiers

import eagerconv as ec

Array = npt.NDArray[Any]

EITHER = (TypeError, ValueError)


# ----- a valid call of each kind, to be spoilt -----


@dataclass(frozen=True)
class Call:
    """One public function with arguments that are right, all of them by keyword."""

    name: str
    arguments: dict[str, Any] = field(hash=False)

    def __call__(self, **changes: Any) -> Any:
        return getattr(ec, self.name)(**{**self.arguments, **changes})


def ones(*shape: int) -> Array:
    return np.ones(shape, np.float32)


def calls(ndim: int) -> dict[str, Call]:
    """Four calls of 2 images of (7, 7, 7)[:ndim], 2 groups, 4 channels to 6, kernels of 3: outputs of 5."""
    sevens, threes, fives = (7,) * ndim, (3,) * ndim, (5,) * ndim
    x, w, y = ones(2, 4, *sevens), ones(6, 2, *threes), ones(2, 6, *fives)
    conv = f"conv{ndim}d"
    made = [
        Call(conv, {"input": x, "filters": w, "num_groups": 2}),
        Call(f"{conv}_transpose", {"input": y, "filters": w, "num_groups": 2}),
        Call(f"{conv}_grad_wrt_inputs", {"output_grad": y, "filters": w, "input_shape": x.shape, "num_groups": 2}),
        Call(f"{conv}_grad_wrt_weights", {"input": x, "output_grad": y, "filter_shape": w.shape, "num_groups": 2}),
    ]
    return {call.name: call for call in made}


CALLS = {**calls(1), **calls(2), **calls(3)}
every_call = pytest.mark.parametrize("name", CALLS)


def stride_name(name: str) -> str:
    return "input_dilation" if name.endswith("_transpose") else "subsample"


def ndim_of(name: str) -> int:
    return int(name[4])


@every_call
def test_the_calls_are_right_before_they_are_spoilt(name: str) -> None:
    assert CALLS[name]() is not None


# ----- arguments that are wrong in every function -----

# For an axis tuple of the right length, `n` ones with the first replaced: (2, 1, 1) from 2.
BORDER_MODES: list[Any] = [
    "VALID",
    "causality",
    "",
    None,
    1.0,
    -1,
    float("nan"),
    b"valid",
    {"valid"},
]
BORDER_ENTRIES: list[Any] = [-1, 1.5, "half", "valid", None, (-1, 0), (0, -1), (1, 2, 3), (1,), (0.5, 0), ("a", "b")]
WHOLE_POSITIVE: list[Any] = [0, -1, 1.5, "2", None, (), float("nan")]
WHOLE_ENTRIES: list[Any] = [0, -1, 1.5, "2", None, (1, 1)]
GROUPS: list[Any] = [0, -1, 4, 1.5, "2", None, (1,)]


@every_call
@pytest.mark.parametrize("value", BORDER_MODES, ids=repr)
def test_border_mode(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match="border_mode"):
        CALLS[name](border_mode=value)


@every_call
@pytest.mark.parametrize("entry", BORDER_ENTRIES, ids=repr)
def test_border_mode_entry(name: str, entry: Any) -> None:
    with pytest.raises(ValueError, match="border_mode"):
        CALLS[name](border_mode=(entry,) + (1,) * (ndim_of(name) - 1))


@every_call
@pytest.mark.parametrize("extra", [-1, 1], ids=["short", "long"])
def test_border_mode_length(name: str, extra: int) -> None:
    with pytest.raises(ValueError, match="border_mode"):
        CALLS[name](border_mode=(1,) * (ndim_of(name) + extra))


@every_call
@pytest.mark.parametrize("argument", ["subsample", "filter_dilation"])
@pytest.mark.parametrize("value", WHOLE_POSITIVE, ids=repr)
def test_stride_and_dilation(name: str, argument: str, value: Any) -> None:
    argument = stride_name(name) if argument == "subsample" else argument
    with pytest.raises(ValueError if value in (0, -1, ()) else EITHER, match=argument):
        CALLS[name](**{argument: value})


@every_call
@pytest.mark.parametrize("argument", ["subsample", "filter_dilation"])
@pytest.mark.parametrize("entry", WHOLE_ENTRIES, ids=repr)
def test_stride_and_dilation_entry(name: str, argument: str, entry: Any) -> None:
    argument = stride_name(name) if argument == "subsample" else argument
    with pytest.raises(ValueError if entry in (0, -1) else EITHER, match=argument):
        CALLS[name](**{argument: (entry,) + (1,) * (ndim_of(name) - 1)})


@every_call
@pytest.mark.parametrize("argument", ["subsample", "filter_dilation"])
@pytest.mark.parametrize("extra", [-1, 1], ids=["short", "long"])
def test_stride_and_dilation_length(name: str, argument: str, extra: int) -> None:
    argument = stride_name(name) if argument == "subsample" else argument
    with pytest.raises(ValueError, match=argument):
        CALLS[name](**{argument: (1,) * (ndim_of(name) + extra)})


@every_call
@pytest.mark.parametrize("value", GROUPS, ids=repr)
def test_num_groups(name: str, value: Any) -> None:
    with pytest.raises(ValueError if value in (0, -1, 4) else EITHER, match="num_groups"):
        CALLS[name](num_groups=value)


@every_call
def test_algorithm_that_does_not_exist(name: str) -> None:
    with pytest.raises(ValueError, match=r"fastest.*direct"):
        CALLS[name](algorithm="fastest")


@every_call
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("stride", "subsample"), ("padding", "border_mode"), ("dilation", "filter_dilation"), ("groups", "num_groups")],
)
def test_keywords_of_other_libraries(name: str, theirs: str, ours: str) -> None:
    ours = stride_name(name) if ours == "subsample" else ours
    with pytest.raises(TypeError, match=f"{theirs}.*{ours}"):
        CALLS[name](**{theirs: 1})


@every_call
def test_keyword_that_nobody_knows(name: str) -> None:
    with pytest.raises(TypeError, match="wibble"):
        CALLS[name](wibble=1)


@every_call
@pytest.mark.parametrize("theirs", ["imshp_logical", "kshp_logical"])
def test_logical_shapes_of_the_seeds(name: str, theirs: str) -> None:
    with pytest.raises(ValueError if name == "conv2d" else EITHER, match=theirs):
        CALLS[name](**{theirs: (7, 7)})


@every_call
def test_missing_operands(name: str) -> None:
    with pytest.raises(TypeError, match="missing"):
        getattr(ec, name)()


# ----- operands -----


def array_arguments(name: str) -> list[str]:
    return [key for key, value in CALLS[name].arguments.items() if isinstance(value, np.ndarray)]


SPOILT_ARRAYS = [(name, argument) for name in CALLS for argument in array_arguments(name)]
every_array = pytest.mark.parametrize(("name", "argument"), SPOILT_ARRAYS)


@every_array
@pytest.mark.parametrize("how", ["fewer", "more", "scalar", "vector"])
def test_number_of_dimensions(name: str, argument: str, how: str) -> None:
    right = CALLS[name].arguments[argument]
    wrong = {"fewer": right[0], "more": right[None], "scalar": np.float32(1), "vector": right.ravel()}[how]
    with pytest.raises(EITHER, match=argument):
        CALLS[name](**{argument: wrong})


@pytest.mark.parametrize("name", [name for name in CALLS if "filters" in CALLS[name].arguments])
def test_unshared_needs_more_dimensions(name: str) -> None:
    with pytest.raises(EITHER, match="filters"):
        CALLS[name](unshared=True)


@every_array
@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        object(),
        [[1.0], [1.0, 2.0]],
        {"a": 1},
        np.array([[["a"]]]),
        np.array([[[None]]]),
        np.zeros((2, 4, 7), "M8[s]"),
        np.zeros((2, 4, 7), "V8"),
        np.zeros((2, 4, 7), object),
    ],
    ids=["None", "str", "object", "ragged", "dict", "str array", "object array", "dates", "void", "object zeros"],
)
def test_what_is_no_array_of_numbers(name: str, argument: str, value: Any) -> None:
    with pytest.raises(EITHER, match=f"{name}: {argument}"):
        CALLS[name](**{argument: value})


@every_array
@pytest.mark.parametrize("dtype", [object, "U1", "M8[s]", [("a", "f4")]], ids=str)
def test_dtype_of_the_right_shape(name: str, argument: str, dtype: Any) -> None:
    wrong = np.zeros(CALLS[name].arguments[argument].shape, dtype)
    with pytest.raises(EITHER, match=f"{name}: {argument}.*numbers"):
        CALLS[name](**{argument: wrong})


@dataclass(frozen=True)
class Mismatch:
    """One way in which arguments do not go together; `word` is what the message must name."""

    name: str
    changes: dict[str, Any] = field(hash=False)
    word: str

    def __str__(self) -> str:
        told = {k: f"array {v.shape}" if isinstance(v, np.ndarray) else v for k, v in self.changes.items()}
        return f"{self.name} {told}"


MISMATCHES = [
    # channels and groups
    Mismatch("conv2d", {"input": ones(2, 5, 7, 7)}, "num_groups|input"),
    Mismatch("conv2d", {"input": ones(2, 6, 7, 7)}, "input|filters"),
    Mismatch("conv2d", {"filters": ones(6, 4, 3, 3)}, "filters"),
    Mismatch("conv2d", {"filters": ones(5, 2, 3, 3)}, "num_groups|filters"),
    Mismatch("conv2d", {"filters": ones(6, 0, 3, 3)}, "filters"),
    Mismatch("conv1d", {"filters": ones(6, 1, 3)}, "filters"),
    Mismatch("conv3d", {"filters": ones(6, 3, 3, 3, 3)}, "filters"),
    Mismatch("conv2d_transpose", {"input": ones(2, 4, 5, 5)}, "input|filters"),
    Mismatch("conv2d_transpose", {"filters": ones(4, 2, 3, 3)}, "filters"),
    Mismatch("conv2d_grad_wrt_inputs", {"output_grad": ones(2, 4, 5, 5)}, "output_grad|filters"),
    Mismatch("conv2d_grad_wrt_inputs", {"filters": ones(6, 1, 3, 3)}, "filters|input_shape"),
    Mismatch("conv2d_grad_wrt_inputs", {"input_shape": (2, 6, 7, 7)}, "input_shape"),
    Mismatch("conv2d_grad_wrt_weights", {"output_grad": ones(2, 5, 5, 5)}, "num_groups|output_grad"),
    Mismatch("conv2d_grad_wrt_weights", {"input": ones(2, 3, 7, 7)}, "num_groups|input"),
    # batches
    Mismatch("conv2d_grad_wrt_weights", {"input": ones(3, 4, 7, 7)}, "input|output_grad"),
    Mismatch("conv2d_grad_wrt_inputs", {"input_shape": (3, 4, 7, 7)}, "input_shape"),
    Mismatch("conv2d_transpose", {"output_shape": (3, 4, 7, 7)}, "output_shape"),
    Mismatch("conv2d_transpose", {"output_shape": (2, 6, 7, 7)}, "output_shape"),
    # no place for the kernel
    Mismatch("conv1d", {"filters": ones(6, 2, 8)}, "output"),
    Mismatch("conv2d", {"filters": ones(6, 2, 8, 3)}, "output"),
    Mismatch("conv2d", {"filter_dilation": (1, 4)}, "output"),
    Mismatch("conv2d", {"input": ones(2, 4, 0, 7)}, "output"),
    Mismatch("conv2d", {"input": ones(2, 4, 0, 7), "border_mode": "same"}, "output"),
    Mismatch("conv3d", {"filters": ones(6, 2, 3, 3, 10), "border_mode": 1}, "output"),
    Mismatch("conv2d_grad_wrt_inputs", {"input_shape": (2, 4, 2, 7)}, "input_shape"),
    # sizes that do not fit
    Mismatch("conv2d_grad_wrt_inputs", {"input_shape": (2, 4, 8, 7)}, "input_shape"),
    Mismatch("conv2d_grad_wrt_inputs", {"input_shape": (2, 4, 7, 6)}, "input_shape"),
    Mismatch("conv2d_grad_wrt_inputs", {"subsample": 2}, "input_shape"),
    Mismatch("conv1d_grad_wrt_inputs", {"border_mode": "full"}, "input_shape"),
    Mismatch("conv2d_transpose", {"output_shape": (2, 4, 8, 7)}, "output_shape"),
    Mismatch("conv2d_transpose", {"output_shape": (2, 4, 7)}, "output_shape"),
    Mismatch("conv2d_transpose", {"output_shape": (7, 7)}, "output_shape"),
    Mismatch("conv2d_transpose", {"output_shape": (2, 4, 7.0, 7)}, "output_shape"),
    Mismatch("conv2d_transpose", {"output_shape": (2, 4, "7", 7)}, "output_shape"),
    Mismatch("conv2d_transpose", {"output_shape": (2, 4, -7, 7)}, "output_shape"),
    Mismatch("conv2d_transpose", {"output_shape": 7}, "output_shape"),
    Mismatch("conv2d_transpose", {"output_shape": "7777"}, "output_shape"),
    Mismatch("conv2d_transpose", {"input_dilation": 2}, "output_shape"),
    Mismatch("conv3d_transpose", {"input_dilation": (1, 1, 2), "output_shape": (2, 4, None, 7, None)}, "output_shape"),
    Mismatch("conv1d_transpose", {"border_mode": 4}, "output|border_mode|input"),  # crops everything
    Mismatch("conv2d_grad_wrt_weights", {"filter_shape": (6, 2, 4, 3)}, "filter_shape"),
    Mismatch("conv2d_grad_wrt_weights", {"filter_shape": (6, 2, 3, 2)}, "filter_shape"),
    Mismatch("conv2d_grad_wrt_weights", {"filter_shape": (6, 2, 3)}, "filter_shape"),
    Mismatch("conv2d_grad_wrt_weights", {"filter_shape": (6, 2, None, 3)}, "filter_shape"),
    Mismatch("conv2d_grad_wrt_weights", {"filter_shape": (6, 2, 0, 3)}, "filter_shape"),
    Mismatch("conv2d_grad_wrt_weights", {"filter_shape": (6, 2, 3.0, 3)}, "filter_shape"),
    Mismatch("conv2d_grad_wrt_weights", {"filter_shape": None}, "filter_shape"),
    Mismatch("conv2d_grad_wrt_inputs", {"input_shape": None, "subsample": 2}, "input_shape"),
    # unshared filters are (O, *out, I/G, *kernel)
    Mismatch("conv2d", {"unshared": True, "filters": ones(6, 5, 4, 2, 3, 3)}, "filters"),
    Mismatch("conv2d", {"unshared": True, "filters": ones(6, 5, 5, 4, 3, 3)}, "filters"),
    Mismatch("conv2d", {"filters": ones(6, 5, 5, 2, 3, 3)}, "filters"),
    Mismatch("conv1d", {"unshared": True, "filters": ones(6, 5, 2, 3), "subsample": 2}, "filters"),
    Mismatch("conv2d_transpose", {"unshared": True, "filters": ones(6, 7, 7, 2, 3, 3)}, "filters"),
    Mismatch("conv2d_grad_wrt_weights", {"unshared": True}, "filter_shape"),
    # hints
    Mismatch("conv2d", {"input_shape": (2, 4, 7, 8)}, "input_shape"),
    Mismatch("conv2d", {"input_shape": (None, 5, None, None)}, "input_shape"),
    Mismatch("conv2d", {"input_shape": (2, 4, 7)}, "input_shape"),
    Mismatch("conv2d", {"input_shape": (2, 4, 7.5, 7)}, "input_shape"),
    Mismatch("conv2d", {"filter_shape": (6, 2, 3, 4)}, "filter_shape"),
    Mismatch("conv2d", {"filter_shape": (7, None, None, None)}, "filter_shape"),
    Mismatch("conv2d", {"filter_shape": ()}, "filter_shape"),
    Mismatch("conv2d_transpose", {"filter_shape": (6, 2, 3, 4)}, "filter_shape"),
    Mismatch("conv2d_grad_wrt_inputs", {"filter_shape": (6, 2, 3, 4)}, "filter_shape"),
    Mismatch("conv2d_grad_wrt_weights", {"input_shape": (2, 4, 7, 8)}, "input_shape"),
]


@pytest.mark.parametrize("case", MISMATCHES, ids=str)
def test_arguments_that_do_not_go_together(case: Mismatch) -> None:
    missing = any(value is None for value in case.changes.values()) or "input_dilation" in case.changes
    with pytest.raises(EITHER if missing or "." in str(case.changes) else ValueError, match=case.word):
        CALLS[case.name](**case.changes)


# ----- what a message must tell -----


def message(call: Call, **changes: Any) -> str:
    with pytest.raises(EITHER) as caught:
        call(**changes)
    return str(caught.value)


def test_message_of_a_channel_mismatch_has_both_operands_and_both_numbers() -> None:
    told = message(CALLS["conv2d"], filters=ones(6, 3, 3, 3))
    assert {"input", "filters", "num_groups"} <= set(re.findall(r"\w+", told))
    assert {"3", "4", "2"} <= set(re.findall(r"\d+", told))


def test_message_of_a_kernel_without_a_place_has_the_sizes() -> None:
    told = message(CALLS["conv2d"], filters=ones(6, 2, 3, 9))
    assert {"7", "9"} <= set(re.findall(r"-?\d+", told))


@pytest.mark.parametrize("stride", [2, 3])
def test_message_of_a_size_that_does_not_fit_lists_those_that_do(stride: int) -> None:
    fits = oracle.fitting_sizes(5, 3, "valid", stride, 1)
    shape = (2, 4, fits[0], fits[-1] + 1)
    told = message(CALLS["conv2d_transpose"], output_shape=shape, input_dilation=stride)
    numbers = {int(n) for n in re.findall(r"\d+", told)}
    # A list or a range: the first and the last are told.
    assert {fits[0], fits[-1]} <= numbers
    told = message(CALLS["conv2d_grad_wrt_inputs"], input_shape=shape, subsample=stride)
    assert {fits[0], fits[-1]} <= {int(n) for n in re.findall(r"\d+", told)}


# ----- the deprecated alias -----


def test_image_shape_is_a_deprecated_alias() -> None:
    plain = CALLS["conv2d"]().numpy()
    with pytest.warns(DeprecationWarning, match="input_shape"):
        aliased = CALLS["conv2d"](image_shape=(2, 4, 7, 7))
    np.testing.assert_array_equal(aliased.numpy(), plain)


def test_image_shape_is_checked() -> None:
    with (
        pytest.warns(DeprecationWarning, match="input_shape"),
        pytest.raises(ValueError, match=r"image_shape|input_shape"),
    ):
        CALLS["conv2d"](image_shape=(2, 4, 7, 8))


def test_image_shape_and_input_shape_together() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(ValueError, match="image_shape"):
            CALLS["conv2d"](image_shape=(2, 4, 7, 7), input_shape=(2, 4, 7, 7))


@pytest.mark.parametrize("name", [name for name in CALLS if name != "conv2d"])
def test_image_shape_elsewhere_is_unknown(name: str) -> None:
    with pytest.raises(TypeError, match="image_shape"):
        CALLS[name](image_shape=None)


# ----- garbage -----

# No number between: 2**30 rows of padding, or 2**48 of them at stride 2**30, would be memory that exists, and minutes.
NUMBERS: list[Any] = [-(2**63), -(2**62), -3, -1, 0, 1, 2, 5, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 + 1, 0.5, 2.0, -1.0]
OTHERS: list[Any] = [None, "", "full", "half", "valid", "same", "text", b"valid", math.nan, math.inf, 1j, object, ...]
scalars = st.sampled_from(NUMBERS + OTHERS) | st.booleans()
flat = st.lists(scalars | st.integers(-1, 8), max_size=6)
nested = st.lists(scalars | flat.map(tuple), max_size=4)
plain_arguments = st.one_of(
    scalars,
    flat.map(tuple),
    nested.map(tuple),
    nested,
    st.tuples(*[st.integers(0, 8)] * 4),
    st.sampled_from([{}, set(), np.zeros(2), np.int64(2), np.array([1, 1]), np.array(1), range(2), slice(None)]),
)

DTYPES = ["f4", "f8", ">f4", "f2", "c8", "c16", "i1", "i8", "u8", "?", "O", "U2", "S1", "M8[s]", "m8[s]", "V3", "g"]


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Draw an array of some small shape (zero-size axes too) and some dtype, in some layout, or no array at all."""
    shape = draw(st.lists(st.integers(0, 7), max_size=7).map(tuple) | st.sampled_from([(2, 4, 7), (2, 4, 7, 7)]))
    if math.prod(shape) > 5000:
        shape = (*shape[:2], *(1 for _ in shape[2:]))
    a = np.full(shape, draw(st.sampled_from([0, 1, 100]))).astype(draw(st.sampled_from(DTYPES)))
    how = draw(st.sampled_from(["plain", "read-only", "reversed", "zero stride", "list", "float nan", "tensor"]))
    if how == "read-only":
        a.flags.writeable = False
    elif how == "reversed":
        a = a[(slice(None, None, -1),) * a.ndim]
    elif how == "zero stride":
        a = np.broadcast_to(a[(slice(0, 1),) * a.ndim], a.shape) if a.size else a
    elif how == "list":
        return a.tolist()
    elif how == "float nan":
        a = np.full(shape, np.nan, np.float32)
    elif how == "tensor" and a.dtype == np.float32:
        return ec.tensor(a, requires_grad=True)
    return a


ragged = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=8)


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[Call, dict[str, Any]]:
    """Draw a right call and one to three arguments to go wrong in it."""
    call = CALLS[draw(st.sampled_from(list(CALLS)))]
    strided = stride_name(call.name)
    optional = ["border_mode", strided, "filter_dilation", "num_groups", "filter_flip", "unshared", "algorithm"]
    shaped = ["output_shape", "filter_shape"] if strided == "input_dilation" else ["input_shape", "filter_shape"]
    names = draw(st.lists(st.sampled_from([*call.arguments, *optional, *shaped]), min_size=1, max_size=3, unique=True))
    changes = {}
    for name in names:
        kinds = arrays() | ragged | scalars if name in array_arguments(call.name) else plain_arguments
        changes[name] = draw(kinds)
    return call, changes


def refusal(call: Call, changes: dict[str, Any]) -> str | None:
    """Return the message of a documented exception, or None when the call went through."""
    try:
        call(**changes)
    except (TypeError, ValueError, MemoryError) as error:
        return str(error)
    return None


@given(case=spoilt())
@examples(2000)
def test_garbage_is_refused_in_words(case: tuple[Call, dict[str, Any]]) -> None:
    # Most garbage is refused, some of it happens to be right. Whatever else comes out, as an exception of another
    # type, a warning (an error here), or the death of the process, is a fault.
    told = refusal(*case)
    assert told is None or told.strip(), "an exception without a word"


HUGE = [2**48, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 + 1]  # 2**48 rows are beyond any address space


@given(
    name=st.sampled_from(list(CALLS)),
    border_mode=st.sampled_from(["valid", "full", "half", "same", 0, *HUGE]),
    dilation=st.sampled_from([1, *HUGE]),
    subsample=st.sampled_from([1, 2**31 - 1, 2**31, 2**32, *HUGE]),
    num_groups=st.sampled_from([2, 2, 2, 2**31, *HUGE]),
)
@examples(500)
def test_huge_numbers(name: str, border_mode: Any, dilation: int, subsample: int, num_groups: int) -> None:
    # 64-bit indices overflow just here: padding 2**62 on both sides is 2**63 rows.
    ndim = ndim_of(name)
    geometry = oracle.geometry((7,) * ndim, (3,) * ndim, border_mode, subsample, dilation, True)
    assume(not 10**6 < math.prod(geometry.out) < 10**15)  # memory that exists, and minutes
    changes = {"border_mode": border_mode, "filter_dilation": dilation, "num_groups": num_groups}
    told = refusal(CALLS[name], {**changes, stride_name(name): subsample})
    assert told is None or told.strip(), "an exception without a word"


@pytest.mark.parametrize("rows", [2**31 - 1, 2**31, 2**32, 2**48, 2**62])
@pytest.mark.parametrize("algorithm", tiers(ec.algorithms.names("cpu")))
def test_huge_padding_at_an_equal_stride_is_right_or_refused(rows: int, algorithm: str) -> None:
    # Three outputs: the first and the last lie far out in the padding, the middle one over x[0:3].
    options: dict[str, Any] = {"border_mode": rows, "subsample": rows, "algorithm": algorithm}
    x, w, y = ones(1, 1, 5), ones(1, 1, 3), ones(1, 1, 3)
    try:
        results = (
            ec.conv1d(x, w, **options),
            ec.conv1d_grad_wrt_inputs(y, w, x.shape, **options),
            ec.conv1d_grad_wrt_weights(x, y, w.shape, **options),
        )
    except ec.AlgorithmError:
        assert algorithm != "direct"
    except ValueError as error:
        assert "too large" in str(error)  # noqa: PT017
    else:
        assert [r.numpy().ravel().tolist() for r in results] == [[0, 3, 0], [1, 1, 1, 0, 0], [1, 1, 1]]


def test_a_list_that_contains_itself() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for argument in (
        "border_mode",
        "subsample",
        "filter_dilation",
        "num_groups",
        "input_shape",
        "filter_shape",
        "input",
    ):
        with pytest.raises(EITHER, match=r".+"):
            CALLS["conv2d"](**{argument: endless})


# ----- neither more nor less is refused than the contract says -----


@dataclass(frozen=True)
class Shapes:
    """Shapes of x, w and y that may or may not go together."""

    x: tuple[int, ...]
    w: tuple[int, ...]
    y: tuple[int, ...]
    keywords: dict[str, Any] = field(hash=False)

    def agree(self, slot: str) -> bool:
        ndim, groups = len(self.x) - 2, self.keywords["num_groups"]
        kernel, (batch, ins), outs = self.w[-ndim:], self.x[:2], self.y[1] if slot == "grad_weights" else self.w[0]
        if ins % groups or outs % groups or min(kernel) < 1:
            return False
        options = (self.keywords["border_mode"], self.keywords["subsample"], self.keywords["filter_dilation"])
        out = oracle.geometry(self.x[2:], kernel, *options, flip=True).out
        if min(out) < 1:
            return False
        w = (outs, *(out if self.keywords["unshared"] else ()), ins // groups, *kernel)
        y = (batch, outs, *out)
        return {
            "forward": self.w == w,
            "grad_inputs": (self.w, self.y) == (w, y),
            "grad_weights": self.y == y and len(self.w) == len(w),
        }[slot]


@st.composite
def shapes(draw: st.DrawFn) -> Shapes:
    """Draw a right problem and, half of the time, change one or two sizes by one."""
    p = draw(problems((1, 2)))
    three = [list(shape) for shape in p.shapes()]
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        shape = draw(st.sampled_from(three))
        axis = draw(st.integers(0, len(shape) - 1))
        shape[axis] = max(0, shape[axis] + draw(st.sampled_from([-1, 1])))
    x, w, y = map(tuple, three)
    return Shapes(x, w, y, p.keywords())


@pytest.mark.parametrize("slot", SLOTS)
@given(case=shapes(), seed=seeds)
@examples(300)
def test_shapes_are_refused_exactly_when_they_do_not_agree(slot: str, case: Shapes, seed: int) -> None:
    x, w, y = (integers(shape, seed + n, np.float64) for n, shape in enumerate((case.x, case.w, case.y)))
    conv = f"conv{x.ndim - 2}d"
    suffix, arguments = {
        "forward": ("", (x, w)),
        "grad_inputs": ("_grad_wrt_inputs", (y, w, x.shape)),
        "grad_weights": ("_grad_wrt_weights", (x, y, w.shape)),
    }[slot]
    if not case.agree(slot):
        with pytest.raises(ValueError, match=conv):
            getattr(ec, conv + suffix)(*arguments, **case.keywords)
        return
    result = getattr(ec, conv + suffix)(*arguments, **case.keywords).numpy()
    if slot == "grad_weights":  # the other entries of filter_shape do not matter
        places = y.shape[2:] if case.keywords["unshared"] else ()
        w = np.empty((y.shape[1], *places, x.shape[1] // case.keywords["num_groups"], *w.shape[-(x.ndim - 2) :]))
        arguments = (x, y, w.shape)
    truth = getattr(oracle, slot)(*arguments, **case.keywords)
    np.testing.assert_array_equal(result, truth)


def test_after_the_garbage_the_library_still_works() -> None:
    result = ec.conv1d([[[1.0, 2.0, 3.0, 4.0, 5.0]]], [[[1.0, 10.0, 100.0]]])
    assert result.numpy().tolist() == [[[123, 234, 345]]]
