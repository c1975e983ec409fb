"""One layer in each library: the same arrays, the same operations by name, as calls without arguments."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

import eagerconv as ec
from benchmarks.harness import torch
from benchmarks.layers import Layer
from eagerconv.spec import Slot

Arrays = dict[Slot, np.ndarray]
Calls = dict[str, Callable[[], Any]]

BOTH = "forward + backward"
OPERATIONS = ("forward", "grad inputs", "grad weights", BOTH)


def ours(layer: Layer, arrays: Arrays, **options: Any) -> Calls:
    """The public functions; forward + backward records on the tape."""
    n = len(layer.size)
    x, w, y = (ec.asarray(arrays[slot]) for slot in ("x", "w", "y"))
    stride = layer.per_axis(layer.stride)
    pad = tuple((p, p) for p in layer.per_axis(layer.pad))
    options |= {"border_mode": pad, "num_groups": layer.groups, "filter_flip": False}
    options |= {"filter_dilation": layer.per_axis(layer.dilation)}
    convolve, transpose, inputs, weights = (
        getattr(ec, f"conv{n}d{tail}") for tail in ("", "_transpose", "_grad_wrt_inputs", "_grad_wrt_weights")
    )
    by_slot: dict[Slot, Callable[[], Any]] = {
        "y": lambda: convolve(x, w, subsample=stride, **options),
        "x": lambda: inputs(y, w, x.shape, subsample=stride, **options),
        "w": lambda: weights(x, y, w.shape, subsample=stride, **options),
    }
    images, cotangent = (y, x) if layer.transposed else (x, y)
    floating = arrays["w"].dtype.kind in "fc"
    a, b = (ec.tensor(t.numpy(), requires_grad=floating) for t in (images, w))

    def recorded() -> Any:
        if layer.transposed:
            return transpose(a, b, x.shape, input_dilation=stride, **options)
        return convolve(a, b, subsample=stride, **options)

    calls: Calls = {name: (lambda f=by_slot[slot]: f().data) for name, slot in layer.slots.items()}
    calls[BOTH] = lambda: [g.data for g in ec.grad(recorded(), [a, b], cotangent)]
    return calls


def pytorch(layer: Layer, arrays: Arrays) -> Calls:
    """Eager, as a network's author would call it, without autograd where only one result is wanted."""
    pt = torch()
    x, w, y = (pt.from_numpy(arrays[slot]) for slot in ("x", "w", "y"))
    images, cotangent = (y, x) if layer.transposed else (x, y)
    stride, pad, dilation = (list(layer.per_axis(v)) for v in (layer.stride, layer.pad, layer.dilation))
    extra = [0] * len(stride)
    if layer.transposed:  # rows of the larger image that no window reaches
        reach = [
            (o - 1) * s - 2 * p + (k - 1) * d + 1
            for o, s, p, k, d in zip(layer.spec.out, stride, pad, layer.kernel, dilation, strict=True)
        ]
        extra = [i - r for i, r in zip(layer.size, reach, strict=True)]
    options = (stride, pad, dilation, layer.transposed, extra, layer.groups)

    def gradient(which: int) -> Any:
        mask = [which == 0, which == 1, False]
        return pt.ops.aten.convolution_backward(cotangent, images, w, None, *options, mask)[which]

    a, b = (t.clone().requires_grad_(t.is_floating_point() or t.is_complex()) for t in (images, w))
    return {
        "forward": lambda: pt.convolution(images, w, None, *options),
        "grad inputs": lambda: gradient(0),
        "grad weights": lambda: gradient(1),
        BOTH: lambda: pt.autograd.grad(pt.convolution(a, b, None, *options), [a, b], cotangent),
    }


def _onnx(layer: Layer, arrays: Arrays) -> bytes:
    """The layer as an ONNX model, whose filters are constants."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    source, result = ("y", "x") if layer.transposed else ("x", "y")
    attributes: dict[str, Any] = {
        "strides": layer.per_axis(layer.stride),
        "dilations": layer.per_axis(layer.dilation),
        "pads": layer.per_axis(layer.pad) * 2,
        "group": layer.groups,
        "kernel_shape": layer.kernel,
    }
    if layer.transposed:
        attributes["output_shape"] = layer.size
        del attributes["pads"]  # the two exclude each other; the default cuts evenly, as the layers here do
    node = helper.make_node("ConvTranspose" if layer.transposed else "Conv", ["in", "w"], ["out"], **attributes)
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, layer.spec.shape(slot))
        for name, slot in (("in", source), ("out", result))
    ]
    graph = helper.make_graph([node], "layer", [values[0]], [values[1]], [numpy_helper.from_array(arrays["w"], "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def onnx_runtime(layer: Layer, arrays: Arrays) -> Calls:
    """A session with the filters packed in advance."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = ec.get_num_threads()
    session = onnxruntime.InferenceSession(_onnx(layer, arrays), options, providers=["CPUExecutionProvider"])
    feed = {"in": arrays["y" if layer.transposed else "x"]}
    return {"forward": lambda: session.run(None, feed)[0]}


def openvino(layer: Layer, arrays: Arrays) -> Calls:
    """A compiled model in float32 (it would take bfloat16 by itself where the processor has it)."""
    import openvino

    core = openvino.Core()
    properties = {
        "INFERENCE_NUM_THREADS": ec.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    compiled = core.compile_model(core.read_model(_onnx(layer, arrays)), "CPU", properties)
    request, feed = compiled.create_infer_request(), [arrays["y" if layer.transposed else "x"]]
    return {"forward": lambda: request.infer(feed, share_inputs=True)[0]}


PEERS: dict[str, tuple[str, Callable[[Layer, Arrays], Calls]]] = {
    "torch": ("PyTorch", pytorch),
    "onnxruntime": ("ONNX Runtime", onnx_runtime),
    "openvino": ("OpenVINO", openvino),
}
"""By the module that must be installed: what it is called, and how it computes a layer."""


def installed() -> list[str]:
    """The peers that there are."""
    needs = {"torch": ("torch",), "onnxruntime": ("onnxruntime", "onnx"), "openvino": ("openvino", "onnx")}
    return [name for name in PEERS if all(importlib.util.find_spec(module) for module in needs[name])]
