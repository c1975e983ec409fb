"""Views: which traced objects show one memory, by which steps, and how a recorded change of one of them reaches the others.

What was recorded must stay true, so a recorded change writes to no memory: it gives the object that owns the memory, the
root, a new array, and its views are taken of that anew. A view leads to its root by a link, the memory's version list to its
views by weak references.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

__all__ = ["add", "cut", "detached", "replace", "root"]

Traced: TypeAlias = Any  # and operations: of the tape, which imports this file
Op: TypeAlias = Any

# The root, strongly where a change of the view may go on the tape and weakly where it must not (what `detach` gives, and
# views made under `no_grad`), so that it keeps no graph; the link of the view that this one was taken of; and the step.
Link: TypeAlias = "tuple[Any, Link | None, Op, dict[str, Any]]"
Steps: TypeAlias = "tuple[tuple[Op, dict[str, Any]], ...]"

_pruning = threading.Lock()
_FEW = 32  # so many references to dead views cost less than a look at them


def add(view: Traced, of: Traced, op: Op, params: dict[str, Any], attached: bool) -> None:
    """Remember that `op` made `view` of the memory of `of`; one that is not attached follows in its values alone."""
    link: Link | None = of._base
    top: Traced = of if link is None else link[0]
    if type(top) is weakref.ref and top() is None:
        top, link = of, None
    if not attached and type(top) is not weakref.ref:
        top = weakref.ref(top)
    view._base = (top, link, op, params)
    _register(view, of._version)


def cut(view: Traced) -> None:
    """Let a view follow in its values alone from now on."""
    if view._base is not None and type(view._base[0]) is not weakref.ref:
        view._base = (weakref.ref(view._base[0]), *view._base[1:])


def root(x: Traced) -> Traced | None:
    """The object whose memory `x` shows: itself, if it is no view; None where that is gone, or has another memory now."""
    if x._base is None:
        return x
    top = x._base[0]
    top = top() if type(top) is weakref.ref else top
    return top if top is not None and top._version is x._version and _overlap(x, top) else None


def detached(x: Traced, op: Op) -> bool:
    """Whether the step to a view, or to one that it was taken of, was this one."""
    link = x._base
    while link is not None:
        if link[2] is op:
            return True
        link = link[1]
    return False


def replace(x: Traced, new: Traced, write: Callable[..., Any]) -> None:
    """Give `x` the value and history of `new`, which has its shape and dtype, and let all that shows its memory follow.

    `write(root, v, steps=, order=)` must give the root with v written to the view that the steps lead to, as an array of its
    own whose axes lie in memory in this order.
    """
    top: Traced = root(x)
    if top is not None and x._base is not None and type(x._base[0]) is weakref.ref:
        raise RuntimeError(
            "this tensor is a view made by detach() or under no_grad(), and a change of it that has to be recorded would "
            "not reach the tensor it was taken of; change that one, or a copy, x = x.clone()"
        )
    top = x if top is None else top
    members = [member for ref in x._version[1:] if (member := ref()) is not None and member is not top]
    followers = [member for member in members if _overlap(member, top)]  # the others were given another array
    if any(root(member) is not top for member in followers):
        raise RuntimeError(
            "a change of this tensor has to be recorded, and would not reach others that show the same memory, since the "
            "tensor they were all taken of is gone; keep that one, or change a copy, x = x.clone()"
        )
    order = tuple(np.argsort([-abs(step) for step in top.data.strides], kind="stable").tolist())
    if top is not x:
        new = write(top, new, steps=_steps(x._base), order=order)
    elif new._base is not None or (followers and new.data.strides != x.data.strides):
        new = write(x, new, steps=(), order=order)
    seen = [_again(member, new) for member in followers]
    for member, (data, node) in zip(followers, seen, strict=True):
        member._data, member._node, member._version = data, node, new._version
        _register(member, new._version)
    top._data, top._node, top._version, top._base = new._data, new._node, new._version, None


def _register(view: Traced, version: list[Any]) -> None:
    """Note a view behind the count of changes; the dead are forgotten whenever the number of all has doubled."""
    version.append(weakref.ref(view))
    n = len(version)
    if n >= _FEW and not n & (n - 1):
        with _pruning:  # others may append meanwhile, behind the part that is replaced at one stroke
            version[1:n] = [ref for ref in version[1:n] if ref() is not None]


def _steps(link: Link | None) -> Steps:
    steps = []
    while link is not None:
        _, link, op, params = link
        if not op.view:
            raise RuntimeError(
                f"a change has to be recorded of a memory of which {op.name} made a view, which could not follow; change a "
                "copy, x = x.clone()"
            )
        steps.append((op, params))
    return tuple(reversed(steps))


def _again(member: Traced, new: Traced) -> tuple[Any, Any]:
    """A view taken of the new value of its root: its array, and its place in the graph."""
    steps = _steps(member._base)
    if type(member._base[0]) is weakref.ref:
        data = new.data
        for op, params in steps:
            data = op.fn(data, **params)
        view, node = data, member._node
    else:
        seen = new
        for op, params in steps:
            seen = op(seen, **params)
        view, node = seen.data, seen._node
    if view.size and not np.may_share_memory(view, new.data):
        raise RuntimeError(
            "a change has to be recorded of a memory whose views cannot be taken of a new array; change a copy, x = x.clone()"
        )
    return view, node


def _overlap(a: Traced, b: Traced) -> bool:
    return not a.data.size or bool(np.may_share_memory(a.data, b.data))
