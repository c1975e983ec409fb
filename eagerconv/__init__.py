"""eagerconv: an eager, NumPy-style tensor library with an autograd tape, built around convolution."""

import sys as _sys
from typing import TYPE_CHECKING, Any

from eagerconv import algorithms, data, fft, func, init, legacy, linalg, memory, optim, reference, schedule, tree
from eagerconv import large as _large  # noqa: F401  # gives operations on large arrays to the kernels
from eagerconv import mistakes as _mistakes
from eagerconv import vocabulary as _vocabulary
from eagerconv.algorithms import AlgorithmError, autotune, explain
from eagerconv.algorithms.policy import check, using
from eagerconv.algorithms.verify import CheckError
from eagerconv.algorithms.warming import warmup
from eagerconv.autograd.anomaly import detect_anomaly
from eagerconv.autograd.tape import enable_grad, is_grad_enabled, no_grad
from eagerconv.devices import device
from eagerconv.func.gradcheck import check_grads
from eagerconv.func.transforms import grad, jvp, vjp
from eagerconv.functional.activations import *  # noqa: F403  # its __all__
from eagerconv.functional.activations import __all__ as _activation_names
from eagerconv.functional.array import *  # noqa: F403  # the array API standard, listed in array.__all__
from eagerconv.functional.array import __all__ as _array_names
from eagerconv.functional.conv import (
    conv1d,
    conv1d_grad_wrt_inputs,
    conv1d_grad_wrt_weights,
    conv1d_transpose,
    conv2d,
    conv2d_grad_wrt_inputs,
    conv2d_grad_wrt_weights,
    conv2d_transpose,
    conv3d,
    conv3d_grad_wrt_inputs,
    conv3d_grad_wrt_weights,
    conv3d_transpose,
)
from eagerconv.functional.ctc import ctc_loss
from eagerconv.functional.likelihoods import gaussian_nll_loss, poisson_nll_loss
from eagerconv.functional.losses import *  # noqa: F403  # its __all__
from eagerconv.functional.losses import __all__ as _loss_names
from eagerconv.functional.margins import *  # noqa: F403  # its __all__
from eagerconv.functional.margins import __all__ as _margin_names
from eagerconv.functional.nn import dropout, linear
from eagerconv.functional.normalisation import batch_norm, group_norm, instance_norm, layer_norm
from eagerconv.functional.pooling import *  # noqa: F403  # its __all__
from eagerconv.functional.pooling import __all__ as _pooling_names
from eagerconv.functional.shapes import (
    assert_conv_shape,
    assert_shape,
    border_mode_to_pad,
    check_conv_gradinputs_shape,
    get_conv_gradinputs_shape,
    get_conv_gradinputs_shape_1axis,
    get_conv_gradweights_shape,
    get_conv_gradweights_shape_1axis,
    get_conv_output_shape,
    get_conv_shape_1axis,
)
from eagerconv.functional.sizes import local_response_norm, rms_norm
from eagerconv.functional.upsampling import (
    bilinear_kernel_1D,
    bilinear_kernel_2D,
    bilinear_upsampling,
    frac_bilinear_upsampling,
)
from eagerconv.functional.variants import (
    causal_conv1d,
    depthwise_conv1d,
    depthwise_conv2d,
    depthwise_conv3d,
    pointwise_conv1d,
    pointwise_conv2d,
    pointwise_conv3d,
    separable_conv2d,
    separable_conv3d,
)
from eagerconv.kernels_cpu.threads import get_num_threads, set_num_threads
from eagerconv.kernels_gpu.graphs import cuda_graph
from eagerconv.saving import load, save
from eagerconv.tensor import Tensor, asarray, tensor

__version__ = "0.1.0"

__all__ = [
    # tensors
    "Tensor", "asarray", "tensor", "device", "cuda_graph",
    # convolution
    "conv1d", "conv1d_grad_wrt_inputs", "conv1d_grad_wrt_weights", "conv1d_transpose",
    "conv2d", "conv2d_grad_wrt_inputs", "conv2d_grad_wrt_weights", "conv2d_transpose",
    "conv3d", "conv3d_grad_wrt_inputs", "conv3d_grad_wrt_weights", "conv3d_transpose",
    "causal_conv1d", "depthwise_conv1d", "depthwise_conv2d", "depthwise_conv3d", "pointwise_conv1d", "pointwise_conv2d",
    "pointwise_conv3d", "separable_conv2d", "separable_conv3d",
    "bilinear_kernel_1D", "bilinear_kernel_2D", "bilinear_upsampling", "frac_bilinear_upsampling",
    # shapes of convolutions
    "assert_conv_shape", "assert_shape", "border_mode_to_pad", "check_conv_gradinputs_shape", "get_conv_gradinputs_shape",
    "get_conv_gradinputs_shape_1axis", "get_conv_gradweights_shape", "get_conv_gradweights_shape_1axis",
    "get_conv_output_shape", "get_conv_shape_1axis",
    # networks
    "batch_norm", "dropout", "group_norm", "instance_norm", "layer_norm", "linear", "local_response_norm", "rms_norm",
    "load", "save",
    "ctc_loss", "gaussian_nll_loss", "poisson_nll_loss",
    *_activation_names, *_loss_names, *_margin_names, *_pooling_names,
    # derivatives
    "check_grads", "detect_anomaly", "enable_grad", "grad", "is_grad_enabled", "jvp", "no_grad", "vjp",
    # choosing and seeing
    "AlgorithmError", "CheckError", "autotune", "check", "explain", "get_num_threads", "set_num_threads", "using", "warmup",
    # modules
    "algorithms", "data", "fft", "func", "init", "legacy", "linalg", "memory", "optim", "reference", "schedule", "tree",
    *_array_names,
]  # fmt: skip


if not TYPE_CHECKING:  # which shall find wrong names

    def __getattr__(name: str) -> Any:
        """Tell what to write instead of a name of another library, or a misspelled one."""
        raise _vocabulary.no_attribute(_sys.modules[__name__], name, __all__, _MODULES)


_MODULES = {
    module.__name__.partition(".")[2]: module for module in (data, fft, func, init, legacy, linalg, optim, schedule)
}

_mistakes.around(_sys.modules[__name__], __all__)
for _module in _MODULES.values():
    _mistakes.around(_module, _module.__all__)
    _vocabulary.answering(_module, __all__, _MODULES)


def __dir__() -> list[str]:
    """What `dir`, and the completion of a notebook, show: what is meant for users."""
    return sorted([*__all__, "__doc__", "__name__", "__version__"])
