"""What a newcomer is told: the call to write instead, from the line of the program, whatever library it was learned from."""

from __future__ import annotations

import inspect
import pickle
import re
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eagerconv as ec
from eagerconv import geometry, memory, mistakes, vocabulary
from eagerconv.functional import conv

ones = np.ones
X, W = ones((2, 3, 8, 8), np.float32), ones((4, 3, 3, 3), np.float32)
NHWC, HWIO = ones((2, 8, 8, 3)), ones((3, 3, 3, 16))
T = ec.asarray(X)
TRACKED = ec.tensor(X, requires_grad=True)
RNG = np.random.default_rng(0)


class Foreign:
    """A tensor of another library, which demands that its history be dropped by hand, as PyTorch's do."""

    requires_grad = True

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")


@ec.func.grad
def loss(x: Any) -> Any:
    return ec.conv2d(x, ones((4, 5, 3, 3))).sum()


@ec.func.hessian
def curved(x: Any) -> Any:
    return ec.softmax(x, dim=1).sum()


# The wrong call, words of the error, and the most lines of the library that the traceback may have.
MISTAKES: list[tuple[Callable[[], Any], tuple[str, ...], int]] = [
    # sizes that cannot be
    (lambda: ec.conv2d(X, W, border_mode=2**31 - 1),
     ("conv2d: outputs of shape (2, 4, 4294967300, 4294967300)", "border_mode=2147483647"), 3),
    (lambda: ec.conv2d(X, W, border_mode=2**20),
     ("conv2d: there is not enough memory", "(2, 4, 2097158, 2097158)", "float32, 131,072.8 GiB", "border_mode=1048576"), 5),
    (lambda: ec.conv2d(X, W, border_mode=ones(2)), ("conv2d: border_mode must be made of ints", "float64, shape (2,)"), 3),
    (lambda: ec.conv2d(X, W, border_mode=ones((2, 2, 2), int)), ("border_mode must", "int64, shape (2, 2, 2)"), 3),
    # orders of axes
    (lambda: ec.conv2d(NHWC, HWIO),
     ("write conv2d(input.transpose(0, 3, 1, 2), filters.transpose(3, 2, 0, 1), ...)", "(batch, rows, columns, channels)"), 3),
    (lambda: ec.conv2d(NHWC, W), ("write conv2d(input.transpose(0, 3, 1, 2), filters, ...)",), 3),
    (lambda: ec.conv2d(X, ones((5, 5, 3, 16))),
     ("write conv2d(input, filters.transpose(3, 2, 0, 1), ...)", "(rows, columns, in, out)"), 3),
    (lambda: ec.conv1d(ones((2, 9, 3)), ones((4, 3, 3))), ("write conv1d(input.transpose(0, 2, 1), filters, ...)",), 3),
    (lambda: ec.conv3d(ones((2, 7, 8, 9, 3)), ones((3, 3, 3, 3, 5))),
     ("write conv3d(input.transpose(0, 4, 1, 2, 3), filters.transpose(4, 3, 0, 1, 2), ...)",), 3),
    (lambda: ec.conv2d_transpose(NHWC, ones((5, 5, 16, 3))),
     ("write conv2d_transpose(input.transpose(0, 3, 1, 2), filters.transpose(3, 2, 0, 1), ...)",), 3),
    (lambda: ec.depthwise_conv2d(X, ones((5, 5, 3, 2))),
     ("depthwise_conv2d: filters must", "filters.transpose(2, 3, 0, 1).reshape((-1, 1, 5, 5))"), 6),
    (lambda: ec.conv2d(X, ones((4, 5, 3, 3))), ("give filters of shape (4, 3, 3, 3), or change num_groups",), 3),
    # axes that are missing
    (lambda: ec.conv2d(X[0], W),
     ("conv2d: input must have 4 axes (batch, input channels, rows, columns), got 3", "input[None]"), 3),
    (lambda: ec.conv2d(X[:, 0], W[:, :1]), ("Add what is missing: input[:, None]",), 3),
    (lambda: ec.conv2d(NHWC[0], W), ("Add what is missing: input.transpose(2, 0, 1)[None]",), 3),
    (lambda: ec.conv2d(X[0, 0], W[0, 0]), ("Add what is missing: input[None, None]",), 3),
    (lambda: ec.conv2d(X[:1, :1], W[0, 0]), ("filters must have 4 axes", "Add what is missing: filters[None, None]"), 3),
    (lambda: ec.conv2d(X[:, :1], W[:, 0]), ("Add what is missing: filters[:, None]",), 3),
    (lambda: ec.conv2d(X[:, :, None], W), ("got 5", "For 3 spatial axes there is conv3d."), 3),
    (lambda: ec.conv1d_transpose(X, W), ("got 4", "For 2 spatial axes there is conv2d_transpose."), 3),
    (lambda: ec.pointwise_conv2d(X, ones((8, 3))), ("filters[:, :, None, None]",), 6),
    (lambda: ec.conv2d(W, X), ("conv2d: the output would have -4 rows", "unless the filters stand where the input should"), 3),
    (lambda: ec.conv2d(X, W[0]), ("Add what is missing: filters[None]",), 3),
    (lambda: ec.conv2d(X, W[0, 0]), ("depthwise_conv2d(input, numpy.tile(filters, (3, 1, 1, 1)))",), 3),
    # arguments by position, in another order
    (lambda: ec.conv2d(X, W, ones(4)), ("conv2d: input_shape", "float64, shape (4,)", "bias=..."), 3),
    (lambda: ec.conv2d(X, W, ones(4), 2, 1), ("bias=...", "subsample=", "border_mode="), 3),
    (lambda: ec.conv2d(X, W, None, 2, 1),
     ("conv2d: filter_shape must", "got 2", "a stride is given by its keyword, subsample=2"), 3),
    (lambda: ec.conv2d_transpose(X, ones((3, 4, 3, 3)), None, 2), ("conv2d_transpose: filter_shape", "subsample=2"), 3),
    (lambda: ec.conv2d_transpose(X, ones((3, 4, 3, 3)), 2), ("output_shape", "input_dilation=2"), 3),
    (lambda: ec.conv2d(X, W, "same"), ("conv2d: input_shape", "border_mode='same'"), 3),
    (lambda: ec.zeros(2, 3), ("give the shape as one argument, zeros((2, 3))",), 0),
    (lambda: ec.reshape(T, 3, -1), ("give the shape as one argument, reshape(x, (3, -1))",), 0),
    (lambda: ec.permute_dims(T, 0, 2, 3, 1), ("give the axes as one argument, permute_dims(x, (0, 2, 3, 1))",), 0),
    (lambda: ec.concat(T, T), ("give the arrays as one argument, concat([x, y])",), 0),
    (lambda: ec.concat([T, T], 1), ("what stands behind these is given by keyword: axis=",), 0),
    # keywords
    (lambda: ec.conv2d(X, W, mode="same"), ("conv2d() got an unexpected keyword argument 'mode'; use border_mode=",), 3),
    (lambda: ec.conv2d(X, W, stride=2), ("use subsample=",), 3),
    (lambda: ec.conv2d_transpose(X, W, stride=2), ("conv2d_transpose()", "use input_dilation="), 3),
    (lambda: ec.conv2d(input=X, weight=W), ("conv2d()", "'weight'; use filters="), 3),
    (lambda: ec.depthwise_conv2d(X, weight=W), ("depthwise_conv2d()", "'weight'; use filters="), 7),
    (lambda: ec.conv2d(X, W, feature_group_count=3), ("use num_groups=",), 3),
    (lambda: ec.conv2d(X, W, rhs_dilation=2), ("use filter_dilation=",), 3),
    (lambda: ec.conv2d(X, W, lhs_dilation=2), ("lhs_dilation", "input_dilation="), 3),
    (lambda: ec.conv2d(X, W, padding_mode="circular"), ("padding_mode", "eagerconv.pad(x, widths, mode='wrap')"), 3),
    (lambda: ec.conv2d(X, W, data_format="NHWC"), ("data_format", "x.transpose(0, 3, 1, 2)", "w.transpose(3, 2, 0, 1)"), 3),
    (lambda: ec.conv2d(X, W, bordermode="same"), ("'bordermode'; use border_mode=",), 3),
    (lambda: ec.conv2d(X, W, subsmaple=2), ("'subsmaple'; use subsample=",), 3),
    (lambda: ec.conv2d(X, W, zzz=2), ("'zzz'; there are input, filters, input_shape",), 3),
    (lambda: ec.conv2d(X), ("conv2d() is missing the argument 'filters'",), 3),
    (lambda: ec.conv2d_grad_wrt_inputs(X, W), ("conv2d_grad_wrt_inputs() is missing the argument 'input_shape'",), 3),
    (lambda: ec.mean(T, dim=1), ("mean() got an unexpected keyword argument 'dim'; use axis=",), 0),
    (lambda: T.mean(dim=1), ("'dim'; use axis=",), 0),
    (lambda: T.argmax(dim=1), ("'dim'; use axis=",), 0),
    (lambda: T.sum(1, keepdim=True), ("'keepdim'; use keepdims=",), 0),
    (lambda: ec.softmax(T, dim=1), ("softmax()", "use axis="), 0),
    (lambda: ec.max_pool2d(X, kernel_size=2), ("max_pool2d()", "use ws="), 0),
    (lambda: ec.conv2d_transpose(X, W, subsample=2), ("use input_dilation=",), 3),
    (lambda: ec.depthwise_conv2d(X, W[:3, :1], groups=3), ("leave it out: there are as many groups as channels",), 7),
    (lambda: TRACKED.backward(retain=True), ("use retain_graph=",), 0),
    (lambda: ec.max_pool2d(X, 2, ceil_mode=True), ("write ignore_border=False",), 0),
    (lambda: ec.avg_pool2d(X, 2, count_include_pad=False), ("use include_pad=",), 0),
    (lambda: ec.dropout(X, 0.5, seed=0), ("dropout()", "use rng="), 0),
    (lambda: ec.optim.SGD([TRACKED], learning_rate=0.1), ("SGD()", "use lr="), 0),
    (lambda: ec.tensor([1.0], require_grad=True), ("tensor()", "use requires_grad="), 0),
    # modes
    (lambda: ec.conv2d(X, W, border_mode="SAME"), ("conv2d: border_mode", "got 'SAME'; write border_mode='same'"), 3),
    (lambda: ec.conv2d(X, W, border_mode="circular"),
     ("border_mode", "eagerconv.pad(input, ((0, 0), (0, 0), (1, 1), (1, 1)), mode='wrap')"), 3),
    (lambda: ec.conv2d(X, W, border_mode="zeros"), ("give the number of zeros, border_mode=1",), 3),
    # values of another kind
    (lambda: ec.relu(ec.batch_norm(X)), ("relu: x must be one array, not (Tensor (2, 3, 8, 8), NoneType)", "out, running"), 9),
    (lambda: ec.batch_norm(X, ones(3), ones(3)), ("batch_norm: running must be a dict", "ndarray"), 0),
    (lambda: ec.cross_entropy(ones((2, 3)), np.eye(3, dtype=int)[:2]), ("cross_entropy", "labels.argmax(axis=1)"), 0),
    (lambda: ec.batch_norm(X, {"running_mean": ones(3)}), ("batch_norm: running must", "not one of 'running_mean'"), 0),
    (lambda: ec.cross_entropy(ones((2, 3)), ones(2)), ("cross_entropy", "labels.astype('int64')"), 0),
    (lambda: ec.cross_entropy([0, 1], ones((2, 3), int)), ("the logits come first",), 0),
    (lambda: ec.save({"w": T}, "file"), ("save: path must be a path, not dict; write save(path, tree)",), 3),
    (lambda: ec.relu("abc"), ("relu: x is not an array of numbers", "<U3"), 9),
    (lambda: ec.asarray(Foreign()), ("asarray: data is a", "Foreign that requires a gradient", "x.detach()"), 0),
    (lambda: ec.tensor(Foreign()), ("tensor: data is a", "Foreign that requires a gradient", "x.detach()"), 0),
    (lambda: ec.conv2d(Foreign(), W), ("conv2d: input is a", "Foreign that requires a gradient", "x.detach()"), 3),
    (lambda: T.to("float16"), ("'float16'", "x.astype('float16')"), 6),
    # names
    (lambda: ec.array([1.0]), ("'array'", "use tensor(data), or asarray(data)"), 2),
    (lambda: ec.cat([T, T]), ("'cat'", "use concat(arrays, axis=0)"), 2),
    (lambda: ec.conv2D(X, W), ("'conv2D'", "use conv2d"), 2),
    (lambda: ec.maxpool2d(X, 2), ("use max_pool2d",), 2),
    (lambda: ec.conv_transpose2d(X, W), ("use conv2d_transpose",), 2),
    (lambda: ec.from_numpy(X), ("use asarray",), 2),
    (lambda: ec.Adam([TRACKED]), ("use optim.Adam",), 2),
    (lambda: ec.optim.adam, ("module 'eagerconv.optim' has no attribute 'adam'; use Adam",), 2),
    (lambda: ec.init.xavier_uniform, ("use init.glorot_uniform(shape, rng)",), 2),
    (lambda: ec.func.vmap, ("functions take batches",), 2),
    (lambda: ec.svd(T), ("use linalg.svd",), 2),
    (lambda: ec.nan_to_num(T), ("use numpy.nan_to_num",), 2),
    (lambda: ec.sofmax(T), ("use softmax",), 2),
    (lambda: ec.zzz, ("module 'eagerconv' has no attribute 'zzz'", "dir(eagerconv)"), 2),
    (lambda: T.view(3, -1), ("'Tensor' object has no attribute 'view'; use reshape(shape)",), 2),
    (lambda: T.permute(0, 2, 3, 1), ("use transpose(axes)",), 2),
    (lambda: T.unsqueeze(0), ("use expand_dims(axis)",), 2),
    (lambda: T.transpose(1, 2), ("transpose: give each of the 4 axes its place, not (1, 2)", "swapaxes(1, 2)"), 3),
    (lambda: T.exp(), ("use the function exp(x)",), 2),
    # derivatives
    (lambda: ec.func.hvp(lambda x: (x * x).sum(), [X], []), ("hvp: one tangent per primal, that is 1, not 0",), 0),
    (lambda: ec.func.hvp(lambda x: (x * x).sum(), X, X), ("hvp: primals must be a tuple", "hvp(fn, (x,), (v,))"), 0),
    (lambda: ec.func.hvp(lambda x: (x * x).sum(), [X], [W]), ("hvp: tangents[0]", "(2, 3, 8, 8)", "(4, 3, 3, 3)"), 0),
    (lambda: ec.jvp(lambda x: x, [X], [W]), ("jvp: tangents[0]",), 0),
    (lambda: ec.grad(lambda x: x), ("grad: outputs must be Tensors, not a function", "func.grad(fn)(x)"), 0),
    (lambda: ec.grad(TRACKED.sum()), ("grad() is missing the argument 'inputs'",), 0),
    (lambda: ec.check_grads(ec.exp, X), ("check_grads: args must be a tuple", "check_grads(fn, (x,))"), 0),
    (lambda: ec.no_grad(lambda x: x), ("no_grad takes no argument", "write @no_grad(), with parentheses"), 6),
    (lambda: ec.enable_grad(lambda x: x), ("write @enable_grad()",), 6),
    (lambda: np.add.at(TRACKED, [0], 1.0),
     ("numpy.add.at writes to its argument", "x[index] = numpy.add(x[index], values)"), 0),
    # NumPy's own words, without its lines
    (lambda: ec.sum(T, axis=7), ("axis 7 is out of bounds for array of dimension 4",), 0),
    (lambda: np.sum(T, axis=7), ("axis 7 is out of bounds",), 0),
    (lambda: T @ ones((5, 5)), ("matmul: Input operand 1 has a mismatch",), 6),
    (lambda: T.sum(7), ("axis 7 is out of bounds",), 0),
    (lambda: T.swapaxes(0, 9), ("axis2: axis 9 is out of bounds for array of dimension 4",), 0),
    (lambda: np.quantile(T, 2.0), ("Quantiles must be in the range [0, 1]",), 20),
    (lambda: T.reshape(7, 7), ("cannot reshape array of size 384",), 3),
    (lambda: T + ec.ones((2, 5)), ("could not be broadcast together with shapes (2,3,8,8) (2,5)",), 3),
    (lambda: T[99], ("index 99 is out of bounds",), 3),
]  # fmt: skip


