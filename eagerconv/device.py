"""The device of each array type: the one dict that a new device is entered in."""

from __future__ import annotations

import numpy as np

DEVICES: dict[type, str] = {np.ndarray: "cpu"}
