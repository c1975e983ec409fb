"""How good the choice by estimate is: every admissible algorithm is measured on every layer of layers.py, in all slots.

`python -m benchmarks.cost_model [--only dw] [--quick]` prints how often `auto` picks one within 10 % of the fastest, the worst
misses, and by how much each algorithm's estimate is wrong.
"""

from __future__ import annotations

import argparse
import math
from typing import Any, NamedTuple

import eagerconv as ec
from benchmarks.harness import Table, geometric_mean, headline, machine, progress
from benchmarks.layers import LAYERS
from benchmarks.peers import ours

SECONDS = 0.1  # for each candidate, and the longest estimate that is tried at all
CLOSE = 1.1


class Choice(NamedTuple):
    """Measured and estimated seconds of the candidates of one contraction, and who was chosen."""

    layer: str
    operation: str
    chosen: str
    measured: dict[str, float]
    estimated: dict[str, float]

    @property
    def best(self) -> str:
        return min(self.measured, key=lambda name: self.measured[name])

    @property
    def loss(self) -> float:
        """The chosen algorithm's time divided by the least."""
        return self.measured.get(self.chosen, math.inf) / self.measured[self.best]


def choices(only: str = "", quick: bool = False) -> list[Choice]:
    """What is chosen, and what `autotune` measures."""
    found = []
    layers = [layer for layer in (LAYERS[::9] if quick else LAYERS) if only in layer.name]
    for layer in progress(layers, "choices"):
        calls = ours(layer, layer.arrays())
        for operation in layer.slots:
            (told,) = ec.explain(calls[operation])
            with ec.autotune(seconds=SECONDS) as tuner:
                calls[operation]()
            (timings,) = tuner.timings.values()
            measured = {name: seconds for name, seconds in timings.items() if seconds is not None}
            estimated = {c.name: c.seconds for c in told.candidates if c.name in measured and c.seconds}
            found.append(Choice(layer.name, operation, str(told.chosen), measured, estimated))
            ec.autotune.clear()
    return found


def report(found: list[Choice], misses: int = 20) -> list[Table]:
    missed = sorted((c for c in found if c.loss > CLOSE), key=lambda c: -c.loss)
    good = len(found) - len(missed)
    title = f"The choice by estimate: within 10 % of the fastest {good} times of {len(found)}"
    table = Table(
        title, ["layer", "operation", "chosen", "ms", "estimate", "fastest", "ms", "estimate", "times slower"]
    )
    for c in missed[:misses]:
        row: list[Any] = [c.layer, c.operation]
        for name in (c.chosen, c.best):
            row += [name, 1e3 * c.measured[name], 1e3 * c.estimated[name]]
        table.rows.append([*row, c.loss])
    table.notes.append(
        f"On average {geometric_mean(c.loss for c in found):.3f} times the fastest; the worst misses are listed."
    )
    errors = Table("Estimate divided by measured time", ["algorithm", "cases", "least", "mean", "most"])
    for name in dict.fromkeys(name for c in found for name in c.measured):
        ratios = [c.estimated[name] / c.measured[name] for c in found if name in c.measured]
        errors.rows.append([name, len(ratios), min(ratios), geometric_mean(ratios), max(ratios)])
    return [table, errors]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="layers whose name contains this text")
    parser.add_argument("--quick", action="store_true", help="few layers")
    args = parser.parse_args()
    print(headline(machine()))
    for table in report(choices(args.only, args.quick)):
        print(table.markdown())


if __name__ == "__main__":
    main()
