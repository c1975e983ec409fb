"""Minibatches, saving and loading, and the whole of it: a run that was interrupted gives the same bits."""

from __future__ import annotations

import builtins
import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eagerconv as ec
from eagerconv import data, tree

X = np.arange(50.0, dtype="float32").reshape(10, 5)
Y = np.arange(10)

# ----- Minibatches -----


def test_minibatches_hold_every_example_once() -> None:
    batches = data.minibatches({"x": X, "y": [ec.tensor(Y)]}, 4, np.random.default_rng(0))
    assert len(batches) == 3
    first, second = ([b["y"][0] for b in batches] for _ in range(2))
    assert [len(part) for part in first] == [4, 4, 2]
    assert sorted(np.concatenate(first)) == sorted(np.concatenate(second)) == list(range(10))
    assert list(np.concatenate(first)) != list(np.concatenate(second)) != list(range(10))
    for b in batches:
        np.testing.assert_array_equal(b["x"], X[b["y"][0]])
        b["x"][...] = 0  # a copy
    assert X[-1, -1] == 49
    assert [len(x) for x, _ in data.minibatches((X, Y), 4, drop_last=True)] == [4, 4]
    assert len(data.minibatches(X, 4, drop_last=True)) == 2


def test_progress_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")
    batches = data.minibatches((X, Y), 5, progress="epoch 7")
    batches.report(loss=1.0)  # nothing to see yet
    for _ in batches:
        batches.report(loss=0.12345)
    shown = capsys.readouterr().err
    assert "epoch 7" in shown
    assert "2/2" in shown
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match="pip install tqdm"):
        list(batches)


def test_minibatches_errors() -> None:
    with pytest.raises(ValueError, match=r"same number of examples, at least one; got \[\(10, 5\), \(9,\)\]"):
        data.minibatches((X, Y[:9]), 4)
    with pytest.raises(ValueError, match="at least one"):
        data.minibatches(X[:0], 4)
    with pytest.raises(ValueError, match="size must be an int of at least 1"):
        data.minibatches(X, 0)
    with pytest.raises(TypeError, match=r"rng must be a numpy\.random\.Generator, as .*, not int"):
        data.minibatches(X, 2, 0)  # type: ignore[arg-type]


# ----- Saving -----