def told(call: Callable[[], Any]) -> Exception:
    with pytest.raises(Exception, match=r".") as caught:
        call()
    return caught.value


def ours(error: BaseException) -> list[traceback.FrameSummary]:
    return [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(mistakes.PACKAGE)]


def lines_of(error: BaseException) -> int:
    """How many printed lines of the traceback are about the library, those of exceptions behind it included."""
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    text = "".join(traceback.format_list(ours(error)))
    return len(text.splitlines()) + (lines_of(behind) if behind is not None else 0)


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case[1][-1][:50])
def test_mistakes_are_told_in_few_lines_with_the_call_to_write(case: Any) -> None:
    call, words, most = case
    error = told(call)
    assert [word for word in words if word not in str(error)] == [], str(error)
    assert lines_of(error) <= most, "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    ("wrong", "line"), [(lambda: loss(X), "ec.conv2d("), (lambda: curved(ones((2, 3))), "ec.softmax(")]
)
def test_a_mistake_inside_a_transformed_function_ends_at_its_line(wrong: Callable[[], Any], line: str) -> None:
    error = told(wrong)
    frames = traceback.extract_tb(error.__traceback__)
    assert frames[-1].filename == __file__
    assert line in (frames[-1].line or "")
    assert ours(error) == []


def test_an_error_of_the_function_given_to_a_transform_is_its_own() -> None:
    def broken(x: Any) -> Any:
        return x / {}["missing"]

    error = told(lambda: ec.func.grad(broken)(1.0))
    assert isinstance(error, KeyError)
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)][-1] == "broken"
    assert ours(error) == []


