"""Compiles kernels ahead of their first use: `warmup`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from eagerconv.algorithms.registry import NATIVE, known
from eagerconv.formulas import FORMULAS
from eagerconv.interrupts import imported
from eagerconv.kernels_cpu import dwm, jit, native
from eagerconv.kernels_cpu.staging import INTEGERS, WIDER, computed_in
from eagerconv.kernels_cpu.winograd import F2, F4

SOURCES = {
    "gemm": (("gemm", ""), ("panels", ""), ("pixels", "")),
    "columns": (("gemm", ""), ("panels", ""), ("pixels", "")),
    "rows": (("rows", ""), ("planes", "")),
}
"""Where an algorithm's kernels are, if not in the module of its name: modules, and how the kernels' names end."""

BETWEEN = ("pooling", "copying")
"""Modules of kernels for what stands between convolutions, and in front of them."""

FORMS = {"winograd": F4, "winograd_f2": F2}
DWM_PAIRS = [(form, form) for form in dwm.FORMS[1:]] + [(dwm.FORMS[0], form) for form in dwm.FORMS[1:]]
"""Of all pairs of forms, those of square filters and of signals; others are compiled when a layer needs them."""
STAGES = ("filters", "tiles", "inputs", "products", "transforms", "sums", "parts", "join")
"""Winograd's kernels are made on request, by name: every stage of every form."""


def warmup(
    algorithms: str | Iterable[str] | None = None, dtypes: str | Iterable[str] = "float32", verbose: bool = True
) -> int:
    """Compile kernels now, so that no first call has to wait; they stay on disk for other processes.

    Parameters
    ----------
    algorithms : str or iterable of str, optional
        Whose kernels: by default those of all algorithms, and of what stands between convolutions, which takes some minutes
        where nothing is compiled yet.
    dtypes : str or iterable of str
        For which dtypes; those that an algorithm does not know are left out.
    verbose : bool
        Show a progress bar on stderr, where tqdm is installed.

    Returns
    -------
    int
        How many kernels were compiled because the cache did not hold them.

    Raises
    ------
    ValueError
        If there is no algorithm of that name.
    TypeError
        If there is no dtype of that name.

    Notes
    -----
    Kernels are kept in the folder `EAGERCONV_CACHE_DIR`, or else in `eagerconv` of the user's caches (`XDG_CACHE_HOME` or
    `~/.cache`, on Windows `LOCALAPPDATA`), or else, where there is no home, of the temporary folder. It must belong to the user
    and be writable by nobody else, as a kernel is code; otherwise one line on stderr says so, and every process compiles for
    itself. A kernel that nobody has used for 90 days is deleted, and so are the least recent beyond 256 MiB.

    Examples
    --------
    >>> import eagerconv as ec
    >>> compiled = ec.warmup("direct", "float32", verbose=False)
    >>> ec.warmup("direct", "float32", verbose=False)
    0
    """
    chosen = {known(name) for name in ((algorithms,) if isinstance(algorithms, str) else algorithms or ())}
    wanted = [_name(dtype) for dtype in ((dtypes,) if isinstance(dtypes, str) else dtypes)]
    before, jit.noticed = len(jit.compiled_here), True
    for function, dtype in _progress(kernels(chosen, wanted), verbose):
        jit.kernel(function, dtype)
    return len(jit.compiled_here) - before


def kernels(algorithms: Collection[str], dtypes: Collection[str]) -> list[tuple[str, np.dtype[Any]]]:
    """The kernels of some algorithms for some dtypes; if none is named, of all and of what stands between convolutions."""
    found = dict.fromkeys(
        (function, np.dtype(wide))
        for algorithm in NATIVE
        if not algorithms or algorithm.name in algorithms
        for name in dtypes
        for wide in computed_in(algorithm, name)
        for function in (*kernels_of(algorithm.name), *(kernels_of("convert") if WIDER.get(name) == "float32" else ()))
    )
    if algorithms != {"direct"}:  # others leave blocks of integers to it whose sums floats might round
        integers = [np.dtype(WIDER.get(name, name)) for name in dtypes if name in INTEGERS]
        found |= dict.fromkeys((function, dtype) for dtype in integers for function in kernels_of("direct"))
    if not algorithms:
        names = [name for name in dtypes if name in ("float32", "float64")]
        between = [*emitted(), *(function for part in BETWEEN for function in kernels_of(part))]
        found |= dict.fromkeys((function, np.dtype(name)) for name in names for function in between)
    return list(found)


def emitted() -> Iterator[str]:
    """The kernels of formulas and of what is computed with them, which are found by their names alone."""
    for name, found in FORMULAS.items():
        yield f"formulas:{name}"
        if found.results == 1 and not name.endswith(("_back", "_d0")) and f"{name}_back" not in FORMULAS:
            yield f"formulas:{name}_d0"
    yield from (f"formulas:{name}_of_channels" for name in ("add", "multiply", "add_relu"))
    yield from (f"reduce:{name}" for name in ("sum", "max", "min", "sum_of_channels"))
    names = ("softmax", "softmax_back", "log_softmax", "log_softmax_back", "logarithms", "weighted")
    yield from (f"softmax:{name}_{way}" for name in names for way in ("along", "across"))
    kinds = ("forward", "forward_each", "affine", "backward", "backward_each")
    yield from (f"normalise:{kind}" for kind in kinds)
    yield from (f"normalise:{name}_then_relu" for name in ("forward", "affine", "backward"))


def kernels_of(algorithm: str) -> Iterator[str]:
    """The names "module:function" of an algorithm's kernels: functions of some tasks, as jit.py describes them."""
    yield from (f"winograd:{stage}_{form.name}" for form in FORMS.get(algorithm, {}).values() for stage in STAGES)
    if algorithm == "winograd_dwm":
        names = ("_".join(f"{m}x{r}" for m, r in pair) for pair in DWM_PAIRS)
        yield from (f"dwm:{stage}_{name}" for name in names for stage in STAGES)
    for module, ending in SOURCES.get(algorithm, ((algorithm, ""),)):
        if not (Path(native.__path__[0]) / f"{module}.py").exists():
            continue  # all its work is NumPy's
        for name, function in vars(imported(f"{native.__name__}.{module}")).items():
            if not name.startswith("_") and name.endswith(ending) and inspect.isfunction(function):
                parameters = list(inspect.signature(function).parameters)
                if len(parameters) == 8 and parameters[:3] == ["first", "last", "thread"]:
                    yield f"{module}:{name}"


def _name(dtype: str) -> str:
    return dtype if dtype in WIDER else np.dtype(dtype).name  # "bfloat16" is not NumPy's own


def _progress(items: list[Any], verbose: bool) -> Iterable[Any]:
    if not verbose:
        return items
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return items
    bar: Iterable[Any] = tqdm(items, desc="compiling", unit=" kernels", leave=False, file=sys.stderr)
    return bar