def test_everything_comes_back(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    ml_dtypes = pytest.importorskip("ml_dtypes")
    dtypes = ["bool", "uint8", "int64", "float16", "float32", "float64", "complex64", "complex128", ml_dtypes.bfloat16]
    one = {
        "arrays": [np.arange(6).reshape(2, 3).astype(d) for d in dtypes],
        "views": (X.T, X[::-2], np.ones(()), np.zeros((0, 3)), X.astype(">f4")),
        "params": {"w": ec.tensor([1 + 2j], requires_grad=True), "b": ec.tensor([1.0], "float16")},
        "numbers": [1, 0.1, True, None, "text", np.float32(0.5)], "empty": {}, "rng": np.random.default_rng(3),
    }  # fmt: skip
    one["rng"].random(7)
    path = tmp_path / "all.safetensors"
    ec.save(path, one)
    two = ec.load(path)
    assert [p.name for p in tmp_path.iterdir()] == ["all.safetensors"]
    assert tree.flatten(two)[1] == tree.flatten(one)[1]
    for a, b in zip(one["arrays"] + list(one["views"]), two["arrays"] + list(two["views"]), strict=True):
        assert a.dtype.newbyteorder("=") == b.dtype
        np.testing.assert_array_equal(a, b)
    assert two["numbers"] == one["numbers"]
    assert two["rng"].random() == one["rng"].random()
    w, b = two["params"]["w"], two["params"]["b"]
    assert (w.requires_grad, w.is_leaf, b.requires_grad) == (True, True, False)
    w.data[...] = 0  # memory of its own, that may be written to


def test_files_are_plain_safetensors(tmp_path: Path) -> None:
    safetensors_torch = pytest.importorskip("safetensors.torch")
    torch = pytest.importorskip("torch")
    ec.save(tmp_path / "ours", {"conv": {"weight": ec.tensor(X)}, "scale": [ec.tensor(2.0)]})
    seen = safetensors_torch.load_file(tmp_path / "ours")
    assert sorted(seen) == ["conv.weight", "scale.0"]
    np.testing.assert_array_equal(seen["conv.weight"].numpy(), X)
    safetensors_torch.save_file({"layer.0.weight": torch.tensor(X)}, tmp_path / "theirs")
    found = ec.load(tmp_path / "theirs")
    np.testing.assert_array_equal(found["layer.0.weight"], X)
    header = (tmp_path / "ours").read_bytes()
    (length,) = struct.unpack("<Q", header[:8])
    assert json.loads(header[8 : 8 + length])["conv.weight"]["shape"] == [10, 5]


def test_saving_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path / "file"
    ec.save(path, {"w": X})
    with pytest.raises(TypeError, match=r"a\.0 is set, which cannot be saved"):
        ec.save(path, {"a": [{1}]})
    for bad in ({1: X}, {"": X}):
        with pytest.raises(ValueError, match="keys must be strings, neither empty"):
            ec.save(path, bad)
    np.testing.assert_array_equal(ec.load(path)["w"], X)  # what was there is there
    with pytest.raises(FileNotFoundError):
        ec.load(tmp_path / "none")
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name.startswith("safetensors"):
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install safetensors"):
        ec.load(path)


# ----- The whole of it -----


def start() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "params": {
            "conv": ec.init.he_normal((4, 1, 3), rng), "scale": ec.init.ones(4), "shift": ec.init.zeros(4),
            "out": {"w": ec.init.glorot_uniform((3, 4), rng), "b": ec.init.zeros(3)},
        },
        "running": {"mean": np.zeros(4, "f4"), "var": np.ones(4, "f4")}, "rng": rng, "optimizer": None,
    }  # fmt: skip


def train(state: dict[str, Any], epochs: int) -> list[float]:
    """A network with everything that has a state: batch statistics, dropout, shuffling, moments, a schedule."""
    images = np.random.default_rng(1).standard_normal((24, 1, 9)).astype("float32")
    labels = np.random.default_rng(2).integers(3, size=24)
    p, rng = state["params"], state["rng"]
    optimizer = ec.optim.AdamW(p, lr=ec.schedule.cosine(0.05, 40))
    if state["optimizer"] is not None:
        optimizer.load_state_dict(state["optimizer"])
    losses = []
    for _ in range(epochs):
        for x, y in data.minibatches((images, labels), 7, rng):
            h = ec.conv1d(x, p["conv"], border_mode="same")
            h, state["running"] = ec.batch_norm(h, state["running"], p["scale"], p["shift"])
            h = ec.dropout(ec.global_avg_pool(ec.gelu(h)), 0.2, rng)
            loss = ec.cross_entropy(ec.linear(h, p["out"]["w"], p["out"]["b"]), y, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            grads, _ = ec.optim.clip_by_norm(tree.map(lambda q: q.grad, p), 1.0)
            optimizer.step(grads)
            losses.append(loss.item())
    state["optimizer"] = optimizer.state_dict()
    return losses


def test_an_interrupted_run_gives_the_same_bits(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    whole, begun = start(), start()
    losses = train(whole, 5)
    first = train(begun, 2)
    ec.save(tmp_path / "run.safetensors", begun)
    resumed = ec.load(tmp_path / "run.safetensors")
    assert first + train(resumed, 3) == losses
    for one, two in zip(tree.leaves(whole["params"]), tree.leaves(resumed["params"]), strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    for name in ("mean", "var"):
        np.testing.assert_array_equal(whole["running"][name], resumed["running"][name])