# ----- What is not the user's mistake -----


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(geometry, "AXES", {})
        error = told(lambda: ec.conv2d(X[:, :, :7], W))
        assert isinstance(error, KeyError)
        assert [Path(frame.filename).name for frame in ours(error)][-1] == "geometry.py"
    monkeypatch.setattr(memory, "SMALLEST", "many")
    error = told(lambda: ec.conv2d(X[:, :, :7], W))
    assert isinstance(error, TypeError)
    assert [Path(frame.filename).name for frame in ours(error)][-1] == "memory.py"


def test_a_wrong_result_keeps_its_traceback() -> None:
    source = "def fails():\n    raise kind('differs')\n"
    inside: dict[str, Any] = {"kind": ec.CheckError}
    exec(compile(source, mistakes.PACKAGE + "algorithms/verify.py", "exec"), inside)
    assert len(ours(told(mistakes.border(inside["fails"])))) == 2
    inside["kind"] = ValueError
    assert ours(told(mistakes.border(inside["fails"]))) == []


def test_all_lines_are_there_for_developers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAGERCONV_TRACEBACK", "full")
    assert len(ours(told(lambda: ec.conv2d(X, W, subsample=0)))) > 4
    assert len(ours(told(lambda: ec.sum(T, axis=7)))) > 2


