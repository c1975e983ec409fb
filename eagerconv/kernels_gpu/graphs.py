"""Recording of a whole computation as a CUDA graph, which the GPU repeats without Python: `cuda_graph`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from eagerconv.arguments import whole

__all__ = ["CudaGraph", "cuda_graph"]

T = TypeVar("T")


class CudaGraph(Generic[T]):
    """What a function did on the GPU, to be done again by calling it.

    Attributes
    ----------
    result
        What the function returned when it was recorded. Each call writes new values into the same arrays.
    """

    def __init__(self, replay: Callable[[], None], result: T) -> None:
        self._replay = replay
        self.result = result

    def __call__(self) -> T:
        """Enqueue all of it on the current stream, and give out `result`."""
        self._replay()
        return self.result


def cuda_graph(function: Callable[[], T], warmup: int = 2) -> CudaGraph[T]:
    """Record what a function does on the GPU, and give out something that does it again without running Python.

    Each operation costs the host some ten microseconds, which for small networks is more than the GPU takes. A recorded
    training step is launched as one.

    Parameters
    ----------
    function : callable
        Takes nothing. It reads arrays of the GPU, which keep their places: write new data into them (``x.data[...] = batch``)
        before each call. It runs `warmup` times, then once to be recorded, so it trains that often.
    warmup : int
        How often it runs before, at least once: plans are made and memory is found then, which a recording can't hold.

    Returns
    -------
    CudaGraph
        Call it to do everything again, with the same arrays.

    Raises
    ------
    ValueError
        If `warmup` is below 1.
    RuntimeError
        If the function does what can't be recorded: reading a value on the host, giving an array of the CPU to one of the
        GPU, or a matrix product, which CuPy's cuBLAS refuses to record (convolutions and those of one tap can be).
    DeviceError
        If there is no GPU.

    Notes
    -----
    Numbers that Python computes are recorded as they were: a learning rate that follows a schedule, Adam's correction for
    its first steps, the branch of an `if`. Memory of intermediate results stays reserved as long as the graph lives.
    `torch.cuda.graph` is PyTorch's counterpart.

    Examples
    --------
    >>> import eagerconv as ec
    >>> def step():
    ...     optimizer.zero_grad()
    ...     loss = ec.mean((model(p, x) - target) ** 2)
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> train = ec.cuda_graph(step)  # doctest: +SKIP
    >>> for batch in batches:  # doctest: +SKIP
    ...     x.data[...] = batch
    ...     loss = train()
    """
    whole("cuda_graph: warmup", warmup, 1)
    from eagerconv.kernels_gpu.cuda import runtime  # only here: programs of the CPU do without

    try:
        replay, result = runtime().record(function, warmup)
    except NotImplementedError as error:
        raise RuntimeError(
            "cuda_graph: CuPy refuses to record a matrix product of cuBLAS; use convolutions of one tap in place of "
            "`linear` and `matmul` and not the algorithm 'gemm', or leave that part out of the recorded function"
        ) from error
    return CudaGraph(replay, result)
