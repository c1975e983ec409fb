"""The device of each array type; arrays of a library that is not NumPy are known without importing it."""

from __future__ import annotations

from typing import Any

import numpy as np

DEVICES: dict[type, str] = {np.ndarray: "cpu"}
"""The device of each array type met so far; `of` enters CuPy's."""


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