def test_what_an_error_was_raised_from_stays() -> None:
    source = """
def fails():
    try:
        1 / 0
    except ZeroDivisionError as error:
        raise ValueError("so") from error
"""
    inside: dict[str, Any] = {}
    exec(compile(source, mistakes.PACKAGE + "optim.py", "exec"), inside)
    error = told(mistakes.border(inside["fails"]))
    assert ours(error) == []
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert error.__cause__.__traceback__ is not None


# ----- What it must not cost -----


def test_a_convolution_has_no_frame_more(monkeypatch: pytest.MonkeyPatch) -> None:
    depths = []

    def counted(*args: Any) -> Any:
        depths.append([frame.function for frame in inspect.stack(0)])
        raise ValueError("enough")

    monkeypatch.setattr(conv, "contract", counted)
    told(lambda: ec.conv2d(T, ec.asarray(W)))
    assert depths[0][1:3] == ["solve", "conv2d"]
    assert depths[0][3] == "<lambda>"


def test_functions_without_options_are_the_plain_ones() -> None:
    assert not any(
        hasattr(getattr(ec, name), "__wrapped__") for name in ("exp", "relu", "add", "conv2d", "conv1d_transpose")
    )


def test_tensors_find_attributes_without_detours() -> None:
    assert "__getattr__" not in vars(ec.Tensor)
    assert not hasattr(T, "view")
    assert {"view", "permute"}.isdisjoint(dir(T))
    assert {"reshape", "shape"} <= set(dir(T))


