"""Every argument of every NumPy function that has a row: honoured, as NumPy does, or refused, never accepted and ignored."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from test_rules_numpy import SAMPLES, Sample, filled, leaves, varied

from eagerconv.autograd.tape import no_grad
from eagerconv.tensor import Tensor, tensor

# What each argument may be given, apart from its default; those that fit neither the function nor the sample NumPy refuses.
VALUES: dict[str, list[Any]] = {
    "axis": [0, 1, -1, (0, 1)], "axes": [(1, 0), (0,), 1], "keepdims": [True], "dtype": [np.float32, np.complex128],
    "initial": [0.5, 3.0], "where": [np.array([True, False, True]), np.array(False)], "order": ["F", "A"],
    "ddof": [1, 0.5], "correction": [1, 0.5], "mean": [np.array([[0.25]]), np.array(0.5)], "copy": [True, False],
    "include_initial": [True], "kind": ["stable", "heapsort"], "stable": [True], "descending": [True],
    "norm": ["ortho", "forward"], "n": [2, 5], "s": [(3, 2)], "mode": ["wrap", "clip", "same", "valid", "full", "reflect"],
    "method": ["lower", "higher", "nearest", "midpoint", "hazen", "weibull"], "weights": [np.array([1.0, 2.0, 3.0])],
    "rowvar": [False], "bias": [True], "returned": [True], "deg": [True], "decimals": [1], "k": [1, -1], "offset": [1],
    "axis1": [1], "axis2": [0], "axisa": [0], "axisb": [0], "axisc": [0], "UPLO": ["U"], "upper": [True],
    "full_matrices": [False], "compute_uv": [False], "hermitian": [True], "rcond": [0.3], "rtol": [0.3], "ord": [1, 3, np.inf],
    "left": [7.0], "right": [7.0], "period": [1.5, 2.0], "prepend": [1.0], "append": [2.0], "to_end": [1.0],
    "to_begin": [1.0], "edge_order": [2], "dx": [0.5], "num": [4], "endpoint": [False], "retstep": [True], "base": [2.0],
    "indexing": ["ij"], "sparse": [True], "minlength": [9], "overwrite_input": [True], "interpolation": ["lower"],
    "nan": [1.0], "posinf": [2.0], "neginf": [3.0], "tol": [1e-3], "discont": [4.0], "shift": [1], "subok": [False, True],
    "fweights": [np.array([1, 2, 3])], "aweights": [np.array([1.0, 2.0, 3.0])], "allow_masked": [True], "equal_nan": [True],
    "optimize": [True, "greedy"], "casting": ["same_kind", "unsafe", "no"], "min": [-0.5], "max": [0.5], "a_min": [-0.5],
    "a_max": [0.5], "writeable": [False], "strict": [True], "constant_values": [3.0], "reps": [2], "new_shape": [(2, 2)],
    "ind": [1], "mask": [True], "device": ["cpu"], "like": [None], "default": [1.0], "source": [0], "ndmin": [2],
}  # fmt: skip


def keywords(function: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(function, np.ufunc):
        names = ["dtype", "casting", "subok", "order", "axis"]  # what where= leaves out NumPy leaves unwritten
    else:
        try:
            names = list(inspect.signature(function).parameters)
        except ValueError:  # written in C
            names = ["axis", "where", "out", "mode", "casting", "dtype"]
    for name in names:
        for value in VALUES.get(name, ()):
            yield name, value


def outcome(function: Any, sample: Sample, xs: list[Any], more: dict[str, Any]) -> Any:
    args = filled(copy.deepcopy(sample.args), iter(xs))  # some arguments change an array in place
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return function(sample.before(args[0]), *args[1:], **sample.kwargs, **more)
        except Exception as error:
            return error


@pytest.mark.parametrize("function", SAMPLES, ids=lambda function: function.__name__)
def test_arguments_are_honoured_or_refused(function: Any) -> None:
    for sample in SAMPLES[function][:4]:
        xs = [x for x in leaves(sample.args) if varied(x)]
        for name, value in keywords(function):
            if name in sample.kwargs:
                continue
            expected = outcome(function, sample, [x.copy() for x in xs], {name: value})
            if isinstance(expected, Exception):
                continue
            for tracked in (False, True):
                out = outcome(function, sample, [tensor(x, requires_grad=tracked) for x in xs], {name: value})
                if isinstance(out, (NotImplementedError, TypeError, ValueError, RuntimeError)):
                    continue  # refused
                assert not isinstance(out, Exception), (name, value, out)
                for ours, theirs in zip(leaves(out), leaves(expected), strict=False):  # Python's numbers are none
                    with no_grad():
                        ours = np.asarray(ours) if isinstance(ours, Tensor) else ours
                    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), (name, value)
                    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7, err_msg=f"{name}={value}")
