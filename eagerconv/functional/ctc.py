"""Connectionist temporal classification: the loss of a sequence of labels whose places in time are not known.

The labels of an example, with a blank before, between and behind them, are S states. A path visits one state at each time: it
stays, goes one on, or two where that skips a blank between different labels. The loss is minus the logarithm of the sum of all
paths' probabilities, which is built time by time, in logarithms: from both ends for the gradient. `_sums` serves arrays and
tensors alike: recorded, it can be differentiated to any order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from eagerconv import devices
from eagerconv.arguments import whole
from eagerconv.autograd import rules, tape
from eagerconv.autograd.tape import defvjp
from eagerconv.dtypes import widened
from eagerconv.functional.losses import reduced
from eagerconv.tensor import Tensor, asarray
from eagerconv.wrapping import floating

__all__ = ["ctc_loss"]

LOWEST = -1e30
"""What log 0 counts as where it is recorded: infinities have no gradient."""


# ----- The primitive. Probabilities are (N, K, T), what is told of states (N, S) -----


@dataclass(frozen=True, slots=True, eq=False)
class Paths:
    """The states of all examples, as arrays that are where the probabilities are.

    `states` (N, S) are labels and blanks, `times` and `ends` (N, 1) how many times and states of an example count.
    """

    states: Any
    times: Any
    ends: Any
    blank: int

    @property
    def rows(self) -> Any:
        """The numbers of the examples, (N, 1)."""
        return _like(np.arange(len(self.states))[:, None], self.states)

    def skips(self) -> Any:
        """Whether a path may come to a state from two before it."""
        s = self.states
        found = np.zeros_like(s, bool)
        found[:, 2:] = (s[:, 2:] != s[:, :-2]) & (s[:, 2:] != self.blank)
        return found

    def backwards(self) -> Paths:
        """The same from the last state to the first."""
        states = np.take_along_axis(self.states, _mirrored(self.states.shape[1], self.ends), 1)
        return Paths(states, self.times, self.ends, self.blank)


def _like(array: Any, other: Any) -> Any:
    return devices.move(array, devices.of(other) or "cpu")


def _mirrored(count: int, ends: Any) -> Any:
    """Per example the numbers below `count`, (N, count): those in front of its end from the last to the first."""
    numbers = _like(np.arange(count)[None], ends)
    return np.where(numbers < ends, ends - 1 - numbers, numbers)


def _sums(emitted: Any, paths: Paths, lowest: float) -> Iterator[Any]:
    """Per time the logarithms (N, S) of the sums of all paths to a state; those of an example stay when it has ended.

    `emitted` (N, S, T) are the logarithms of the states' probabilities.
    """
    skips, first = paths.skips(), np.full(paths.states.shape, lowest, emitted.dtype)
    first[:, :2] = 0
    sums = None
    for t in range(emitted.shape[2]):
        if sums is None:
            yield (sums := _like(first, paths.states) + emitted[:, :, t])
            continue
        before = rules.pad(sums, widths=((0, 0), (2, 0)), value=lowest)  # (N, S + 2)
        skipping = rules.where(skips, before[:, :-2], _like(np.asarray(lowest, emitted.dtype), paths.states))
        arriving = rules.logaddexp(rules.logaddexp(sums, before[:, 1:-1]), skipping) + emitted[:, :, t]
        yield (sums := rules.where(t < paths.times, arriving, sums))


def _total(sums: Any, paths: Paths, lowest: float) -> Any:
    """The logarithm of the sum of the paths that end in one of the last two states, (N,)."""
    rows, last = paths.rows, paths.ends - 1
    nothing = _like(np.asarray(lowest, sums.dtype), paths.states)
    blank, label = sums[rows, last], rules.where(last > 0, sums[rows, np.maximum(last - 1, 0)], nothing)
    at_once = np.where(paths.ends == 1, np.zeros_like(nothing), nothing)  # no labels in no time
    return rules.where(paths.times > 0, rules.logaddexp(blank, label), at_once)[:, 0]


def _loss(log_p: Any, paths: Paths, forgiving: bool) -> Any:
    *_, sums = _sums(log_p[paths.rows, paths.states], paths, -np.inf)
    total = _total(sums, paths, -np.inf)
    return np.where(total == -np.inf, 0, -total) if forgiving else -total


def _pull(g: Any, x: Any, paths: Paths, forgiving: bool) -> Any:
    """The gradient: of each state and time minus the share that it has in the sum of all paths."""
    if tape.is_grad_enabled():
        return _pull_recorded(g, x, paths, forgiving)
    emitted = x.data[paths.rows, paths.states]  # (N, S, T)
    by_state, by_time = (_mirrored(n, e) for n, e in zip(emitted.shape[1:], (paths.ends, paths.times), strict=True))

    def mirrored(array: Any) -> Any:
        array = np.take_along_axis(array, by_state[:, :, None], 1)
        return np.take_along_axis(array, by_time[:, None], 2)

    forwards = list(_sums(emitted, paths, -np.inf))
    total = _total(forwards[-1], paths, -np.inf)[:, None, None]
    backwards = mirrored(np.stack(list(_sums(mirrored(emitted), paths.backwards(), -np.inf)), 2))
    numbers = _like(np.arange(emitted.shape[2]), emitted)
    inside = (emitted > -np.inf) & (numbers < paths.times[:, :, None])
    inside &= _like(np.arange(emitted.shape[1])[:, None], emitted) < paths.ends[:, :, None]
    lost = total == -np.inf
    exponents = np.stack(forwards, 2) + backwards - np.where(inside, emitted, 0) - np.where(lost, 0, total)
    shares = np.where(lost, 0 if forgiving else np.nan, np.exp(np.where(inside, exponents, -np.inf)))
    shares *= g.data[:, None, None]
    out, rows = np.zeros_like(x.data), paths.rows[:, 0]
    for s in range(emitted.shape[1]):
        out[rows, paths.states[:, s]] -= shares[:, s]
    return type(g)._wrap(out)


def _pull_recorded(g: Any, x: Any, paths: Paths, forgiving: bool) -> Any:
    """The same by the tape, so that it can be differentiated again."""
    emitted = x[paths.rows, paths.states]
    emitted = rules.where(emitted.data > LOWEST, emitted, np.full((), LOWEST, x.dtype))
    *_, sums = _sums(emitted, paths, LOWEST)
    total = _total(sums, paths, LOWEST)
    again = total * np.where(total.data <= LOWEST / 2, 0 if forgiving else np.nan, -1).astype(x.dtype)
    return tape.backward([again], [g], [x._node], create_graph=True)[x._node]


_ctc = defvjp("ctc_loss", _loss, _pull)


# ----- What users call -----


def ctc_loss(
    log_probabilities: Any,
    labels: Any,
    input_lengths: Any = None,
    label_lengths: Any = None,
    blank: int = 0,
    zero_infinity: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-probability of sequences of labels, wherever in time they lie: each may last, and blanks stand between.

    Parameters
    ----------
    log_probabilities : array_like, shape (N, K, T)
        Of K classes at T times, as `log_softmax(..., axis=1)` gives them. (PyTorch's (T, N, K): transpose(1, 2, 0).)
    labels : array_like of ints, shape (N, S), or all of them one after another
        The sequences, whatever stands behind their ends.
    input_lengths : array_like of ints, shape (N,), optional
        How many times of each example count; default: all.
    label_lengths : array_like of ints, shape (N,), optional
        How long each sequence is; default: S.
    blank : int
        The class that is no label.
    zero_infinity : bool
        Sequences that do not fit into the time have the loss zero and no gradient, instead of inf and NaN.
    reduction : {"mean", "sum", "none"}
        What to make of the losses; for the mean each is first divided by the number of its labels, if it has any.

    Returns
    -------
    Tensor
        A single number, or one per example.

    Raises
    ------
    TypeError
        If labels or lengths are not integers.
    ValueError
        If shapes do not fit, a label is the blank or no class, or a length or an option is out of range.

    Notes
    -----
    Graves et al., "Connectionist temporal classification", ICML 2006. A second derivative takes time that grows with the square
    of T.

    Examples
    --------
    >>> ctc_loss(np.log(np.full((1, 3, 2), 1 / 3)), [[1]], reduction="none")  # 1 1, 1 blank, blank 1
    tensor([1.09861229], dtype=float64)
    """
    x = floating(log_probabilities)
    if x.ndim != 3:
        raise ValueError(f"ctc_loss: log_probabilities must have shape (N, K, T), got {x.shape}")
    if x.dtype.kind == "c":
        raise TypeError(f"ctc_loss: log_probabilities must be real, not {x.dtype}")
    n, k, t = x.shape
    blank = whole("ctc_loss: blank", blank, 0)
    if blank >= k:
        raise ValueError(f"ctc_loss: blank must be a class from 0 to K - 1 = {k - 1}, not {blank!r}")
    times = _lengths("input_lengths", input_lengths, n, t, "the times T")
    sequences, lengths = _sequences(labels, label_lengths, n, k, blank)
    if not n and reduction == "mean":
        raise ValueError("ctc_loss: the mean over no examples is not defined")
    states = np.full((n, 2 * sequences.shape[1] + 1), blank)
    states[:, 1::2] = sequences
    states, ends, begun = (_like(a, x.data) for a in (states, 2 * lengths[:, None] + 1, times[:, None]))
    paths = Paths(states, begun, ends, blank)
    wide = widened(x)
    if t == 0:  # no time is as one that does not count
        wide = cast(Tensor, rules.pad(wide, widths=((0, 0), (0, 0), (0, 1))))
    losses = cast(Tensor, _ctc(wide, paths=paths, forgiving=zero_infinity))
    if reduction == "mean":
        losses = losses / _like(np.maximum(lengths, 1).astype(wide.dtype), x.data)
    return reduced("ctc_loss", losses, reduction, x.dtype)


