"""The stages of `benchmarks.card` for a card played by the CPU: the same code on small problems (`test_card.py`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks import card_stages
from benchmarks.card_child import Report, Stage, cases, pytest_run

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))

running: list[Any] = []
"""The stand-in, which is there as long as this process."""


def prepare() -> None:
    """The CPU plays a GPU."""
    card_stages.prepare()
    import fake_cuda

    running.append(fake_cuda.played())
    running[0].__enter__()
    shrink()


def shrink(setattr: Any = setattr) -> None:
    """Networks and layers are small, as every product is counted, and PyTorch has no such card."""
    from benchmarks import gpu_layers, layers, resnet

    some = [layers.Layer("grouped", 1, 4, (5, 5), 4, (3, 3), 1, 1, 1, 2)]
    setattr(layers, "CORE", some)
    setattr(gpu_layers, "QUICK", gpu_layers.Effort(1, 2, 2))
    setattr(gpu_layers, "TINY", layers.Layer("tiny", 1, 1, (3, 3), 1, (3, 3)))
    setattr(resnet, "STAGES", ((1, 2), (1, 2)))
    setattr(resnet, "CLASSES", 4)
    setattr(card_stages, "torch_first", lambda: None)
    setattr(card_stages, "PREPARED", __name__)


def few_images(report: Report) -> None:
    """The demo networks on a handful of images, by products, which NumPy does."""
    import digits

    import eagerconv as ec

    load = digits.load
    digits.load = lambda: [part[:count] for part, count in zip(load(), (64, 8, 64, 8), strict=True)]
    with ec.using("gemm"):
        card_stages.demo(3, 3)(report)


SMALL = {
    "tests": pytest_run(f"{FOLDER}/test_cuda_graphs.py", "-k", "fake"),
    "resnet": card_stages.resnet((1, 32)),
    "demo": few_images,
    "graph": card_stages.graph(2, 1, 2, 4),
    "large": pytest_run(f"{FOLDER}/test_cuda_graphs.py", "-k", "failure_ends"),
    "others": pytest_run(f"{FOLDER}/test_cuda_graphs.py", "-k", "refuses"),
    "memory": cases(card_stages.memory_runs_out),
}
STAGES = [Stage(s.name, s.weight, SMALL.get(s.name, s.run), s.environment) for s in card_stages.STAGES]
