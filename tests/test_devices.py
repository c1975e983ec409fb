"""Tensors on a device and between devices: a GPU where there is one, else its stand-in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fake_cuda
import numpy as np
import pytest

import eagerconv as ec
from eagerconv import devices
from eagerconv.kernels_gpu import cuda


@pytest.fixture
def tensor():
    return ec.tensor([[1.0, -2.0], [3.0, 4.0]], requires_grad=True)


def test_to_moves_there_and_back(place, tensor):
    there = tensor.to("cuda")
    assert (there.device, tensor.device) == ("cuda", "cpu")
    np.testing.assert_array_equal(place.get(there.data), tensor.detach())
    assert there.to("cuda") is there
    np.testing.assert_array_equal(there.to("cpu").detach(), tensor.detach())
    assert ec.asarray(tensor, device="cuda").device == "cuda"
    assert ec.tensor([1.0], device="cuda").device == "cuda"
    assert ec.tensor(there).device == "cuda"
    assert ec.asarray(there, dtype="float32").device == "cuda"
    assert "device='cuda'" in repr(there)


def test_gradients_come_back_to_where_the_leaf_is(place, tensor):
    (tensor.to("cuda") ** 2).sum().to("cpu").backward()
    assert tensor.grad.device == "cpu"
    np.testing.assert_array_equal(tensor.grad, 2 * tensor.detach())
    there = ec.tensor(np.ones(3), device="cuda", requires_grad=True)
    (3 * there).sum().backward()
    assert there.grad.device == "cuda"


def test_everyday_operations_stay_on_the_device(place):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 4)), rng.standard_normal((4, 5))

    def network(x, w):
        h = ec.relu(x @ w)
        h = ec.concatenate([h, ec.exp(-h * h)], axis=1)
        h = ec.log_softmax(h[:, 1:].reshape(3, -1), axis=1)
        return (h - h.mean()).sum(axis=0)[:3] @ ec.stack([h[0, :3], h[1, :3]], axis=1)

    results = []
    for where in ("cpu", "cuda"):
        x, w = (ec.tensor(v, device=where, requires_grad=True) for v in (a, b))
        out = network(x, w)
        assert out.device == where
        (out * out).sum().backward()
        assert x.grad.device == w.grad.device == where
        results.append([t.detach().to("cpu").numpy() for t in (out, x.grad, w.grad)])
    for cpu, gpu in zip(*results, strict=True):
        np.testing.assert_allclose(gpu, cpu, rtol=1e-12)


def test_a_network_trains_the_same_on_the_device(place):
    """Convolution, normalisation, pooling, dropout's place, a loss, an optimiser: the same numbers as on the CPU."""
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((6, 2, 9, 9)), np.arange(6) % 3
    start = {"filters": rng.standard_normal((4, 2, 3, 3)), "head": rng.standard_normal((4, 3)), "scale": np.ones(4)}

    def train(where):
        weights = {name: ec.tensor(v, device=where, requires_grad=True) for name, v in start.items()}
        x, y = ec.asarray(images, device=where), ec.asarray(labels, device=where)
        optimiser = ec.optim.Adam(list(weights.values()), lr=0.05)
        losses = []
        for _ in range(3):
            h = ec.conv2d(x, weights["filters"], border_mode="same", bias=weights["scale"])
            h = ec.max_pool2d(ec.relu(h - h.mean(axis=(0, 2, 3), keepdims=True)), 2)
            loss = ec.cross_entropy(h.mean(axis=(2, 3)) @ weights["head"], y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert {w.device for w in weights.values()} == {where}
        return losses

    np.testing.assert_allclose(train("cuda"), train("cpu"), rtol=1e-9)


@pytest.mark.parametrize(("name", "copies"), [("denoise", 2), ("digits", None)])
def test_a_training_step_waits_for_nothing(place, name, copies):
    """Of the demo networks: the batches go to the card, and nothing comes back before it is asked for."""
    if not isinstance(place, fake_cuda.Fake):
        pytest.skip("counts on the stand-in")
    for library in ("sklearn", "tqdm"):
        pytest.importorskip(library)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
    import denoise
    import digits

    rng = np.random.default_rng(0)
    noisy, clean, scans = (rng.random(shape, np.float32) for shape in ((1, 3, 8, 8), (1, 3, 8, 8), (2, 1, 8, 8)))
    losses = {
        "denoise": lambda: ec.mse_loss(denoise.model(params, noisy), clean),
        "digits": lambda: ec.cross_entropy(digits.model(params, scans, rng), np.array([3, 5])),
    }
    with ec.device("cuda"), ec.using("gemm"):  # products are the quickest here
        params = (denoise if name == "denoise" else digits).init(rng)
        optimizer = ec.optim.Adam(params)

        def step():
            loss = losses[name]()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        step()  # plans are made, and tables go to the card
        fake_cuda.traffic.clear()
        loss = step()
        assert set(fake_cuda.traffic) == {"copied to the card"}
        assert copies in (None, fake_cuda.traffic["copied to the card"])
        loss.item()
        assert set(fake_cuda.traffic) - {"copied to the card"} == {"looked at by item"}


def test_a_table_goes_to_the_card_once(place):
    table = devices.constant(np.arange(6).reshape(2, 3), "cuda")
    assert devices.of(table) == "cuda"
    assert devices.constant(np.arange(6).reshape(2, 3), "cuda") is table
    assert devices.constant(np.arange(6), "cuda") is not table
    np.testing.assert_array_equal(place.get(table), np.arange(6).reshape(2, 3))
    assert type(devices.constant(np.arange(6), "cpu")) is np.ndarray


def test_the_examples_train_on_a_device_named_in_one_line(place):
    for library in ("sklearn", "tqdm", "matplotlib"):
        pytest.importorskip(library)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
    import denoise
    import digits

    rng = np.random.default_rng(0)
    scans, patch = rng.random((2, 1, 8, 8), np.float32), rng.random((1, 3, 8, 8), np.float32)
    losses = []
    for where in ("cpu", "cuda"):
        with ec.device(where):  # the line
            p, q = digits.init(np.random.default_rng(1)), denoise.init(np.random.default_rng(2))
            features = digits.model(p, scans, np.random.default_rng(3))
            loss = ec.cross_entropy(features, np.array([3, 5])) + ec.mse_loss(denoise.model(q, patch), patch)
            loss.backward()
            ec.optim.Adam([*p.values(), *q.values()]).step()
        assert {w.device for w in (*p.values(), *q.values())} == {where}
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("function", [
    lambda x: ec.avg_pool2d(x, 2), lambda x: ec.max_pool2d(x, (3, 2)), lambda x: ec.pool_2d(x, 2, pad=(1, 1), mode="sum"),
    lambda x: ec.adaptive_avg_pool(x, (3, 2)), lambda x: ec.adaptive_max_pool(x, (3, 2)), lambda x: ec.group_norm(x, 2),
    lambda x: ec.layer_norm(x, (5, 7)), ec.instance_norm, ec.gelu, ec.silu, ec.softmax, lambda x: ec.elu(x) + ec.mish(x),
    lambda x: ec.max_pool2d(x, 2, pad="same", dilation=2), lambda x: ec.avg_pool2d(x, 3, 2, ((1, 0), 2), ignore_border=False),
    lambda x: ec.max_unpool2d(*ec.max_pool2d(x, 2, return_indices=True), 2, output_size=(5, 7)),
    lambda x: ec.adaptive_max_pool(x, (6, 9)), lambda x: ec.rms_norm(x, 7), lambda x: ec.local_response_norm(x, 3),
    lambda x: ec.glu(x, 1), lambda x: ec.ctc_loss(ec.log_softmax(x.reshape(2, 4, 35), axis=1), [[1, 2], [3, 3]], [30, 35]),
    lambda x: ec.cross_entropy(x.reshape(40, 7), np.arange(40) % 7, weight=np.arange(7.0)),
    lambda x: ec.multi_margin_loss(x.reshape(40, 7), np.arange(40) % 7), lambda x: ec.gaussian_nll_loss(x, 0 * x, x * x),
])  # fmt: skip
def test_layers_run_on_the_device(place, function):
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 7))
    results = []
    for where in ("cpu", "cuda"):
        t = ec.tensor(x, device=where, requires_grad=True)
        out = function(t)
        (out * out).sum().backward()
        assert out.device == t.grad.device == where
        results.append([v.detach().to("cpu").numpy() for v in (out, t.grad)])
    for cpu, gpu in zip(*results, strict=True):
        np.testing.assert_allclose(gpu, cpu, rtol=1e-10, atol=1e-12)


