"""What every test shares: the Hypothesis profile, and a GPU or its stand-in."""

from __future__ import annotations

import os
from types import SimpleNamespace

import fake_cuda
import pytest
from hypothesis import settings

from eagerconv import devices
from eagerconv.kernels_cpu import jit, threads
from eagerconv.kernels_gpu import cuda, cudnn_backend

# No deadline: the first example may wait for Numba to compile. The blob lets a failure seen elsewhere be replayed.
settings.register_profile("eagerconv", deadline=None, print_blob=True)
settings.load_profile("eagerconv")


def pytest_addoption(parser):
    parser.addoption(
        "--plan-only", action="store_true", help="neither compile nor call kernels: for tests marked `plans`"
    )


def nothing(*arguments):
    """Stands in for a kernel."""


def pytest_configure(config):
    if config.getoption("--plan-only"):
        jit._load = lambda function, dtype: SimpleNamespace(name=function, call_arrays=nothing)
        threads.team = lambda: nothing


LONG = ("test_cache.py", "test_guard.py", "test_kernels.py")
"""Files of long tests, which compile in processes of their own."""


def pytest_collection_modifyitems(items):
    """Skip what needs a GPU where there is none; begin with long tests, so that several workers finish together."""
    items.sort(key=lambda item: item.path.name not in LONG)
    try:
        cuda.runtime()
    except cuda.DeviceError as error:
        skip = pytest.mark.skip(reason=str(error))
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def one_thread_to_plan_for(request):
    """Plans and choices count the threads there are: let those that are asserted count one on every machine."""
    before = threads.get_num_threads()
    if request.node.get_closest_marker("plans"):
        threads.set_num_threads(1)
    yield
    threads.set_num_threads(before)


@pytest.fixture(scope="module", params=["fake", pytest.param("card", marks=pytest.mark.gpu)])
def place(request):
    """Where arrays go: our libcudnn in the place of the real one and our array type in CuPy's, or a GPU."""
    if request.param == "card":
        yield fake_cuda.Card()
        return
    if fake_cuda.NO_COMPILER:
        pytest.skip(fake_cuda.NO_COMPILER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "EAGERCONV_CUDNN", str(fake_cuda.fake_cudnn()))
        patch.setattr(cudnn_backend, "_load_cublaslt", lambda: None)
        patch.setitem(devices.DEVICES, fake_cuda.CudaArray, "cuda")
        patch.setattr(cuda, "_runtime", fake_cuda.FakeRuntime())
        fake_cuda.forget()
        yield fake_cuda.Fake()
        fake_cuda.forget()
