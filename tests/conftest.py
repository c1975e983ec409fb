"""Settings that every test shares: the Hypothesis profile."""

from __future__ import annotations

import pytest
from hypothesis import settings

# No deadline: the first example may wait for Numba to compile. The blob lets a failure seen elsewhere be replayed.
settings.register_profile("eagerconv", deadline=None, print_blob=True)
settings.load_profile("eagerconv")


def pytest_collection_modifyitems(items):
    """Skip what needs a GPU where there is none."""
    from eagerconv.kernels_gpu import cuda

    try:
        cuda.runtime()
    except cuda.DeviceError as error:
        skip = pytest.mark.skip(reason=str(error))
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skip)