def _lengths(name: str, lengths: Any, n: int, most: int, what: str) -> Any:
    """One length per example, from 0 to the most there can be."""
    if lengths is None:
        return np.full(n, most)
    found = devices.move(asarray(lengths).data, "cpu")
    if found.dtype.kind not in "iu":
        raise TypeError(f"ctc_loss: {name} must be integers, not {found.dtype}")
    if found.shape != (n,):
        raise ValueError(f"ctc_loss: {name} must have shape (N,) = ({n},), one per example, got {found.shape}")
    if n and (found.min() < 0 or found.max() > most):
        raise ValueError(
            f"ctc_loss: {name} must lie from 0 to {most}, {what}; got some from {found.min()} to {found.max()}"
        )
    return found.astype(np.intp)


def _sequences(labels: Any, lengths: Any, n: int, k: int, blank: int) -> tuple[Any, Any]:
    """The labels as (N, S), blank behind the ends, and the lengths."""
    given = devices.move(asarray(labels).data, "cpu")
    if given.dtype.kind not in "iu" and given.size:
        raise TypeError(f"ctc_loss: labels must be integers, the indices of classes, not {given.dtype}")
    if given.ndim == 1 and lengths is not None:  # one after another
        counts = _lengths("label_lengths", lengths, n, given.size, "the labels there are")
        if counts.sum() != given.size:
            raise ValueError(f"ctc_loss: label_lengths must sum to the {given.size} labels, they sum to {counts.sum()}")
        inside = np.arange(counts.max(initial=0)) < counts[:, None]
        sequences = np.full(inside.shape, blank)
        sequences[inside] = given
    elif given.ndim == 2 and len(given) == n:
        counts = _lengths("label_lengths", lengths, n, given.shape[1], "the labels S of an example")
        inside = np.arange(given.shape[1]) < counts[:, None]
        sequences = np.where(inside, given, blank).astype(np.intp)
    else:
        raise ValueError(
            f"ctc_loss: labels must have shape (N, S) with N = {n}, or be all in one axis beside label_lengths; got "
            f"{given.shape} for log_probabilities (N, K, T); those of shape (T, N, K) are to be transposed (1, 2, 0)"
        )
    wrong = sequences[inside & ((sequences < 0) | (sequences >= k) | (sequences == blank))]
    if wrong.size:
        raise ValueError(
            f"ctc_loss: labels must be classes from 0 to K - 1 = {k - 1} other than the blank {blank}, got {wrong[0]}; "
            "tell by label_lengths= where sequences end"
        )
    return sequences, counts
