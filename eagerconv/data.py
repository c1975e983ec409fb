"""Minibatches of arrays, shuffled, with a progress bar if tqdm is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from eagerconv import tree
from eagerconv.arguments import generator, whole
from eagerconv.tensor import Tensor

__all__ = ["Minibatches", "minibatches"]


class Minibatches:
    """What `minibatches` returns: iterating draws a new order; `len` is the number of batches."""

    def __init__(
        self, arrays: Any, size: int, rng: np.random.Generator | None, drop_last: bool, progress: str | None
    ) -> None:
        leaves, self.structure = tree.flatten(arrays)
        self.arrays = [leaf.data if isinstance(leaf, Tensor) else np.asarray(leaf) for leaf in leaves]
        lengths = {len(a) if a.ndim else 0 for a in self.arrays}
        if len(lengths) != 1 or 0 in lengths:
            shapes = [a.shape for a in self.arrays]
            raise ValueError(f"minibatches: arrays must have the same number of examples, at least one; got {shapes}")
        self.size = whole("minibatches: size", size, 1)
        self.rng = None if rng is None else generator("minibatches: rng", rng)
        self.examples, self.drop_last = lengths.pop(), drop_last
        self.progress = progress
        self._bar: Any = None

    def __len__(self) -> int:
        return self.examples // self.size if self.drop_last else -(-self.examples // self.size)

    def __iter__(self) -> Iterator[Any]:
        order = np.arange(self.examples) if self.rng is None else self.rng.permutation(self.examples)
        chosen = (order[i * self.size : (i + 1) * self.size] for i in range(len(self)))
        batches = (tree.unflatten(self.structure, [a[rows] for a in self.arrays]) for rows in chosen)
        if self.progress is None:
            yield from batches
            return
        self._bar = _tqdm()(batches, desc=self.progress, total=len(self), unit="batch")
        yield from self._bar

    def report(self, **figures: float) -> None:
        """Show figures, such as loss=0.1, behind the progress bar; without one, do nothing."""
        if self._bar is not None:
            self._bar.set_postfix({name: f"{value:.4g}" for name, value in figures.items()}, refresh=False)


def minibatches(
    arrays: Any,
    size: int,
    rng: np.random.Generator | None = None,
    drop_last: bool = False,
    progress: str | None = None,
) -> Minibatches:
    """Share out the examples of some arrays into batches.

    Parameters
    ----------
    arrays : tree of arrays
        With the examples along the first axis, as many in each: (images, labels), or a dict.
    size : int
        Examples in a batch.
    rng : numpy.random.Generator, optional
        Draws a new order every time the result is iterated over; None keeps the order.
    drop_last : bool
        Leave out a last batch that is not full.
    progress : str, optional
        Show a progress bar with this text before it; needs the library tqdm.

    Returns
    -------
    Minibatches
        To iterate over, again and again; each batch is a tree like `arrays`, of copies.

    Raises
    ------
    ValueError
        If the arrays differ in their number of examples or have none, or the size is less than one.
    TypeError
        If the size is not an int, or `rng` not a Generator.
    ImportError
        On iteration, if a progress bar is asked for and tqdm is not there.

    Examples
    --------
    >>> x, y = np.arange(5), np.arange(5) ** 2
    >>> for a, b in minibatches((x, y), 2):
    ...     print(a, b)
    [0 1] [0 1]
    [2 3] [4 9]
    [4] [16]
    """
    return Minibatches(arrays, size, rng, drop_last, progress)


def _tqdm() -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError(
            "minibatches: progress= needs tqdm; pip install tqdm, or 'eagerconv[train]', or leave it out"
        ) from error
    return tqdm
