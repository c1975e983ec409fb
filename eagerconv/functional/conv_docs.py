"""What the convolution functions say about their arguments: every text once, put together for each function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from eagerconv import mistakes
from eagerconv.geometry import AXES

F = TypeVar("F", bound=Callable[..., Any])

_PARAMETERS = {
    "input": """\
    input : array_like, shape (batch, input channels, {axes})
        Any floating, complex or integer dtype; the result has the common dtype of all arrays.""",
    "input_transposed": """\
    input : array_like, shape (batch, input channels, {axes})
        What the forward convolution would give out.""",
    "filters": """\
    filters : array_like, shape (output channels, input channels / num_groups, {axes})
        With `unshared`, (output channels, output {axes}, input channels / num_groups, {axes}).""",
    "filters_transposed": """\
    filters : array_like, shape (input channels, output channels / num_groups, {axes})
        The filters of the convolution of which this is the adjoint. With `unshared`, the sizes of `input` come behind
        the first axis.""",
    "output_grad": """\
    output_grad : array_like, shape (batch, output channels, {axes})
        Gradient with respect to the convolution's output.""",
    "hints": """\
    input_shape, filter_shape : tuple of int or None, optional
        Expected shapes; they change nothing, but a mismatch raises. None entries match anything.""",
    "filter_hint": """\
    filter_shape : tuple of int or None, optional
        Expected shape of `filters`; changes nothing, but a mismatch raises.""",
    "input_hint": """\
    input_shape : tuple of int or None, optional
        Expected shape of `input`; changes nothing, but a mismatch raises.""",
    "border_mode": """\
    border_mode : str, int or tuple
        Zeros around the input. 'valid': none. 'full': dilated kernel - 1. 'half': dilated kernel // 2. 'same': output size
        ceil(input / subsample), any odd zero after; 'same_lower': before. 'causal' (1-D only): dilated kernel - 1 before.
        An int: that many on every side. A tuple: one int or pair (before, after) per axis.""",
    "subsample": """\
    subsample : int or tuple of int
        Stride, for all axes or one per axis.""",
    "flip": """\
    filter_flip : bool
        True: convolution, the filters are reversed along the spatial axes. False: cross-correlation.""",
    "image_shape": """\
    image_shape : tuple of int or None, optional
        Deprecated: the old name of `input_shape`.""",
    "output_shape": """\
    output_shape : tuple of int or None, optional
        (batch, output channels, {axes}) of the result, from which the forward convolution gives the sizes of `input`. The
        first two entries may be None, and so may all at `input_dilation` 1, where only one size fits.""",
    "input_dilation": """\
    input_dilation : int or tuple of int
        Stride of the forward convolution, for all axes or one per axis: the input is spread out by it, and `border_mode`,
        which describes the forward convolution, crops.""",
    "spread": """\
    input_dilation : int or tuple of int
        Distance between neighbouring elements of the input, for all axes or one per axis: zeros stand between them, and
        `border_mode` puts its own around those.""",
    "batch_groups": """\
    num_batch_groups : int
        Block g of the batch is convolved with block g of the filters only, which makes the batch of the result so many times
        smaller. Not together with `num_groups`.""",
    "wanted_shape": """\
    input_shape : tuple of int or None
        (batch, input channels, {axes}) of the convolution's input. The first two entries may be None, and so may all at
        `subsample` 1, where only one size fits.""",
    "filter_shape": """\
    filter_shape : tuple of int or None
        Shape of the filters; only the spatial entries, which are the last, matter.""",
    "dilation": """\
    filter_dilation : int or tuple of int
        Distance between neighbouring filter taps, for all axes or one per axis.""",
    "groups": """\
    num_groups : int
        Block g of the input channels is convolved with block g of the filters only.""",
    "unshared": """\
    unshared : bool
        Every output position has filters of its own (a locally connected layer).""",
    "depthwise_input": """\
    input : array_like, shape (batch, channels, {axes})
        Any floating, complex or integer dtype; the result has the common dtype of all arrays.""",
    "depthwise": """\
    filters : array_like, shape (channels * multiplier, 1, {axes})
        Filters c * multiplier to (c+1) * multiplier - 1 belong to channel c.""",
    "pointwise": """\
    filters : array_like, shape (output channels, input channels{ones})
        One weight for each pair of channels.""",
    "separable": """\
    depthwise_filters : array_like, shape (channels * multiplier, 1, {axes})
        Filters c * multiplier to (c+1) * multiplier - 1 are applied to channel c.
    pointwise_filters : array_like, shape (output channels, channels * multiplier{ones})
        The weights with which the results are added up, position by position.
    num_channels : int
        The number of channels of `input`.
    input_shape, depthwise_filter_shape, pointwise_filter_shape : tuple of int or None, optional
        Expected shapes; they change nothing, but a mismatch raises. None entries match anything.""",
    "bias": """\
    bias : array_like, shape (output channels,), optional
        One number per output channel, added at every position.""",
    "activation": """\
    activation : None or 'relu'
        Applied to the result, bias included, in the same pass over it; the gradient is that of `relu` behind the
        convolution.""",
    "algorithm": """\
    algorithm : str
        'auto', or the one to use, by its name; see `using` and `explain`.""",
}

