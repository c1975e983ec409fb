"""What stands between convolutions, beside NumPy and PyTorch: `python -m benchmarks.pointwise [--only gelu --save --avx2]`.

Forward, and forward with the gradients of all floating operands, in float32, of arrays that fit into caches and of some that do
not. Values and gradients are compared with float64 before anything is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import (
    ALONE,
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
from benchmarks.operations import IMAGES, OPERATIONS, Arrays, Operation, Step

FORWARD, BOTH = "forward", "forward + backward"
LARGEST_ERROR = 2e-5
"""Relative to the largest true value."""

CALLS = 3
"""How often each is called before its values are compared: an optimiser's third step has a history."""

Record = dict[str, Any]  # one operation at one size: JSON as it stands


# ----------------------------------------------------------------------------------------------------------------- errors


def results(call: Callable[[], Any]) -> list[np.ndarray]:
    """What the last of some calls gives: arrays."""
    for _ in range(CALLS):
        value = call()
    return [np.array(v) for v in (value if isinstance(value, (list, tuple)) else [value])]


def truths(operation: Operation | Step, arrays: Arrays, peers: bool) -> dict[str, list[np.ndarray]]:
    """In float64: what the formula says, of what has none, and gradients, what all libraries say alike."""
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    sides = operation.sides(wide, peers)
    found: dict[str, list[np.ndarray]] = {}
    for i, what in enumerate((FORWARD, BOTH)):
        said = {name: results(call) for name, calls in sides.items() if (call := calls[i]) is not None}
        if what == FORWARD and operation.formula is not None:
            said = {"the formula": [np.asarray(operation.formula(*wide))], **said}
        first = next(iter(said.values()), None)
        if first is None:
            continue
        for name, values in said.items():
            for value, true in zip(values, first, strict=True):
                if not (error := relative_error(operation.name, value, true)) < 1e-10:
                    raise SystemExit(
                        f"{operation.name}, {what}: {name} is off by {error:.1e} in float64; nothing was timed"
                    )
        found[what] = first
    return found


def ulps(value: np.ndarray, true: np.ndarray) -> float:
    """The largest error in units of the last place of the true value in float32."""
    with np.errstate(over="ignore"):
        unit = np.spacing(np.abs(true).astype(np.float32)).astype(np.float64)
    there = np.isfinite(unit)  # what is too large for float32 has no last place
    return float((np.abs(value.astype(np.float64) - true)[there] / unit[there]).max())


def errors(operation: Operation | Step, arrays: Arrays, peers: bool) -> dict[str, float]:
    """Each library's error forward in ulp: of each number of an elementary function, else of the largest number."""
    true, found = truths(operation, arrays, peers), {}
    for name, calls in operation.sides(arrays, peers).items():
        for what, call in zip((FORWARD, BOTH), calls, strict=True):
            if call is None:
                continue
            for value, expected in zip(results(call), true[what], strict=True):
                error = relative_error(f"{operation.name}, {name}", value, expected)
                if not error < LARGEST_ERROR:
                    raise SystemExit(f"{operation.name}, {what}, {name}: relative error {error:.1e}; nothing was timed")
                if what == FORWARD:
                    found[name] = ulps(value, expected) if operation.elementary else error * 2**23
    return found


# ---------------------------------------------------------------------------------------------------------------- measure


def measure_operation(
    operation: Operation | Step, size: str, shape: tuple[int, ...], quick: bool, peers: bool
) -> Record:
    """The record of an operation; stops the program where a value is wrong."""
    arrays = operation.inputs(np.random.default_rng(0), shape)
    record: Record = {"operation": operation.name, "size": size}
    record["errors"] = errors(operation, arrays, peers) if operation.same else {}
    sides = operation.sides(arrays, peers)
    for i, what in enumerate((FORWARD, BOTH)):
        calls = {name: call for name, of_side in sides.items() if (call := of_side[i]) is not None}
        effort: dict[str, Any] = (
            {"rounds": 3, "seconds": 0.001, "pause": 0.0} if quick else {"rounds": 7, "seconds": 0.04, "pause": 0.015}
        )
        record[what] = interleaved(calls, **effort) if calls else {}
    return record