def test_different_devices_raise_and_name_both(place, tensor):
    with pytest.raises(TypeError, match=r"add: operands on cpu and cuda; move one"):
        tensor + tensor.to("cuda")
    with pytest.raises(TypeError, match=r"on 'cuda'.*x\.to\('cpu'\)"):
        tensor.to("cuda").numpy()
    with pytest.raises(ValueError, match="needs a copy"):
        ec.asarray(tensor, device="cuda", copy=False)
    with pytest.raises(ValueError, match=r"device must be one of 'cpu', 'cuda', not 'gpu'"):
        tensor.to("gpu")


def test_the_default_device_is_for_new_tensors_of_this_block(place, tensor):
    with ec.device("cuda"):
        made = [ec.asarray([1.0]), ec.zeros((2, 3)), ec.full(2, 7), ec.arange(3), ec.eye(2), ec.tensor(1.0)]
        assert {t.device for t in made} == {"cuda"}
        assert ec.ones_like(np.ones(3)).device == ec.asarray(np.ones(3)).device == "cuda"
        assert ec.asarray(tensor).device == "cpu"
        with ec.device("cpu"):
            assert ec.asarray([1.0]).device == "cpu"
    assert ec.asarray([1.0]).device == "cpu"


def test_without_a_gpu_the_message_is_one_clear_sentence(monkeypatch, tensor):
    monkeypatch.setattr(cuda, "_runtime", None)
    monkeypatch.setattr(cuda, "gpus", lambda: 0)
    with pytest.raises(cuda.DeviceError, match=r"no CUDA device: .*use the CPU"):
        tensor.to("cuda")
    with pytest.raises(cuda.DeviceError), ec.device("cuda"):
        pass
    assert devices.default() == "cpu"


@pytest.mark.parametrize("error", [ImportError("no module"), PermissionError("home"), RuntimeError("broken")])
def test_a_cupy_that_cannot_be_imported_is_told(monkeypatch, error):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "cupy":
                raise error

    monkeypatch.setattr(cuda, "gpus", lambda: 1)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(cuda.DeviceError, match=f"cannot be imported.*{error}.*pip install"):
        cuda._cupy()


def test_detection_is_silent_and_quick():
    program = (
        "import time, sys, eagerconv.kernels_gpu.cuda as cuda\n"
        "start = time.perf_counter(); cuda.gpus(); first = time.perf_counter() - start\n"
        "start = time.perf_counter(); cuda.gpus(); print(time.perf_counter() - start < 1e-3, 'cupy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == (["True", "False"], "")
