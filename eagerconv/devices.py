"""Devices: where an array lives, how to move it, and where new arrays are made. No library is imported before it is needed."""

from __future__ import annotations

from typing import Any

import numpy as np

from eagerconv.scopes import Block, Setting

DEVICES: dict[type, str] = {np.ndarray: "cpu"}
"""The device of each array type met so far; `of` enters CuPy's."""

NAMES = ("cpu", "cuda")

_default = Setting("device", "cpu")

MOST_CONSTANTS = 256
_constants: dict[tuple[Any, ...], Any] = {}
"""Tables that are on a GPU, by what is in them."""


def of(array: Any) -> str | None:
    """The device that an array lives on, or None for what is not an array of ours.

    Examples
    --------
    >>> of(np.ones(3))
    'cpu'
    """
    kind = type(array)
    device = DEVICES.get(kind)
    if device is None and kind.__module__.partition(".")[0] == "cupy" and kind.__name__ == "ndarray":
        device = DEVICES[kind] = "cuda"  # an array of CuPy's: it has been imported, but not by us
    return device


def known(device: str) -> str:
    """The device, if there is one of that name.

    Raises
    ------
    ValueError
        For another name.
    """
    if device not in NAMES:
        hint = f"; for another dtype write x.astype({np.dtype(device).name!r})" if _is_dtype(device) else ""
        raise ValueError(f"device must be one of {', '.join(map(repr, NAMES))}, not {device!r}{hint}")
    return device


def _is_dtype(value: Any) -> bool:
    try:
        return value is not None and np.dtype(value).kind in "biufc"
    except TypeError:
        return False


def present() -> list[str]:
    """The devices of this machine, as far as the drivers tell."""
    from eagerconv.kernels_gpu.cuda import gpus

    return ["cpu", "cuda"] if gpus() else ["cpu"]


def default() -> str:
    """The device on which new arrays are made: "cpu" outside `with device(...)`."""
    return _default.get()


def move(array: Any, device: str) -> Any:
    """The array on a device: itself if it is there, else a copy.

    Raises
    ------
    ValueError
        If there is no device of that name.
    DeviceError
        If this machine has no GPU that can be used; the message tells what is missing.
    """
    if of(array) == known(device):
        return array
    from eagerconv.kernels_gpu.cuda import runtime

    return runtime().get(array) if device == "cpu" else runtime().put(array)


def constant(table: np.ndarray, device: str) -> Any:
    """An array that nobody changes, on a device: copied there once, however often it is made anew on the CPU."""
    if device == "cpu":
        return table
    from eagerconv.kernels_gpu.cuda import runtime

    now = runtime()
    key = now, now.device(), table.tobytes(), table.dtype.str, table.shape
    if key not in _constants:
        if len(_constants) >= MOST_CONSTANTS:
            _constants.clear()
        _constants[key] = now.put(table)
    return _constants[key]


def device(name: str) -> Block:
    """Make new tensors on a device inside a `with` block, or decorated function, in this thread or asyncio task.

    It is where `zeros` and its kin make tensors, and where NumPy arrays and numbers given to a function go. Tensors, and
    arrays that are on a GPU, stay where they are.

    Parameters
    ----------
    name : {"cpu", "cuda"}

    Raises
    ------
    ValueError
        If there is no device of that name.
    DeviceError
        On entering, if this machine has no GPU that can be used; the message tells what is missing.

    Examples
    --------
    >>> import eagerconv as ec
    >>> with ec.device("cpu"):
    ...     ec.zeros(2).device
    'cpu'
    """
    known(name)

    def change(outer: str) -> str:
        if name == "cuda":
            from eagerconv.kernels_gpu.cuda import runtime

            runtime()
        return name

    return _default.inside(change)