def measure(
    quick: bool = False, only: str = "", peers: bool = True, sizes: dict[str, tuple[int, ...]] | None = None
) -> dict[str, list[Record]]:
    """The records of every operation whose name contains `only`, by subject."""
    sizes = IMAGES if sizes is None else sizes
    todo = [(group, op) for group, listed in OPERATIONS.items() for op in listed if only.lower() in op.name.lower()]
    if not todo:
        names = ", ".join(op.name for listed in OPERATIONS.values() for op in listed)
        raise SystemExit(f"no operation's name contains {only!r}; there are {names}")
    groups: dict[str, list[Record]] = {}
    bar = progress(todo, "operations")
    for group, operation in bar:
        if hasattr(bar, "set_postfix_str"):
            bar.set_postfix_str(operation.name)
        for size, shape in sizes.items():
            groups.setdefault(group, []).append(measure_operation(operation, size, shape, quick, peers))
    return groups


# ----------------------------------------------------------------------------------------------------------------- report


def ratio(record: Record, what: str, name: str = "PyTorch") -> float | None:
    """The other's time divided by ours."""
    seconds = record[what]
    return seconds[name] / seconds["eagerconv"] if name in seconds else None


def table(title: str, records: list[Record]) -> Table:
    """One row for each operation and size; a ratio above 1 says that we are faster."""
    compared = any("PyTorch" in record[FORWARD] for record in records)
    columns = ["operation", "size", "forward, ms", "NumPy"] + (["PyTorch", "ratio"] if compared else [])
    columns += [f"{BOTH}, ms"] + (["PyTorch", "ratio"] if compared else [])
    columns += ["error, ulp"] + (["PyTorch's"] if compared else [])
    result = Table(title, columns)
    for record in records:
        forward, both, error = record[FORWARD], record[BOTH], record["errors"]
        row = [record["operation"], record["size"], *(_ms(forward, name) for name in ("eagerconv", "NumPy"))]
        row += [_ms(forward, "PyTorch"), ratio(record, FORWARD)] if compared else []
        row += [_ms(both, "eagerconv")] + ([_ms(both, "PyTorch"), ratio(record, BOTH)] if compared else [])
        row += [error.get("eagerconv")] + ([error.get("PyTorch")] if compared else [])
        result.rows.append(row)
    if compared:
        result.notes.append(f"PyTorch / eagerconv, geometric means: {means(records)}.")
    return result


def _ms(seconds: dict[str, float], name: str) -> float | None:
    return 1e3 * seconds[name] if name in seconds else None


def means(records: list[Record]) -> str:
    told = []
    for what in (FORWARD, BOTH):
        ratios = {f"{r['operation']}, {r['size']}": value for r in records if (value := ratio(r, what)) is not None}
        if ratios:
            slower = "; ".join(f"{name} ({value:.2f})" for name, value in ratios.items() if value < 1)
            told.append(f"{what} {geometric_mean(ratios.values()):.2f}, slower: {slower or 'none'}")
    return ". ".join(told)


def report(groups: dict[str, list[Record]], suffix: str) -> str:
    """All tables, and the means over all."""
    tables = [table(f"{group[0].upper()}{group[1:]}{suffix}, float32", records) for group, records in groups.items()]
    records = [record for listed in groups.values() for record in listed]
    told = [
        f"{size}: {means(of_size)}."
        for size in dict.fromkeys(record["size"] for record in records)
        if means(of_size := [record for record in records if record["size"] == size])
    ]
    notes = [
        "Errors of elementary functions and activations are those of the worst number in units of its last place, others those"
        " of the largest number. Dropout and upsampling are not the same by definition in both, so have none.",
        *([f"PyTorch / eagerconv over all. {' '.join(told)}"] if told else [ALONE]),
    ]
    return "\n".join([*(t.markdown() for t in tables), *(note + "\n" for note in notes)])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="operations whose name contains this text")
    parser.add_argument("--quick", action="store_true", help="few rounds: to see that all works")
    parser.add_argument("--size", choices=list(IMAGES), help="of one size only")
    parser.add_argument("--alone", action="store_true", help="without PyTorch")
    parser.add_argument("--avx2", action="store_true", help="hold us and PyTorch to AVX2")
    parser.add_argument("--save", action="store_true", help=f"write Markdown and JSON into {RESULTS.name}/")
    args = parser.parse_args(arguments)
    if args.avx2:
        hold_to_avx2("benchmarks.pointwise")
    facts = machine()
    sizes = IMAGES if args.size is None else {args.size: IMAGES[args.size]}
    groups = measure(args.quick, args.only, not args.alone, sizes)
    text = "\n".join([headline(facts), report(groups, " held to AVX2" if args.avx2 else "")])
    print(text)
    if args.save:
        save(f"pointwise{'-avx2' if args.avx2 else ''}", facts, text, {"operations": groups})


if __name__ == "__main__":
    main()