@pytest.mark.parametrize("name", [name for name in ec.__all__ if inspect.isfunction(getattr(ec, name))])
def test_public_functions_stay_what_they_are(name: str) -> None:
    function = getattr(ec, name)
    assert pickle.loads(pickle.dumps(function)) is function
    assert not any(isinstance(p.default, mistakes._Missing) for p in inspect.signature(function).parameters.values())


# ----- The advice is right -----


def test_the_call_to_write_for_another_order_of_axes_is_the_same_convolution() -> None:
    x, w = RNG.integers(-3, 4, (2, 8, 7, 3)).astype(float), RNG.integers(-3, 4, (3, 3, 3, 16)).astype(float)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))  # (N, R', S', C, r, s)
    truth = np.einsum("nrscij,ijcf->nfrs", windows, w)
    call = re.search(r"write (conv2d\(.*?), \.\.\.\)", str(told(lambda: ec.conv2d(x, w))))
    assert call is not None
    result = eval(f"ec.{call[1]}, filter_flip=False)", {"ec": ec, "input": x, "filters": w})
    np.testing.assert_array_equal(result.numpy(), truth)


def test_the_arrays_to_write_for_missing_axes_are_taken() -> None:
    for x, w in [(X[0], W), (X[:, 0], W[:, :1]), (NHWC[0], W), (X[:1, :1], W[0, 0]), (X[:, :1], W[:, 0]), (X, W[0])]:
        advice = re.search(r"Add what is missing: (.*)\.$", str(told(lambda x=x, w=w: ec.conv2d(x, w))))
        assert advice is not None
        name = "input" if advice[1].startswith("input") else "filters"
        mended = eval(advice[1], {"input": x, "filters": w})
        assert ec.conv2d(**({"input": x, "filters": w} | {name: mended})).ndim == 4


