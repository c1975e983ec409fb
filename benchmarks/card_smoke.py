"""Each algorithm, slot and type once on a GPU, against plain sums in float64: the first minute of `benchmarks.card`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import product
from typing import Any

from benchmarks import card_child
from benchmarks.card_child import Case, Skip

SLOTS = ("forward", "gradient of inputs", "gradient of weights")
ALLOWED = {"float64": 1e-12, "float32": 1e-5, "TF32": 3e-3, "float16": 3e-3, "bfloat16": 2e-2}
"""The largest error, relative to the largest true value; other types are exact."""

PLAIN: dict[str, Any] = {"border_mode": 1, "filter_flip": False}
ODD: dict[str, Any] = {"border_mode": ((0, 2), 1), "subsample": (2, 1), "filter_dilation": (1, 2), "num_groups": 2}


class Watched:
    """A runtime that writes down what it is asked to do, before it does it."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._runtime, name)
        return watched(name, value) if name in ("gemm", "rfftn", "irfftn") else value

    def function(self, dtype: str, name: str) -> Callable[..., None]:
        return watched(f"kernel {name} of {dtype}", self._runtime.function(dtype, name))

    def compiled(self, text: str, name: str) -> Callable[..., None]:
        return watched(f"kernel {name}", self._runtime.compiled(text, name))


