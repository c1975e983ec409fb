"""What other libraries call what is here: their functions, methods and keywords, and what to write instead.

PyTorch, TensorFlow, Keras, JAX, SciPy, NumPy and Theano have many names for one thing. Each stands here once, whichever
function it was given to; what differs in letters alone, as `conv2D` and `maxpool2d` do, is found without a table.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from types import ModuleType
from typing import Any

import numpy as np

__all__ = ["METHODS", "NAMES", "answering", "for_keyword", "for_name", "no_attribute"]

_FUNCTIONAL = (
    "functions, such as conv2d, linear and relu, whose parameters are a dict of tensors; see optim for training"
)
_MOVED = "x.to('cuda'), or a block `with device('cuda'):`"

NAMES = {
    # new tensors
    "array": "tensor(data), or asarray(data) to share its memory",
    "as_tensor": "asarray(data)",
    "from_numpy": "asarray(array), which shares its memory",
    "convert_to_tensor": "asarray(data)",
    "constant": "tensor(data)",
    "Variable": "tensor(data, requires_grad=True)",
    "Parameter": "tensor(data, requires_grad=True)",
    "shared": "tensor(data, requires_grad=True)",
    "rand": "tensor(np.random.default_rng(0).random(shape))",
    "randn": "tensor(np.random.default_rng(0).standard_normal(shape))",
    "random": "tensor(np.random.default_rng(0).random(shape))",
    "randint": "tensor(np.random.default_rng(0).integers(0, high, shape))",
    "manual_seed": "a generator, rng = np.random.default_rng(seed), which is given to each function that draws",
    "one_hot": "labels[:, None] == arange(num_classes)",
    # shapes
    "cat": "concat(arrays, axis=0)",
    "hstack": "concat(arrays, axis=1)",
    "vstack": "concat(arrays, axis=0)",
    "view": "reshape(x, shape)",
    "permute": "permute_dims(x, axes)",
    "unsqueeze": "expand_dims(x, axis=0)",
    "flatten": "reshape(x, (len(x), -1))",
    "ravel": "reshape(x, (-1,))",
    "dimshuffle": "permute_dims(x, axes), and expand_dims(x, axis=0) for a new axis",
    "gather": "take_along_axis(x, indices, axis=0)",
    "masked_fill": "where(mask, value, x)",
    "chunk": "split with np.split(x, sections)",
    # numbers
    "clamp": "clip(x, min, max)",
    "mm": "matmul(x1, x2)",
    "bmm": "matmul(x1, x2)",
    "dot": "matmul(x1, x2)",
    "power": "pow(x1, x2)",
    "absolute": "abs(x)",
    "fabs": "abs(x)",
    "mod": "remainder(x1, x2)",
    "cumsum": "cumulative_sum(x, axis=0)",
    "cumprod": "cumulative_prod(x, axis=0)",
    "amax": "max(x, axis=0)",
    "amin": "min(x, axis=0)",
    "reduce_sum": "sum(x, axis=0)",
    "reduce_mean": "mean(x, axis=0)",
    "reduce_max": "max(x, axis=0)",
    "norm": "linalg.vector_norm(x) or linalg.matrix_norm(x)",
    **{f"arc{name}": f"a{name}(x)" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "arctan2": "atan2(x1, x2)",
    # networks
    "nn": _FUNCTIONAL,
    "layers": _FUNCTIONAL,
    "Module": _FUNCTIONAL,
    "Sequential": _FUNCTIONAL,
    **{f"conv_transpose{n}d": f"conv{n}d_transpose(input, filters)" for n in (1, 2, 3)},
    "conv": "conv1d, conv2d or conv3d, by the number of spatial axes",
    "conv_general_dilated": "conv2d(input, filters, filter_flip=False)",
    "convolve": "conv1d(x[None, None], w[None, None], border_mode='full')[0, 0]",
    "correlate": "conv1d(x[None, None], w[None, None], filter_flip=False)[0, 0]",
    "convolve2d": "conv2d(x[None, None], w[None, None], border_mode='full')[0, 0]",
    "correlate2d": "conv2d(x[None, None], w[None, None], filter_flip=False)[0, 0]",
    **{f"max_pooling{n}d": f"max_pool{n}d(input, ws)" for n in (1, 2, 3)},
    **{f"average_pooling{n}d": f"avg_pool{n}d(input, ws)" for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d": "adaptive_avg_pool(input, output_size)" for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d": "adaptive_max_pool(input, output_size)" for n in (1, 2, 3)},
    **{f"global_average_pooling{n}d": "global_avg_pool(input)" for n in (1, 2, 3)},
    **{f"batch_norm{n}d": "batch_norm(input)" for n in (1, 2, 3)},
    "batch_normalization": "batch_norm(input)",
    "layer_normalization": "layer_norm(input, normalized_shape)",
    "dense": "linear(input, weight, bias)",
    "swish": "silu(x)",
    "hard_sigmoid": "hardsigmoid(x)",
    "interpolate": "bilinear_upsampling(input, ratio)",
    "cross_entropy_loss": "cross_entropy(logits, labels)",
    "softmax_cross_entropy_with_logits": "cross_entropy(logits, labels)",
    "sparse_softmax_cross_entropy_with_logits": "cross_entropy(logits, labels)",
    "sparse_categorical_crossentropy": "cross_entropy(logits, labels)",
    "categorical_crossentropy": "cross_entropy(logits, labels), of the classes' indices",
    "bce_with_logits_loss": "binary_cross_entropy_with_logits(logits, target)",
    "binary_cross_entropy": "binary_cross_entropy_with_logits(logits, target), of what goes into the sigmoid",
    **{f"xavier_{kind}": f"init.glorot_{kind}(shape, rng)" for kind in ("normal", "uniform")},
    **{f"kaiming_{kind}": f"init.he_{kind}(shape, rng)" for kind in ("normal", "uniform")},
    "DataLoader": "data.minibatches(arrays, size, rng)",
    "Dataset": "data.minibatches(arrays, size, rng)",
    **{name: f"schedule.{ours}" for name, ours in (("StepLR", "step"), ("ExponentialLR", "exponential"),
                                                   ("CosineAnnealingLR", "cosine"), ("OneCycleLR", "one_cycle"))},
    # derivatives and machines
    "GradientTape": "tensor(data, requires_grad=True) and loss.backward(), or func.grad(fn)",
    "stop_gradient": "x.detach()",
    "jit": "the function as it is: operations run at once, by compiled kernels",
    "compile": "the function as it is: operations run at once, by compiled kernels",
    "function": "the function as it is: operations run at once, by compiled kernels",
    "vmap": "arrays with an axis more: functions take batches",
    "device_put": _MOVED,
    "cuda": _MOVED,
    "is_tensor": "isinstance(x, Tensor)",
    "numel": "x.size",
}  # fmt: skip
"""Names that the package has not -> what to write."""

_IN_PLACE = {"add": "+=", "sub": "-=", "mul": "*=", "div": "/=", "pow": "**="}
_AS_FUNCTIONS = (
    "ceil concat cos cosh exp expm1 flip floor isfinite isinf isnan log log10 log1p log2 logsumexp log_softmax matmul "
    "maximum minimum pow relu roll sigmoid sign sin sinh softmax sqrt square stack tan tanh tile unstack where"
)

METHODS = {
    "view": "reshape(shape), which copies only where it must",
    "permute": "transpose(axes)",
    "unsqueeze": "expand_dims(axis), or x[None]",
    "dimshuffle": "transpose(axes), and expand_dims(axis) for a new axis",
    "expand": "broadcast_to(shape)",
    "contiguous": "x as it is: every function takes any strides",
    "t": "T",
    "dim": "ndim",
    "numel": "size",
    "clamp": "clip(min, max)",
    "mm": "x @ y",
    "bmm": "x @ y",
    "norm": "linalg.vector_norm(x) or linalg.matrix_norm(x)",
    "gather": "take_along_axis(x, indices, axis=0) of the package",
    "masked_fill": "where(mask, value, x) of the package",
    "masked_fill_": "x[mask] = value",
    "at": "x = x.copy(); x[index] = value",
    "zero_": "fill(0)",
    "fill_": "fill(value)",
    "copy_": "x[...] = value",
    "set_value": "x[...] = value",
    "assign": "x[...] = value",
    "get_value": "numpy()",
    "eval": "numpy(): the values are there at once",
    "requires_grad_": "x.requires_grad = True",
    "retain_grad": "func.grad(fn), which gives the gradient with respect to any argument",
    "cpu": "to('cpu')",
    "cuda": "to('cuda')",
    "float": "astype('float32')",
    "double": "astype('float64')",
    "half": "astype('float16')",
    "bfloat16": "astype('bfloat16')",
    "long": "astype('int64')",
    "int": "astype('int32')",
    "bool": "astype('bool')",
    "type": "astype(dtype)",
    "cast": "astype(dtype)",
    **{f"{name}_": f"x {operator} value" for name, operator in _IN_PLACE.items()},
    **{name: f"the function {name}(x)" for name in _AS_FUNCTIONS.split()},
}  # fmt: skip
"""Methods that tensors have not -> what to write."""

_KEYWORDS = {
    # convolution
    "stride strides window_strides window_stride subsample": "subsample input_dilation stride",
    "padding pad pads mode": "border_mode pad",
    "dilation dilations dilation_rate rhs_dilation rate": "filter_dilation dilation p",
    "lhs_dilation transposed_dilation": "input_dilation",
    "groups group feature_group_count": "num_groups",
    "batch_group_count": "num_batch_groups",
    "weight weights kernel kernels w rhs in2 kern kerns": "filters weight W",
    "image images inputs lhs in1 signal imgs img data features": "input x x1 logits",
    "x a arr": "input x x1 logits",
    "b biases": "bias",
    "output_padding output_size": "output_shape output_size",
    "image_shape imshp": "input_shape",
    "kshp kernel_shape": "filter_shape",
    "conv_mode flip": "filter_flip",
    # pooling
    "kernel_size pool_size ksize window window_shape ds pool": "ws",
    "st": "stride",
    "count_include_pad": "include_pad",
    # axes
    "dim dims axes": "axis axes",
    "axis": "axes",
    "keepdim keep_dims": "keepdims",
    "size sizes": "shape s output_size",
    "sections": "axis",
    "a_min": "min",
    "a_max": "max",
    "diagonal": "k offset",
    "unbiased": "correction",
    # networks, losses, optimisers
    "learning_rate step_size eta": "lr",
    "beta_1 beta1 beta_2 beta2 b1 b2": "betas",
    "epsilon": "eps",
    "rho decay": "alpha",
    "parameters var_list": "params",
    "decay_rate gamma": "factor",
    "prob probability drop_prob": "p",
    "seed key generator random_state": "rng",
    "negative_slope": "slope alpha",
    "min_val": "low",
    "max_val": "high",
    "running_mean running_var": "running",
    "gamma scale": "weight",
    "beta": "bias",
    "targets target y_true label labels y": "labels target",
    "y_pred pred preds predictions input": "logits input log_probabilities log_input",
    "reduce size_average": "reduction",
    "batch_size": "size",
    "T_max total_steps max_steps decay_steps": "steps",
    "scale_factor": "ratio",
    "retain": "retain_graph",
    "label_smooth smoothing": "label_smoothing",
}
_FOREIGN: dict[str, list[str]] = {}
for _theirs, _ours in _KEYWORDS.items():
    for _name in _theirs.split():
        _FOREIGN.setdefault(_name, []).extend(_ours.split())

_PAD_FIRST = "there are zeros alone around an input; for others write eagerconv.pad(x, widths, mode='wrap') before"
_CHANNELS_FIRST = (
    "the order of axes is (batch, channels, *space): write x.transpose(0, 3, 1, 2) for images with channels last, and "
    "w.transpose(3, 2, 0, 1) for filters (rows, columns, input channels, output channels)"
)
_NOT_HERE = {
    "data_format dimension_numbers image_data_format": _CHANNELS_FIRST,
    "padding_mode boundary fillvalue": _PAD_FIRST,
    "lhs_dilation": "conv2d_transpose(input, filters, input_dilation=...) has what an input that is spread out is for",
    "ceil_mode": "write ignore_border=False, by which a last window may stick out",
    "inplace": "leave it out: the result is a new tensor",
    "out": "leave it out: the result is a new tensor; x[...] = result writes it into memory that is there",
    "name": "leave it out",
    "precision preferred_element_type": "leave it out: float32 is computed as float32; see using(tf32=True)",
    "from_logits": "leave it out: the function takes logits",
    "groups group feature_group_count num_groups": "leave it out: there are as many groups as channels",
    "use_bias": "leave it out: a bias is added where bias= is given",
    "imshp_logical kshp_logical": "it was an experiment of early Theano; leave it out",
}
_INSTEAD = {name: text for names, text in _NOT_HERE.items() for name in names.split()}


def for_keyword(name: str, known: Collection[str]) -> str:
    """What to write instead of a keyword, for a function that knows others.

    Examples
    --------
    >>> for_keyword("dim", ["x", "axis", "keepdims"])
    'use axis= instead'
    >>> for_keyword("bordermode", ["input", "border_mode"])
    'use border_mode= instead'
    """
    for ours in _FOREIGN.get(name, ()):
        if ours in known:
            return f"use {ours}= instead"
    if name in _INSTEAD:
        return _INSTEAD[name]
    close = _closest(name, known)
    return f"use {close}= instead" if close else f"there are {', '.join(known)}"


def for_name(name: str, own: Collection[str], public: Collection[str], modules: Mapping[str, ModuleType]) -> str:
    """What to write instead of a name that a module has not: from the table, its own names, the package's, or a similar one.

    Examples
    --------
    >>> for_name("cat", ["concat"], [], {})
    'use concat(arrays, axis=0)'
    >>> for_name("maxpool2d", ["max_pool1d", "max_pool2d"], [], {})
    'use max_pool2d'
    """
    wanted = _letters(name)
    for known, text in NAMES.items():
        if _letters(known) == wanted:
            return f"use {text}"
    inside = [f"{path}.{ours}" for path, module in modules.items() for ours in getattr(module, "__all__", ())]
    for path in (*own, *public, *inside):
        if _letters(path.rpartition(".")[2]) == wanted:
            return f"use {path}"
    if callable(getattr(np, name, None)) and not isinstance(getattr(np, name), type):
        return f"use numpy.{name}, which takes tensors and gives them back"
    close = _closest(name, own) or _closest(name, public)
    return f"use {close}" if close else "dir(eagerconv) lists what there is"


def no_attribute(
    module: ModuleType, name: str, public: Collection[str], modules: Mapping[str, ModuleType]
) -> AttributeError:
    """The error of a name that a module of the package has not, with what to write instead."""
    advice = "" if name.startswith("_") else f"; {for_name(name, module.__all__, public, modules)}"
    return AttributeError(f"module {module.__name__!r} has no attribute {name!r}{advice}", name=name)


def answering(module: ModuleType, public: Collection[str], modules: Mapping[str, ModuleType]) -> None:
    """Let a module of the package tell what to write instead of names that it has not."""

    def __getattr__(name: str) -> Any:
        raise no_attribute(module, name, public, modules)

    vars(module)["__getattr__"] = __getattr__


def _letters(name: str) -> str:
    """A name without what libraries differ in: case, underscores."""
    return name.replace("_", "").lower()


def _closest(name: str, known: Collection[str]) -> str | None:
    """The one of `known` that was probably meant."""
    by_letters = {_letters(ours): ours for ours in known}
    found = difflib.get_close_matches(_letters(name), by_letters, 1, 0.75)
    return by_letters[found[0]] if found else None
