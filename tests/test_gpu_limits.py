"""What only a card can show: arrays of more than 2^31 elements, streams, several devices, memory that runs out, races."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest

import eagerconv as ec

pytestmark = pytest.mark.gpu

NAMES = ("cudnn", "gemm", "fft", "direct")


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy", exc_type=ImportError)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cudnn", "gemm", "direct"])
def test_more_elements_than_32_bits_can_count(cupy, name):
    """Filters of one and two taps on two images, 2^31 + 4,100 numbers in all: the last ones of each are checked, and some
    beyond each power of two.
    """
    length = (1 << 30) + 2050  # of one image, which cuBLAS can count
    needed = (
        8 * length + (4 * length if name == "gemm" else 0) + (1 << 32)
    )  # bytes: both arrays, columns, and some to spare
    if cupy.cuda.Device().mem_info[0] < needed:
        pytest.skip(f"needs {needed >> 30} GiB of free memory on the card")
    x = cupy.empty((2, 1, length), np.float16)
    for image in range(2):
        for start in range(0, length, 1 << 27):
            part = x[image, 0, start : start + (1 << 27)]
            part[...] = (cupy.arange(start + image, start + image + part.size, dtype=np.int64) % 7).astype(np.float16)
    w = cupy.asarray([[[1.0, 2.0]]], np.float16)
    y = ec.conv1d(x, w, filter_flip=False, algorithm=name).data
    assert y.shape == (2, 1, length - 1)
    for image in range(2):
        for start in (0, (1 << 29) - 5, (1 << 30) - 5, length - 65):
            at = np.arange(start, start + 64, dtype=np.int64) + image
            np.testing.assert_array_equal(cupy.asnumpy(y[image, 0, start : start + 64]), at % 7 + 2 * ((at + 1) % 7))


@pytest.mark.parametrize("name", NAMES)
def test_work_follows_the_current_stream(cupy, name):
    """Values written late on a stream are those that a convolution on that stream reads."""
    rng = np.random.default_rng(0)
    x, w = rng.integers(-3, 4, (2, 4, 64, 64)).astype("f"), rng.integers(-3, 4, (4, 4, 3, 3)).astype("f")
    expected = ec.conv2d(x, w).numpy()
    images, filters, busy = cupy.zeros_like(cupy.asarray(x)), cupy.asarray(w), cupy.ones((4096, 4096), "f")
    stream = cupy.cuda.Stream(non_blocking=True)
    ec.conv2d(images, filters, algorithm=name)  # plans and compilation first
    cupy.cuda.Device().synchronize()
    with stream:
        for _ in range(20):
            busy = busy * 1.0001
        images[...] = cupy.asarray(x)
        y = ec.conv2d(images, filters, algorithm=name).data
    stream.synchronize()
    np.testing.assert_allclose(cupy.asnumpy(y), expected, atol=1e-2 if name == "fft" else 0)


@pytest.mark.parametrize("name", NAMES)
def test_each_device_computes_its_own(cupy, name):
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two GPUs")
    x, w = np.ones((1, 1, 6, 6), "f"), np.ones((1, 1, 3, 3), "f")
    for number in (1, 0, 1):
        with cupy.cuda.Device(number):
            images, filters = cupy.asarray(x), cupy.asarray(w)
        y = ec.conv2d(images, filters, algorithm=name).data  # the current device is another one
        assert y.device.id == number
        np.testing.assert_array_equal(cupy.asnumpy(y), np.full((1, 1, 4, 4), 9))
    with cupy.cuda.Device(0):
        other = cupy.asarray(w)
    with pytest.raises(TypeError, match="cuda:1 and cuda:0"):
        ec.conv2d(images, other, algorithm=name)


def test_a_card_without_room_says_so_and_goes_on(cupy):
    limit = cupy.get_default_memory_pool()
    limit.free_all_blocks()
    before = limit.get_limit()
    x, w = cupy.ones((8, 64, 128, 128), "f"), cupy.ones((64, 64, 3, 3), "f")
    try:
        limit.set_limit(size=limit.used_bytes() + (1 << 20))
        with pytest.raises(MemoryError, match="bytes for an array of shape"):
            ec.conv2d(x, w)
    finally:
        limit.set_limit(size=before)
    assert float(cupy.asnumpy(ec.conv2d(x, w).data).max()) == 64 * 9


def test_no_block_of_threads_races_or_steps_outside(tmp_path):
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        pytest.skip("needs compute-sanitizer, of the CUDA toolkit")
    program = """
import numpy as np, cupy, eagerconv as ec
x, w = cupy.ones((2, 6, 9, 11), "f"), cupy.ones((4, 3, 3, 2), "f")
for name in ("direct", "gemm"):
    y = ec.conv2d(x, w, num_groups=2, subsample=(2, 1), border_mode=1, algorithm=name).data
    ec.conv2d_grad_wrt_inputs(y, w, x.shape, num_groups=2, subsample=(2, 1), border_mode=1, algorithm=name)
    ec.conv2d_grad_wrt_weights(x, y, w.shape, num_groups=2, subsample=(2, 1), border_mode=1, algorithm=name)
cupy.cuda.Device().synchronize()
"""
    for check in ("memcheck", "racecheck"):
        command = [tool, "--tool", check, "--error-exitcode", "9", sys.executable, "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:]