def test_the_sum_to_write_for_add_at_is_it_with_gradients() -> None:
    x, index, values = RNG.random((4, 3)), np.array([1, 3, 1]), RNG.random((3, 3))
    tracked = ec.tensor(x, requires_grad=True)
    advice = re.search(r"to add where some do, (.*)$", str(told(lambda: np.add.at(tracked, index, values))))
    assert advice is not None
    np.add.at(x, index, values)
    result = eval(advice[1], {"numpy": np, "x": tracked, "index": index, "values": values})
    np.testing.assert_allclose(result.numpy(), x, rtol=1e-15)
    assert result.requires_grad


@pytest.mark.parametrize("name", ["convolve", "correlate"])
def test_signals_are_convolved_as_by_numpy(name: str) -> None:
    x, w = RNG.integers(-3, 4, 9).astype(float), RNG.integers(-3, 4, 4).astype(float)
    result = eval(f"ec.{vocabulary.NAMES[name]}", {"ec": ec, "x": x, "w": w})
    np.testing.assert_array_equal(result.numpy(), getattr(np, name)(x, w))


@pytest.mark.parametrize("name", vocabulary.NAMES)
def test_functions_to_use_exist(name: str) -> None:
    assert not hasattr(ec, name), "here is one of that name"
    for path in re.findall(r"(?<![\w.])([A-Za-z_][\w.]*)\(", vocabulary.NAMES[name]):
        found: Any = {"np": np, "x": T, "loss": T, "isinstance": True, "len": True}.get(path.partition(".")[0], ec)
        for part in path.split(".")[found is not ec :]:
            found = getattr(found, part)


