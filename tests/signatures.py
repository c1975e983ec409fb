"""Signatures of the seeds (the documents of Theano and Aesara) as text, and what it means that a function follows one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np


def parsed(seed: str) -> dict[str, inspect.Parameter]:
    """Read a signature as the documents print it, without its parentheses."""
    return dict(inspect.signature(eval(f"lambda {seed}: None")).parameters)


def assert_follows(function: Callable[..., Any], seed: str, optional: tuple[str, ...] = ()) -> None:
    """Demand the seed's names, order and defaults; `optional` names have a default here only, and ours come by keyword."""
    theirs, ours = parsed(seed), inspect.signature(function).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for name, parameter in theirs.items():
        assert ours[name].kind == parameter.kind, name
        assert ours[name].default == (None if name in optional else parameter.default), name
    extra = [ours[name].kind for name in ours if name not in theirs]
    assert set(extra) <= {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}


def both_ways(function: Callable[..., Any], seed: str, values: dict[str, Any]) -> Any:
    """Call by position in the seed's order and by keyword; the results must be equal. Every argument must be given."""
    names = [name for name, p in parsed(seed).items() if p.kind != inspect.Parameter.VAR_KEYWORD]
    assert set(names) == set(values)
    by_position, by_keyword = function(*(values[name] for name in names)), function(**values)
    if isinstance(by_position, (tuple, bool, int, type(None))):
        assert by_position == by_keyword
    else:
        np.testing.assert_array_equal(np.asarray(by_position), np.asarray(by_keyword))
    return by_position
