"""Layers of well-known networks beside other libraries: `python -m benchmarks.cpu_layers [--only res2 --peers torch]`.

Forward, both gradients and forward + backward in float32, values checked against float64 before anything is timed. The
peers take turns with us in one process. With --avx2 we and PyTorch are held to 256-bit registers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import eagerconv as ec
from benchmarks.harness import (
    RESULTS,
    Table,
    geometric_mean,
    headline,
    hold_to_avx2,
    interleaved,
    machine,
    progress,
    relative_error,
    save,
)
from benchmarks.layers import GROUPS, LAYERS, Layer
from benchmarks.peak import peak
from benchmarks.peers import BOTH, OPERATIONS, PEERS, Arrays, Calls, installed, ours

FINE = 1e-6
"""The tolerance that leaves direct summation and F(2,3)."""

CHECKED_IMAGES = 2
LARGEST_ERROR = 2e-4

Record = dict[str, Any]  # one operation of one layer: JSON as it stands


# ---------------------------------------------------------------------------------------------------------------- measure


def measure_layer(layer: Layer, peers: list[str], quick: bool, fine: bool) -> list[Record]:
    """The records of a layer's operations; stops the program where a value is wrong."""
    arrays = layer.arrays()
    libraries: dict[str, Calls] = {"eagerconv": ours(layer, arrays)}
    libraries |= {PEERS[peer][0]: PEERS[peer][1](layer, arrays) for peer in peers}
    if fine:
        libraries["eagerconv, fine"] = at_tolerance(ours(layer, arrays))
    true = truth(layer, arrays)
    limit, records = peak(), []
    for operation in OPERATIONS:
        calls = {name: library[operation] for name, library in libraries.items() if operation in library}
        chosen = algorithms(calls["eagerconv"])
        if fine and (chosen_fine := algorithms(calls["eagerconv, fine"])) == chosen:
            del calls["eagerconv, fine"]  # the same call
        errors = {name: error(layer, operation, call, true) for name, call in calls.items()}
        for name, value in errors.items():
            if not value < LARGEST_ERROR:
                raise SystemExit(f"{layer.name}, {operation}, {name}: relative error {value:.1e}; nothing was timed")
        seconds = interleaved(calls, rounds=3 if quick else 7, seconds=0.02 if quick else 0.04, pause=0.015)
        count = layer.operations * (3 if operation == BOTH else 1)
        record: Record = {"layer": layer.name, "operation": operation, "algorithm": chosen, "peak": limit}
        record["gflops"] = count / seconds["eagerconv"] / 1e9
        if fine:
            record["fine algorithm"] = chosen_fine
            seconds.setdefault("eagerconv, fine", seconds["eagerconv"])
            errors.setdefault("eagerconv, fine", errors["eagerconv"])
        records.append(record | {"seconds": seconds, "errors": errors})
    return records