@pytest.mark.parametrize("name", vocabulary.METHODS)
def test_methods_to_use_exist(name: str) -> None:
    if not hasattr(T, name):
        advice = str(told(lambda: getattr(T, name)))
        assert advice.startswith(f"'Tensor' object has no attribute {name!r}; use ")
    function = re.match(r"(?:the function )?([a-z_.0-9]+)\(", vocabulary.METHODS[name])
    if function is not None:
        assert hasattr(T, function[1]) or eval(f"ec.{function[1]}", {"ec": ec})


def test_keywords_to_use_exist() -> None:
    functions = [getattr(module, name) for module in (ec, *ec._MODULES.values()) for name in module.__all__]
    known = {name for f in functions if callable(f) and not isinstance(f, np.ufunc) for name in names_of(f)}
    assert {ours for names in vocabulary._FOREIGN.values() for ours in names} <= known


def names_of(function: Any) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []


CONVOLUTIONS = [name for name in ec.__all__ if "conv" in name and "shape" not in name]


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_keyword_that_lacks_a_letter_is_recognised(name: str) -> None:
    for keyword in inspect.signature(getattr(ec, name)).parameters:
        if keyword != "unknown":
            wrong = keyword[:2] + keyword[3:]
            assert f"use {keyword}= instead" in str(told(lambda wrong=wrong: getattr(ec, name)(**{wrong: 1})))


WITH_AXIS = [
    name for name in ec.__all__ if "axis" in names_of(getattr(ec, name)) and "dim" not in names_of(getattr(ec, name))
]


@pytest.mark.parametrize("name", WITH_AXIS)
def test_every_function_with_an_axis_knows_that_others_call_it_dim(name: str) -> None:
    assert "'dim'; use axis= instead" in str(told(lambda: getattr(ec, name)(T, dim=0)))


# ----- Keywords that are taken and ignored -----

HINTS: dict[str, Any] = {
    "openmp": True,
    "unroll_batch": 4,
    "unroll_kern": 2,
    "unroll_patch": False,
    "version": -1,
    "verbose": 1,
}


@pytest.mark.parametrize("hint", HINTS)
def test_hints_of_the_old_convop_change_nothing(hint: str) -> None:
    calls = {
        ec.conv2d: (X, W),
        ec.legacy.nnet_conv2d: (X, W),
        ec.legacy.signal_conv2d: (X[0], W[0]),
    }
    for function, arrays in calls.items():
        with pytest.warns(
            DeprecationWarning, match=f"{function.__name__}: {hint} has no effect; leave it out"
        ) as caught:
            hinted = function(*arrays, **{hint: HINTS[hint]})
        assert [warning.filename for warning in caught] == [__file__]
        np.testing.assert_array_equal(hinted.numpy(), function(*arrays).numpy())
    for name in sorted(set(CONVOLUTIONS) - {"conv2d"}):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{hint}'"):
            getattr(ec, name)(**{hint: HINTS[hint]})


def test_a_hint_does_not_hide_a_keyword_that_is_wrong() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(TypeError, match="'stride'; use subsample="):
            ec.conv2d(X, W, openmp=True, stride=2)


def test_an_array_of_pairs_is_taken_as_border_mode() -> None:
    pairs = ((0, 1), (2, 0))
    result = ec.conv2d(X, W, border_mode=np.array(pairs))
    np.testing.assert_array_equal(result.numpy(), ec.conv2d(X, W, border_mode=pairs).numpy())