_FAMILIES = {
    "forward": (
        "input filters hints border_mode subsample flip dilation groups unshared spread batch_groups bias activation "
        "algorithm", """\
    Tensor
        Shape (batch, output channels, {axes}), each size floor((i + before + after - (k-1)*dilation - 1) / stride) + 1.""",
    ),
    "transpose": (
        "input_transposed filters_transposed output_shape filter_hint border_mode input_dilation flip dilation groups "
        "unshared bias activation algorithm", """\
    Tensor
        Shape (batch, output channels, {axes}).""",
    ),
    "grad_wrt_inputs": (
        "output_grad filters wanted_shape filter_hint border_mode subsample flip dilation groups unshared algorithm", """\
    Tensor
        Shape (batch, input channels, {axes}).""",
    ),
    "grad_wrt_weights": (
        "input output_grad filter_shape input_hint border_mode subsample flip dilation groups unshared algorithm", """\
    Tensor
        Shape (output channels, input channels / num_groups, {axes}); with `unshared`, the output's {axes}
        behind the first axis.""",
    ),
}  # fmt: skip

_RAISES = """\
Raises
------
ValueError
    If an argument is malformed or does not fit the others; the message tells which, what was expected, and the fix.
TypeError
    For unknown keywords, and arrays that can't be convolved (objects, strings)."""


def documented(function: F) -> F:
    """Complete the docstring of a function conv<ndim>d or conv<ndim>d_<kind>."""
    base, _, kind = function.__name__.partition("_")
    names, returns = _FAMILIES[kind or "forward"]
    if function.__name__ == "conv2d":
        names = names.replace("flip", "flip image_shape")
    theano = {"conv1d": "conv2d"}.get(base, base) + function.__name__[len(base) :]
    source = f"``theano.tensor.nnet.{'abstract_conv.' if 'grad' in kind else ''}{theano}`` of Theano 1.0"
    source += ", in one dimension" if base == "conv1d" else ""
    return described(int(base[4]), names, returns, f"Source: {source}.")(function)


def described(ndim: int, names: str, returns: str, notes: str, texts: dict[str, str] | None = None) -> Callable[[F], F]:
    """Put the sections on parameters, result, errors and source between a function's summary and its examples.

    `names` are those of parameter texts, in order, from above or from `texts`; `returns` is the text of that section.
    """
    texts = {**_PARAMETERS, **(texts or {})}

    def describe(function: F) -> F:
        if function.__code__.co_flags & inspect.CO_VARKEYWORDS:
            mistakes.answering(function)
        if function.__doc__ is None:  # python -OO
            return function
        summary, examples = inspect.cleandoc(function.__doc__).split("\n\nExamples\n")
        sections = [
            summary,
            "Parameters\n----------\n" + "\n".join(inspect.cleandoc("\n" + texts[name]) for name in names.split()),
            "Returns\n-------\n" + inspect.cleandoc("\n" + returns),
            _RAISES,
            "Notes\n-----\n" + notes,
            "Examples\n" + examples,
        ]
        text = "\n\n".join(sections).replace("{axes}", ", ".join(AXES[ndim]))
        function.__doc__ = text.replace("{ones}", ", 1" * ndim).replace("{ndim}", str(ndim))
        return function

    return describe