def at_tolerance(calls: Calls) -> Calls:
    """The same calls within the finer tolerance."""

    def wrapped(call: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            with ec.using(tolerance=FINE):
                return call()

        return run

    return {name: wrapped(call) for name, call in calls.items()}


def truth(layer: Layer, arrays: Arrays) -> dict[str, np.ndarray]:
    """What is right, by plain loops in float64: of the last images, but of the gradient of the weights, a sum over all."""
    last = {s: a if s == "w" else a[-CHECKED_IMAGES:] for s, a in arrays.items()}
    few = layer._replace(batch=min(layer.batch, CHECKED_IMAGES))
    whole = {slot: array.astype(np.float64) for slot, array in arrays.items()}
    part = {slot: array.astype(np.float64) for slot, array in last.items()}
    return {
        operation: (ours(layer, whole, algorithm="direct") if slot == "w" else ours(few, part, algorithm="direct"))[
            operation
        ]()
        for operation, slot in layer.slots.items()
    }


def error(layer: Layer, operation: str, call: Callable[[], Any], true: dict[str, np.ndarray]) -> float:
    """The largest error of a call's results, relative to the largest true value."""
    if operation == BOTH:
        names, values = ("grad inputs", "grad weights"), call()
    else:
        names, values = (operation,), [call()]
    found = 0.0
    for name, value in zip(names, values, strict=True):
        value = np.asarray(value)
        if layer.slots[name] != "w":
            value = value[-CHECKED_IMAGES:]
        found = max(found, relative_error(f"{layer.name}, {operation}", value, true[name]))
    return found


def algorithms(call: Callable[[], Any]) -> str:
    """Which of our algorithms are chosen."""
    return ", ".join(dict.fromkeys(str(told.chosen) for told in ec.explain(call)))


# ----------------------------------------------------------------------------------------------------------------- report


def table(title: str, records: list[Record], peers: list[str]) -> Table:
    """One row for each operation; ratios are the peer's time divided by ours."""
    names = [PEERS[peer][0] for peer in peers]
    fine = any("eagerconv, fine" in record["seconds"] for record in records)
    columns = ["layer", "operation", "algorithm", "ms", "GFLOP/s", "% of peak", "error"]
    for name in names:
        columns += [f"{name}, ms", "ratio"] + (["error"] if name == "PyTorch" else [])
    result = Table(title, columns + ([f"ms at {FINE:g}"] if fine else []))
    for record in records:
        seconds = record["seconds"]
        mine = seconds["eagerconv"]
        row = [record["layer"], record["operation"], record["algorithm"], 1e3 * mine, record["gflops"]]
        row += [100 * record["gflops"] / record["peak"], f"{record['errors']['eagerconv']:.0e}"]
        for name in names:
            there = name in seconds
            row += [1e3 * seconds[name], seconds[name] / mine] if there else [None, None]
            row += [f"{record['errors'][name]:.0e}"] if name == "PyTorch" else []
        result.rows.append(row + ([1e3 * seconds["eagerconv, fine"]] if fine else []))
    result.notes += means(records, names)
    return result


def means(records: list[Record], names: list[str]) -> list[str]:
    """Geometric means of the ratios, and where we are slower."""
    notes = []
    for name in names:
        for mine in ("eagerconv", "eagerconv, fine"):
            parts, slower = [], []
            for operation in OPERATIONS:
                ratios = {
                    record["layer"]: record["seconds"][name] / record["seconds"][mine]
                    for record in records
                    if record["operation"] == operation and {name, mine} <= record["seconds"].keys()
                }
                if ratios:
                    parts.append(f"{operation} {geometric_mean(ratios.values()):.2f}")
                    slower += [f"{layer}, {operation} ({r:.2f})" for layer, r in ratios.items() if r < 1]
            if parts:
                what = f"{name} / {mine}" + (f" (tolerance {FINE:g})" if "fine" in mine else "")
                notes.append(f"{what}, geometric means: {', '.join(parts)}. Slower: {'; '.join(slower) or 'none'}.")
    return notes


def chart(groups: dict[str, list[Record]], path: Path, title: str) -> None:
    """Bars of PyTorch's time divided by ours, forward and forward + backward."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bars: list[tuple[str, dict[str, float]]] = []
    for records in groups.values():
        for layer in dict.fromkeys(record["layer"] for record in records):
            of_layer = {r["operation"]: r["seconds"] for r in records if r["layer"] == layer}
            ratios = {op: of_layer[op]["PyTorch"] / of_layer[op]["eagerconv"] for op in ("forward", BOTH)}
            bars.append((layer, ratios))
    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.27 * len(bars)), layout="constrained")
    for operation, shift, colour in (("forward", -0.2, "#4477aa"), (BOTH, 0.2, "#ee6677")):
        values = [ratios[operation] for _, ratios in bars]
        places = [i + shift for i in range(len(bars))]
        axes.barh(places, [v - 1 for v in values], 0.4, left=1, label=operation, color=colour)
        for place, value in zip(places, values, strict=True):
            away = 3 if value >= 1 else -3
            axes.annotate(f"{value:.1f}", (value, place), (away, 0), textcoords="offset points", fontsize=6, va="center",
                          ha="left" if value >= 1 else "right")  # fmt: skip
    axes.set_yticks(range(len(bars)), [layer for layer, _ in bars], fontsize=8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.margins(x=0.08, y=0.01)
    axes.set_xlabel("PyTorch's time / ours (right of 1 we are faster)")
    axes.set_title(title, fontsize=10)
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def measure(quick: bool = False, only: str = "", peers: list[str] | None = None, fine: bool = True) -> dict[str, Any]:
    """The records of every layer whose name contains `only`, by group."""
    peers = installed() if peers is None else peers
    chosen = {group: [layer for layer in layers if only in layer.name] for group, layers in GROUPS.items()}
    if quick and not only:
        chosen = {group: layers[1::7] for group, layers in chosen.items()}
    todo = [(group, layer) for group, layers in chosen.items() for layer in layers]
    if not todo:
        raise SystemExit(f"no layer's name contains {only!r}; there are {', '.join(layer.name for layer in LAYERS)}")
    groups: dict[str, list[Record]] = {}
    bar = progress(todo, "layers")
    for group, layer in bar:
        if hasattr(bar, "set_postfix_str"):
            bar.set_postfix_str(layer.name)
        groups.setdefault(group, []).extend(measure_layer(layer, peers, quick, fine and group == "core"))
    return groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="layers whose name contains this text")
    parser.add_argument("--quick", action="store_true", help="few rounds, few layers: to see that all works")
    parser.add_argument(
        "--peers", nargs="*", choices=list(PEERS), help="libraries to compare with (default: installed)"
    )
    parser.add_argument("--coarse", action="store_true", help=f"leave out the column at tolerance={FINE:g}")
    parser.add_argument("--avx2", action="store_true", help="hold us and PyTorch to AVX2")
    parser.add_argument("--save", action="store_true", help=f"write Markdown, JSON and a chart into {RESULTS.name}/")
    args = parser.parse_args()
    if args.avx2:
        hold_to_avx2("benchmarks.cpu_layers")
    peers = [p for p in (installed() if args.peers is None else args.peers) if p == "torch" or not args.avx2]

    facts = machine()
    groups = measure(args.quick, args.only, peers, not args.coarse)
    suffix = " held to AVX2" if args.avx2 else ""
    tables = [table(f"{group}{suffix}, float32", records, peers) for group, records in groups.items()]
    text = "\n".join([headline(facts), *(t.markdown() for t in tables)])
    print(text)
    if args.save:
        stem = save(f"cpu-layers{'-avx2' if args.avx2 else ''}", facts, text, {"layers": groups})
        if "torch" in peers:
            chart(groups, stem.with_suffix(".png"), f"{facts['cpu']}, {facts['threads']} threads{suffix}, float32")


if __name__ == "__main__":
    main()
