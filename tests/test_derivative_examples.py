"""The examples about derivatives: the bridge to PyTorch, a gradient penalty, Hessian-vector products; what they claim."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eagerconv as ec

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def example_of(name: str) -> Any:
    """The module, found by its file: a helper of the tests has the name of one."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(module: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
    module.main()


def test_torch_bridge(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="the bridge leads to PyTorch")
    torch_bridge = example_of("torch_bridge")

    assert torch_bridge.shared_memory()
    assert max(torch_bridge.layer_differences().values()) < 1e-14
    monkeypatch.setattr(torch_bridge.train, "__defaults__", (31,))
    run(torch_bridge, monkeypatch)
    assert "Memory is shared across the border: True" in capsys.readouterr().out


def test_torch_loss_learns() -> None:
    torch = pytest.importorskip("torch", reason="the bridge leads to PyTorch")
    torch_bridge = example_of("torch_bridge")

    losses = torch_bridge.train(31)
    assert losses[-1] < 0.35 * losses[0]
    rng = np.random.default_rng(0)
    logits, words = rng.standard_normal((2, 5, 9)), torch.tensor([[1, 2], [3, 3]])

    def loss(x: Any) -> ec.Tensor:  # PyTorch's gradient of this loss holds for normalised probabilities only
        return torch_bridge.ctc_loss(ec.log_softmax(x, axis=1), words)

    ec.check_grads(loss, [logits], order=1, modes=("rev",))


def test_gradient_penalty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    example = example_of("gradient_penalty")

    rng = np.random.default_rng(0)
    p, (x, _) = example.init(rng), example.sample(rng, 2)
    values = {name: q.data.astype(float) for name, q in p.items()}
    ec.check_grads(
        lambda w: ((example.slopes({**values, "conv1": w}, x.astype(float)) - 1) ** 2).mean(),
        [values["conv1"]],
        order=1,
        modes=("rev",),
    )
    _, free, steep = example.train(0.0, 60)
    _, distances, slopes = example.train(10.0, 60)
    assert free[-1] > 20
    assert steep[-1] > 10
    assert 1 < np.mean(distances[-10:]) < 3
    assert 0.7 < np.mean(slopes[-10:]) < 1.4
    run(example, monkeypatch, "--steps", "20", "--output", str(tmp_path / "picture.png"))
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_hessian_vector(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    example = example_of("hessian_vector")

    a = np.random.default_rng(0).standard_normal((12, 12))
    whole = a @ a.T

    def quadratic(p: Any) -> ec.Tensor:
        x = ec.concatenate([p["u"].reshape(-1), p["v"]])
        return 0.5 * x @ (ec.asarray(whole) @ x)

    start = {"u": np.ones((2, 4)), "v": np.ones(4)}
    assert example.largest_curvature(quadratic, start, 12) == pytest.approx(np.linalg.eigvalsh(whole)[-1])
    result = example.experiment(80, 25, examples=60)
    below, above = result["tries"][0.9], result["tries"][1.1]
    assert below[-1] < below[0]
    assert above[-1] > above[0]
    assert result["curvature"] > 1
    monkeypatch.setattr(example, "experiment", lambda: result)
    run(example, monkeypatch)
    assert "steps up to" in capsys.readouterr().out