def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that tells of each call, in this process and in its log, which is all that stays when it crashes."""

    def run(*arguments: Any, **options: Any) -> Any:
        shown = [f"{getattr(a, 'shape', a)}" for a in flat(arguments)]
        card_child.launched = f"{name}({', '.join(shown)})"
        print(card_child.launched, flush=True)
        return function(*arguments, **options)

    return run


def flat(values: Iterable[Any]) -> list[Any]:
    """The arguments of a launch, whose own are a tuple."""
    found: list[Any] = []
    for value in values:
        found += flat(value) if isinstance(value, tuple) else [value]
    return found


def watch_launches() -> None:
    """From now on tell of kernels, products, transforms, and engines of cuDNN."""
    from eagerconv.kernels_gpu import cuda, cudnn_backend

    cuda._runtime = Watched(cuda.runtime())  # type: ignore[assignment]  # it has all that is asked
    execute = cudnn_backend.Plan.execute

    def told(plan: Any, handle: Any, places: tuple[int, ...]) -> None:
        watched(f"an engine of cuDNN with {plan.workspace:,} bytes of workspace", lambda *_: None)(*places)
        execute(plan, handle, places)

    cudnn_backend.Plan.execute = told  # type: ignore[method-assign]  # for the time of the smoke


def smoke() -> list[Case]:
    """What is used most comes first; compiling for the types that are used least, last."""
    watch_launches()
    names, layouts = ("cudnn", "gemm", "direct", "fft"), ("NCHW", "NHWC")
    told = [Case("arrays there and back", there_and_back)]

    def add(
        name: str, slot: str, kind: str, layout: str = "NCHW", options: Mapping[str, Any] = PLAIN, nd: int = 2
    ) -> None:
        shape = "plain" if options is PLAIN else "unshared" if "unshared" in options else "odd"
        told.append(
            Case(
                f"{name}, {slot}, {kind}, {layout}, {shape}, {nd}-D",
                partial(solve, name, slot, kind, layout, options, nd),
            )
        )

    for name, slot in product(names, SLOTS):
        add(name, slot, "float32")
    for kind, layout, slot in product(("float32", "TF32", "float16", "bfloat16", "float64"), layouts, SLOTS):
        if (kind, layout) != ("float32", "NCHW"):
            add("cudnn", slot, kind, layout)
    for name, slot in product(names, SLOTS):
        add(name, slot, "float32", options=ODD)
    for kind, slot in product(("TF32", "float16", "bfloat16", "float64"), SLOTS):
        add("gemm", slot, kind)
    for name, nd in product(names, (1, 3)):
        add(name, "forward", "float32", nd=nd)
    for slot in SLOTS:
        add("fft", slot, "float64")
        add("direct", slot, "float32", options={**PLAIN, "unshared": True})
    told += [Case("bias and relu in one go", finished), Case("other numbers in the same places", repeated)]
    told += [Case("the tape", on_the_tape), Case("formulas", formulas)]
    for kind in (
        "float16",
        "bfloat16",
        "float64",
        "complex64",
        "int64",
        "bool",
        "uint8",
        "int8",
        "int32",
        "complex128",
    ):
        add("direct", "forward", kind)
    return told


def there_and_back() -> None:
    import numpy as np

    import eagerconv as ec

    x = np.arange(24.0).reshape(2, 3, 4)
    if not np.array_equal(ec.asarray(x).to("cuda").to("cpu").numpy(), x):
        raise AssertionError("an array came back changed")


def dtype_of(kind: str) -> Any:
    import numpy as np

    if kind == "bfloat16":
        try:
            import ml_dtypes
        except ImportError:
            raise Skip("bfloat16 needs ml_dtypes") from None
        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype("float32" if kind == "TF32" else kind)


def solve(name: str, slot: str, kind: str, layout: str, options: Mapping[str, Any], nd: int) -> dict[str, Any]:
    """One algorithm, slot and type; the error, and on failure the numbers beside the true ones."""
    import numpy as np
    import oracle

    import eagerconv as ec
    from benchmarks.gpu_layers import channels_last

    if layout == "NHWC" and nd != 2:
        raise Skip("two dimensions have that layout")
    options = dict(options)
    rng, dtype, groups = np.random.default_rng(0), dtype_of(kind), options.get("num_groups", 1)
    sizes, kernel = (9, 11, 6)[:nd], (3, 3, 3)[:nd]
    whole = kind not in ALLOWED

    def numbers(*shape: int) -> np.ndarray:
        values = rng.integers(0 if kind.startswith(("u", "b")) and kind != "bfloat16" else -2, 3, shape)
        return (values if whole else rng.standard_normal(shape)).astype(dtype)

    x = numbers(2, 8, *sizes)
    places: tuple[int, ...] = ()
    if options.get("unshared"):
        places = tuple(n + 2 * options["border_mode"] - 2 for n in sizes)
    w = numbers(16, *places, 8 // groups, *kernel)
    exact = [a.astype(complex if dtype.kind == "c" else float) for a in (x, w)]
    y = numbers(*oracle.forward(*exact, **options).shape)
    operands = {"forward": (x, w), "gradient of inputs": (y, w), "gradient of weights": (x, y)}[slot]
    shape = {"forward": (), "gradient of inputs": (x.shape,), "gradient of weights": (w.shape,)}[slot]
    wide = [a.astype(complex if dtype.kind == "c" else float) for a in operands]
    tail = {"forward": "", "gradient of inputs": "_grad_wrt_inputs", "gradient of weights": "_grad_wrt_weights"}[slot]
    truth = getattr(
        oracle, {"": "forward", "_grad_wrt_inputs": "grad_inputs", "_grad_wrt_weights": "grad_weights"}[tail]
    )(*wide, *shape, **options)
    placed = [ec.asarray(a).to("cuda") for a in operands]
    if layout == "NHWC":
        placed = [ec.asarray(channels_last(t.data)) for t in placed]
    with ec.using(tf32=kind == "TF32"):
        result = getattr(ec, f"conv{nd}d{tail}")(*placed, *shape, algorithm=name, **options)
    own = result.to("cpu").numpy()
    if kind == "bool":
        truth = truth != 0
    elif whole:
        truth = truth.astype(dtype)
    own, truth = (a.astype(complex if dtype.kind == "c" else float) for a in (own, truth))
    error = float(np.abs(own - truth).max() / np.abs(truth).max())
    if not error <= ALLOWED.get(kind, 0):
        shown = np.array2string(np.stack([own.ravel()[:6], truth.ravel()[:6]]), precision=4)
        wrong = int(np.sum(~(np.abs(own - truth) <= ALLOWED.get(kind, 0) * np.abs(truth).max())))
        raise AssertionError(
            f"relative error {error:.1e}, {wrong} of {own.size} numbers; the first, and the true ones: {shown}"
        )
    return {"error": error}


def finished() -> None:
    """A bias and a rectifier by cuDNN itself, or after it."""
    import numpy as np
    import oracle

    import eagerconv as ec

    rng = np.random.default_rng(1)
    x, w, bias = (rng.standard_normal(shape, dtype="f") for shape in ((2, 8, 9, 11), (16, 8, 3, 3), (16,)))
    truth = np.maximum(oracle.forward(x, w, **PLAIN) + bias[:, None, None], 0)
    placed = [ec.asarray(a).to("cuda") for a in (x, w, bias)]
    own = ec.conv2d(*placed[:2], bias=placed[2], activation="relu", **PLAIN).to("cpu").numpy()
    np.testing.assert_allclose(own, truth, atol=1e-4)


def repeated() -> None:
    """What cuDNN was told of places is used again when a result gets the memory of the one before."""
    import numpy as np
    import oracle

    import eagerconv as ec

    rng = np.random.default_rng(3)
    x, w = (rng.standard_normal(shape, dtype="f") for shape in ((2, 8, 9, 11), (16, 8, 3, 3)))
    truth, placed = oracle.forward(x, w, **PLAIN), [ec.asarray(a).to("cuda") for a in (x, w)]
    for scale in (1, 2, 4, 8):
        own = ec.conv2d(*placed, algorithm="cudnn", **PLAIN).to("cpu").numpy()
        np.testing.assert_allclose(own, scale * truth, atol=1e-4 * scale)
        placed[0].data[...] *= 2


def on_the_tape() -> None:
    """A small network's loss and gradients, beside those of the CPU."""
    import numpy as np

    import eagerconv as ec

    rng = np.random.default_rng(2)
    values = [rng.standard_normal(shape) for shape in ((4, 3, 8, 8), (6, 3, 3, 3), (6,), (5, 96))]
    found = []
    for where in ("cpu", "cuda"):
        x, *leaves = (ec.tensor(v, device=where, requires_grad=True) for v in values)
        h = ec.max_pool2d(ec.conv2d(x, leaves[0], border_mode="same", bias=leaves[1], activation="relu"), 2)
        loss = ec.cross_entropy(ec.linear(h.reshape(4, -1), leaves[2]), np.array([0, 3, 1, 4]))
        loss.backward()
        found.append([t.detach().to("cpu").numpy() for t in (loss, *(leaf.grad for leaf in (x, *leaves)))])
    for cpu, gpu in zip(*found, strict=True):
        np.testing.assert_allclose(gpu, cpu, rtol=1e-10, atol=1e-12)


def formulas() -> None:
    """Activations, their gradients and a step of Adam, each one kernel, beside the CPU's."""
    import numpy as np

    import eagerconv as ec

    values, found = np.random.default_rng(4).standard_normal((3, 1000)), []
    for where in ("cpu", "cuda"):
        x = ec.tensor(values, dtype="float32", device=where, requires_grad=True)
        optimizer = ec.optim.Adam([x], lr=0.1)
        y = ec.gelu(x) + ec.silu(x) + ec.sigmoid(x) + ec.softplus(x) + ec.elu(x)
        (y * y).sum().backward()
        gradient = x.grad
        optimizer.step()
        found.append([t.detach().to("cpu").numpy() for t in (y, gradient, x)])
    for cpu, gpu in zip(*found, strict=True):
        np.testing.assert_allclose(gpu, cpu, rtol=2e-5, atol=2e-5)


def own_kernels() -> None:
    """All kernels that are ours: with groups, strides, padding and tails of blocks."""
    from eagerconv.kernels_gpu import cuda

    for name, slot in product(("direct", "gemm"), SLOTS):
        solve(name, slot, "float32", "NCHW", ODD, 2)
    formulas()
    cuda.runtime().synchronize()
