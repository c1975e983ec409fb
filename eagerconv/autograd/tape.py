"""The tape: operations with derivative rules, the graph they leave behind, and the sweep over it in either direction.

The tape knows no tensor class, and of mathematics the product that chain rules are made of. An operand is anything derived
from `Traced`; rules are written with the operators and methods of such objects, so that what a sweep computes can itself be
recorded and differentiated.

There is no list of operations. A recorded result points to its `Node`, a node to the nodes of its operands, and nothing
points the other way: dropping the result drops the graph, by reference counting alone. For the same reason a node never
holds a traced object, only arrays and nodes, from which saved operands are wrapped anew when a rule asks for them.

Complex numbers: the gradient of a real loss L with respect to z = a + ib is dL/da + i dL/db, the direction of steepest
ascent, as in PyTorch. So the pullback of a linear map J is its conjugate transpose, <v, J u> = <J^H v, u>.
"""

from __future__ import annotations

import inspect
import itertools
import numbers
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np

from eagerconv import devices
from eagerconv.autograd import views
from eagerconv.autograd.keeping import Kept, changed, keep, keep_parts, sample
from eagerconv.mistakes import without_numpy
from eagerconv.scopes import Block, Setting, refuse_operand

__all__ = [
    "LostHistory", "Node", "Op", "Traced", "backward", "defvjp", "elementwise", "enable_grad", "forward", "inexact",
    "is_grad_enabled", "joint", "linear", "multilinear", "no_grad", "parameters", "reachable", "sequence", "tell", "unwatch",
    "usual", "watch",
]  # fmt: skip

Rule = Callable[..., Any]


# ----- Grad mode -----


_mode = Setting("recording", True)
_now = _mode.frame.get  # every operation asks


def is_grad_enabled() -> bool:
    """Whether operations of this thread, or asyncio task, are being recorded.

    Examples
    --------
    >>> with no_grad():
    ...     is_grad_enabled()
    False
    """
    return _now().value


def _on(outer: bool) -> bool:
    return True


def _off(outer: bool) -> bool:
    return False


class no_grad(Block):
    """Record nothing inside the block, or inside the decorated function, in this thread or asyncio task.

    Examples
    --------
    >>> with no_grad():
    ...     is_grad_enabled()
    False
    """

    __slots__ = ()

    def __init__(self, *given: Any) -> None:
        refuse_operand("no_grad", given)
        super().__init__(_mode, _off)


class enable_grad(Block):
    """Record inside the block, or inside the decorated function, even within `no_grad`.

    Examples
    --------
    >>> with no_grad(), enable_grad():
    ...     is_grad_enabled()
    True
    """

    __slots__ = ()

    def __init__(self, *given: Any) -> None:
        refuse_operand("enable_grad", given)
        super().__init__(_mode, _on)


_recording, _not_recording = enable_grad(), no_grad()  # for sweeps: a block may be entered anywhere, and again


def grad_mode(recording: bool) -> Block:
    """A block in which operations are recorded, or are not."""
    return _recording if recording else _not_recording


# ----- Watching -----


class Watcher(Protocol):
    """What is told of every operation, and of every contribution of a sweep, while it watches."""

    def computed(self, op: Op, operands: Sequence[Any], result: Traced) -> None:
        """A result was computed and, if it has a node, recorded."""

    def pulled(self, op: Op, node: Node, position: int, g: Any) -> Any:
        """Do what `op.pull` does: give the contribution of a result to the cotangent of its operand at `position`."""


_watcher: Watcher | None = None  # of the whole process: one look at a global is all it costs the others
_watchers: list[Watcher] = []
_watching = threading.Lock()


def watch(watcher: Watcher) -> None:
    """Let `watcher` watch the tape, in the place of who does now, until it is told to stop."""
    global _watcher
    with _watching:
        _watchers.append(watcher)
        _watcher = watcher


def unwatch(watcher: Watcher) -> None:
    """Let `watcher` stop, as often as it began, and the last that has not stopped go on, in whatever order they began."""
    global _watcher
    with _watching:
        last = max(place for place, one in enumerate(_watchers) if one is watcher)
        del _watchers[last]
        _watcher = _watchers[-1] if _watchers else None


def tell(op: Op, operands: Sequence[Any], result: Traced) -> None:
    """Tell who watches of a result that was computed by other ways than a call of the operation."""
    if _watcher is not None:
        _watcher.computed(op, operands, result)


# ----- The graph -----


class Traced:
    """What the tape asks of an operand; the tensor class derives from it.

    `_data` is the array, which `data` shows to users, `grad` what backward accumulates, `_node` the place in the graph (None:
    not tracked), `_version` a list shared by all that show the memory, of the number of its changes and, behind it, its
    views; and `_base` how this object is seen in the memory of another (None: it is none's view), as `views` says.
    """

    __slots__ = ("__weakref__", "_base", "_data", "_node", "_version", "grad")

    _data: Any
    grad: Any
    _node: Node | None
    _version: list[Any]
    _base: Any

    @classmethod
    def _wrap(cls, data: Any, node: Node | None = None, version: list[Any] | None = None) -> Self:
        """A traced object around `data` itself: no copy, no conversion, no check."""
        self = cls.__new__(cls)
        self._data, self._node, self.grad, self._base = data, node, None, None
        self._version = [0] if version is None else version
        return self

    @property
    def data(self) -> Any:
        """The array itself. Another of the same shape and dtype may be put in its place; its views keep the old one."""
        return self._data

    @data.setter
    def data(self, array: Any) -> None:
        array = array._data if isinstance(array, Traced) else array
        if devices.of(array) is None:
            raise TypeError(
                f"data must be an array, not {type(array).__name__}; to change elements write x[...] = value, in the block "
                "`with no_grad():` if x is a leaf that requires a gradient"
            )
        old = self._data
        if (array.shape, array.dtype) != (old.shape, old.dtype):
            raise ValueError(
                f"data must keep its shape {old.shape} and dtype {old.dtype}, and the array has {array.shape}, "
                f"{array.dtype}; make a new tensor, as in x = tensor(value, requires_grad=True)"
            )
        self._data, self._version, self._base = array, [0], None


_numbers = itertools.count()


class Node:
    """One recorded result: the operation, the nodes of its operands, and what the derivative rules will need.

    A leaf is a node without an operation; `owner` then leads back to the object whose `.grad` it fills. Nodes are
    numbered as they are made, so sorting them by `seq` is a topological order.
    """

    __slots__ = ("dtype", "hooks", "op", "owner", "params", "parents", "saved", "seq", "shape")

    def __init__(
        self,
        op: Op | None,
        params: dict[str, Any],
        parents: tuple[Node | None, ...],
        saved: dict[int, tuple[Any, ...]],
        out: Any,
    ) -> None:
        self.op = op
        self.params = params
        self.parents = parents
        self.saved: dict[int, tuple[Any, ...]] | None = saved  # None: used up by a sweep
        self.shape: tuple[int, ...] = out.shape
        self.dtype = out.dtype
        self.seq = next(_numbers)
        self.hooks: dict[int, Callable[[Any], Any]] | None = None
        self.owner: weakref.ref[Traced] | None = None

    @classmethod
    def leaf(cls, owner: Traced) -> Node:
        """The node of an object that the user made and asked a gradient of."""
        node = cls(None, {}, (), {}, owner.data)
        node.owner = weakref.ref(owner)
        return node

    def unpack(self, slot: int, kind: type[Traced] | None) -> Any:
        """The operand at `slot` (_ANS: the result) as it was when recorded, or an error if its memory was changed.

        It comes as an object of the class `kind`, or (None) as the array it was.
        """
        assert self.op is not None
        if self.saved is None:
            raise RuntimeError(
                f"{self.op.name}: what it saved for the backward pass was freed by an earlier backward through it; "
                "pass retain_graph=True to the earlier backward() or grad() to sweep the same graph twice"
            )
        data, node, version, count, seen = self.saved[slot]
        if version is not None and version[0] != count:
            what = "its result" if slot == _ANS else f"its {ordinal(slot)} operand"
            raise RuntimeError(
                f"{self.op.name} saved {what} (shape {data.shape}) for the backward pass, and it was changed in place "
                "afterwards; call backward() before the change, or change a copy"
            )
        if seen is not None and sample(data) != seen:
            raise changed(f"{self.op.name} saved its {ordinal(slot)} operand", data)
        if kind is None or version is None:  # without a version: a number or array that never was tracked by us
            return data
        return kind._wrap(data, self if slot == _ANS else node, version)

    def given(self, name: str) -> Any:
        """A parameter as it was when recorded, or an error if it is an array that was written to."""
        value = self.params[name]
        return value.get(f"{self.op.name}: {name}") if type(value) is Kept else value  # type: ignore[union-attr]  # a leaf has none

    def free(self) -> None:
        """Give back what the rules would have needed; where no array was saved, there is nothing to win."""
        if self.saved:
            self.saved = None
            self.params = {}


def _lent(x: Traced) -> bool:
    """Whether others may know the memory of a tracked view: no recorded operation made that."""
    node = getattr(x._base[0], "_node", None)  # None: of a leaf that was detached from another tensor
    return node is None or node.op is None


def inexact(dtype: Any) -> bool:
    """Whether arrays of this dtype can have a gradient: floating (extension types too) or complex."""
    return dtype.kind in "fc" or dtype.name.startswith(("bfloat", "float8"))


def ordinal(slot: int) -> str:
    return {0: "1st", 1: "2nd", 2: "3rd"}.get(slot, f"{slot + 1}th")


# ----- Operations -----

_PLAIN = frozenset((np.ndarray, bool, int, float, complex, np.bool_, np.int64, np.float32, np.float64))  # of operands
_ANS = -1
_HOLDING = ("index", "repeats")  # parameters that may hold arrays of the user's; others may be one
SLOTS = {"x": 0, "y": 1, "z": 2, "ans": _ANS}


def _names(rule: Rule | float | None) -> tuple[str, ...]:
    """The parameter names of a rule: what it wants to be given. A constant wants nothing."""
    if not callable(rule):
        return ()
    code = rule.__code__
    return tuple(code.co_varnames[: code.co_argcount])


class Op:
    """A function of arrays with derivative rules; calling it computes at once and records what the rules ask for.

    A rule is a plain function whose parameter names say what it needs, and only that is kept: `x`, `y`, `z` the first
    three operands, `operands` all of them, `others` all with None in the place of the one being differentiated, `ans`
    the result, `g` the cotangent, `t` the tangent, `like` the shape and dtype of the operand being differentiated,
    `position` its place among the operands, and any other name a keyword parameter of the operation. The last rule
    serves all further operands. The partials of `elementwise` get arrays instead of traced objects where nothing is
    being recorded. Made by `elementwise`, `linear`, `multilinear`, `defvjp` and `joint`.
    """

    __slots__ = (
        "at_once",
        "defaults",
        "fn",
        "jvps",
        "large",
        "name",
        "names",
        "parts",
        "plans",
        "pull",
        "push",
        "rules",
        "view",
        "wants",
    )

    def __init__(
        self,
        name: str,
        fn: Callable[..., Any],
        rules: tuple[Any, ...],
        *,
        jvps: tuple[Rule, ...] = (),
        pull: Callable[[Op, Node, int, Any], Any],
        push: Callable[[Op, Node, int, Any], Any],
        view: bool = False,
        keep_others: bool = False,
        at_once: bool = False,
    ) -> None:
        # Gives the same for large arrays, only faster, or None where it is not faster; `eagerconv.large` sets it.
        self.large: Callable[..., Any] | None = None
        # Of an operation that picks elements by its parameter index: puts several cotangents, by `indices` and `shape`, in one
        # array. Were each put into one of its own, a loop over n rows would take the time of n squared.
        self.parts: Op | None = None
        self.at_once = at_once  # one call of the only rule gives the cotangents of all operands
        self.name, self.fn, self.rules, self.jvps = name, fn, rules, jvps
        self.pull, self.push, self.view = pull, push, view
        self.names = {rule: _names(rule) for rule in (*rules, *jvps) if callable(rule)}
        # Per rule, the names whose values must be saved for it (its forward rule included).
        common = {name for jvp in jvps for name in _names(jvp)} | ({"others"} if keep_others else set())
        self.wants = [common.union(_names(rule)) for rule in rules]
        self.plans: dict[tuple[bool, ...], tuple[int, ...]] = {}
        self.defaults = _defaults(fn)

    def __repr__(self) -> str:
        return f"<Op {self.name}>"

    def __call__(self, *operands: Any, **params: Any) -> Any:
        """Apply to traced objects, arrays and numbers; numbers reach NumPy as they are, and stay weakly typed."""
        kind: type[Traced] | None = None
        tracked = floats = False
        arrays = []
        for operand in operands:
            if isinstance(operand, Traced):
                kind = type(operand)
                if operand._node is not None:
                    tracked = True
                arrays.append(operand._data)
            elif type(operand) in _PLAIN or usual(operand) is operand:
                arrays.append(operand)
                floats = floats or type(operand) is float
            else:
                return self(*[usual(x) for x in operands], **params)
        if floats:
            arrays = _weakly_typed(arrays)
        for value in params.values():
            if isinstance(value, Traced):
                params = self._without_traced(params)
                break
        out = None
        if self.large is not None and kind is not None:
            out = self.large(*arrays, **params)
        try:
            if out is None:
                out = self.fn(*arrays, **params)
        except TypeError as error:
            if len(places := {place for x in arrays if (place := devices.of(x))}) > 1:
                names = " and ".join(sorted(places))
                raise TypeError(f"{self.name}: operands on {names}; move one, as in x.to('cpu')") from error
            without_numpy(error)
            raise
        except (ValueError, IndexError) as error:
            without_numpy(error)
            raise
        if kind is None:
            return out
        if type(out) is not np.ndarray:
            out = self._array(out)
        shared = self.view and isinstance(operands[0], Traced) and np.may_share_memory(out, arrays[0])
        version = operands[0]._version if shared else [0]
        node = self._record(operands, params, out, version) if tracked and _now().value else None
        result = kind._wrap(out, node, version)
        if shared:
            views.add(result, operands[0], self, params, node is not None or operands[0]._node is None)
        if _watcher is not None:
            _watcher.computed(self, operands, result)
        return result

    def _array(self, out: Any) -> Any:
        """The result as an array of ours: a scalar of NumPy's is one without axes, those of strangers are refused."""
        if isinstance(out, np.generic):
            return np.asarray(out)
        if devices.of(out) is None and not isinstance(out, np.ndarray):
            name = f"{type(out).__module__}.{type(out).__qualname__}"
            raise TypeError(
                f"{self.name}: an operand made the result a {name}; give it to from_dlpack or asarray first"
            )
        return out

    def _without_traced(self, params: dict[str, Any]) -> dict[str, Any]:
        """The parameters with arrays for traced objects, none of which may be tracked: parameters have no rules."""
        for name, value in params.items():
            if isinstance(value, Traced) and value._node is not None and _now().value:
                raise NotImplementedError(
                    f"{self.name} has no derivative with respect to its parameter {name}; detach() it if its gradient is "
                    "not wanted"
                )
        return {name: value.data if isinstance(value, Traced) else value for name, value in params.items()}

    def _record(self, operands: tuple[Any, ...], params: dict[str, Any], out: Any, version: list[Any]) -> Node | None:
        if not inexact(out.dtype):
            return None
        parents = tuple([x._node if isinstance(x, Traced) else None for x in operands])
        key = tuple([parent is not None for parent in parents])
        plan = self.plans.get(key)
        if plan is None:
            plan = self.plans[key] = self._plan(key)
        saved: dict[int, tuple[Any, ...]] = {}
        for slot in plan:
            x = out if slot == _ANS else operands[slot]
            if slot == _ANS:
                saved[slot] = (out, None, version, version[0], None)
            elif not isinstance(x, Traced):
                data, seen = keep(np.asarray(x) if isinstance(x, (list, tuple)) else x)
                saved[slot] = (data, None, None, 0, seen)
            else:
                data, seen, node = x._data, None, x._node
                if node is None or node.op is None or (x._base is not None and _lent(x)):
                    data, seen = keep(data)
                saved[slot] = (data, node, x._version, x._version[0], seen)
        for name, value in params.items():
            if name in _HOLDING:
                params = params | {name: keep_parts(value)}
            elif type(value) is np.ndarray:
                params = params | {name: Kept(value)}
        return Node(self, params, parents, saved, out)

    def _plan(self, tracked: tuple[bool, ...]) -> tuple[int, ...]:
        """The slots to save when just these operands are tracked."""
        slots: set[int] = set()
        for position, wanted in enumerate(tracked):
            if wanted and self.rules:
                names = self.wants[min(position, len(self.rules) - 1)]
                slots.update(SLOTS[name] for name in names if name in SLOTS)
                if "operands" in names:
                    slots.update(range(len(tracked)))
                elif "others" in names:  # what forward mode of a multilinear map needs
                    slots.update(set(range(len(tracked))) - {position})
        return tuple(slots)

    def rule(self, position: int) -> Any:
        """The rule of the operand at `position`, or an error that names it if there is none."""
        rule = self.rules[min(position, len(self.rules) - 1)] if self.rules else None
        if rule is None:
            raise NotImplementedError(
                f"{self.name} has no derivative with respect to its {ordinal(position)} operand; "
                "detach() that operand if its gradient is not wanted"
            )
        return rule

    def apply(self, rule: Any, node: Node, position: int, value: Any) -> Any:
        """Call `rule`, with `value` for its cotangent or tangent, giving it what its parameter names ask for."""
        if not callable(rule):
            return rule
        kind, arguments = type(value) if isinstance(value, Traced) else None, []
        for name in self.names[rule]:
            if name in SLOTS:
                arguments.append(node.unpack(SLOTS[name], kind))
            elif name in ("g", "t"):
                arguments.append(value)
            elif name == "like":
                arguments.append(node.parents[position])
            elif name == "position":
                arguments.append(position)
            elif name == "others":
                slots = range(len(node.parents))
                arguments.append(tuple(None if slot == position else node.unpack(slot, kind) for slot in slots))
            elif name == "operands":
                arguments.append(tuple(node.unpack(slot, kind) for slot in range(len(node.parents))))
            elif node.saved is None:
                node.unpack(_ANS, kind)  # raises: the parameters are freed as well
            else:
                arguments.append(node.given(name) if name in node.params else self.defaults[name])
        return rule(*arguments)


_REGISTERED = 256  # the first number of a dtype that another library made known to NumPy


def _weakly_typed(arrays: list[Any]) -> list[Any]:
    """The operands with plain numbers in the dtype of an array, where NumPy does not do that itself: of an extension type."""
    for x in arrays:
        if type(x) is np.ndarray and x.dtype.num >= _REGISTERED:
            break
    else:
        return arrays
    dtypes = {x.dtype for x in arrays if hasattr(x, "dtype") and x.dtype.kind != "b"}
    if len(dtypes) != 1 or not inexact(dtype := dtypes.pop()):
        return arrays
    return [dtype.type(x) if type(x) in (int, float) else x for x in arrays]


def done(op: Op, operands: tuple[Any, ...], out: Any, params: dict[str, Any] | None = None) -> Any:
    """What `op` gives for these traced operands, whose result is in `out` already, or was until a later operation took over.

    In the latter case its rules must ask for neither the operands' values nor, if it does not come last, the result.
    """
    version, node = [0], None
    for x in operands:
        if x._node is not None:
            if _now().value:
                node = op._record(operands, params or {}, out, version)
            break
    result = type(operands[0])._wrap(out, node, version)
    if _watcher is not None:
        _watcher.computed(op, operands, result)
    return result


def watched() -> bool:
    """Whether somebody looks at every result, as `detect_anomaly` does."""
    return _watcher is not None


def parameters(fn: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function; none of what NumPy writes in C, ufuncs among it, which tells them from 2.4 on only."""
    try:
        return inspect.signature(fn).parameters
    except (TypeError, ValueError):
        return {}


def _defaults(fn: Callable[..., Any]) -> dict[str, Any]:
    return {p.name: p.default for p in parameters(fn).values() if p.default is not inspect.Parameter.empty}


def elementwise(name: str, fn: Callable[..., Any], *partials: Rule | float | None) -> Op:
    """An operation that broadcasts, by its partial derivative (constant or rule) in each operand; both modes follow.

    For a real-valued function of a complex operand, the partial is the conjugate of its gradient.
    """
    return Op(name, fn, partials, pull=_pull_elementwise, push=_push_elementwise)


def linear(name: str, fn: Callable[..., Any], transpose: Rule, *, view: bool = False) -> Op:
    """A linear map of one operand, by the rule of its transpose; forward mode is the map itself."""
    return Op(name, fn, (transpose,), pull=_pull_rule, push=_push_linear, view=view)


def multilinear(name: str, fn: Callable[..., Any], *rules: Rule | None) -> Op:
    """A map linear in each operand, by one transpose per operand; forward mode replaces one operand at a time."""
    return Op(name, fn, rules, pull=_pull_rule, push=_push_multilinear, keep_others=True)


def defvjp(name: str, fn: Callable[..., Any], *rules: Rule | None, jvp: Rule | None = None, view: bool = False) -> Op:
    """Any other operation, by one vector-Jacobian rule per operand (none: it computes, and cannot be differentiated).

    Without `jvp` (one rule in `t` for every operand; the contributions are added) forward mode transposes the pullback.
    """
    push = _push_transposed if jvp is None else _push_rule
    jvps = () if jvp is None else (jvp,)
    return Op(name, fn, rules, jvps=jvps, pull=_pull_rule, push=push, view=view)


def joint(name: str, fn: Callable[..., Any], rule: Rule) -> Op:
    """An operation whose rule gives the cotangents of all operands at once, as a sequence (None: zero)."""
    return Op(name, fn, (rule,), pull=_pull_joint, push=_push_transposed, at_once=True)


def _pull_joint(op: Op, node: Node, position: int, g: Any) -> Any:
    value = op.apply(op.rule(0), node, position, g)[position]
    return type(g)._wrap(np.zeros_like(g.data, shape=())) if value is None else value


def _pull_rule(op: Op, node: Node, position: int, g: Any) -> Any:
    return op.apply(op.rule(position), node, position, g)


def _pull_elementwise(op: Op, node: Node, position: int, g: Any) -> Any:
    return _scale(op, node, position, g, True)


def _push_elementwise(op: Op, node: Node, position: int, t: Any) -> Any:
    return _scale(op, node, position, t, False)


def _scale(op: Op, node: Node, position: int, value: Any, conjugate: bool) -> Any:
    """The value times the partial derivative; among arrays alone where nobody will differentiate the product."""
    rule = op.rule(position)
    if _now().value or not callable(rule):
        return _times(value, op.apply(rule, node, position, value), conjugate)
    partial = op.apply(rule, node, position, value._data)
    if isinstance(partial, Traced):
        return _times(value, partial, conjugate)
    product = _times(value._data, partial, conjugate)
    return type(value)._wrap(np.asarray(product) if isinstance(product, np.generic) else product)


def _times(value: Any, partial: Any, conjugate: bool) -> Any:
    if partial is None:
        raise TypeError("a partial derivative must be a number, an array or a traced object; the rule returned None")
    if type(partial) is int and partial in (1, -1):
        return value if partial == 1 else -value
    partial = partial.conjugate() if conjugate else partial
    product = None if multiply.large is None else multiply.large(value, partial)
    return value * partial if product is None else product


def _push_linear(op: Op, node: Node, position: int, t: Any) -> Any:
    if node.saved is None:
        node.unpack(_ANS, type(t))
    return op(t, **{name: node.given(name) for name in node.params})


def _push_multilinear(op: Op, node: Node, position: int, t: Any) -> Any:
    slots = range(len(node.parents))
    params = {name: node.given(name) for name in node.params}
    return op(*[t if slot == position else node.unpack(slot, type(t)) for slot in slots], **params)


def _push_rule(op: Op, node: Node, position: int, t: Any) -> Any:
    op.rule(position)
    return op.apply(op.jvps[0], node, position, t)


def _push_transposed(op: Op, node: Node, position: int, t: Any) -> Any:
    """J t as the pullback of the pullback: g -> J^H g is linear in g, and pulling t back through it gives (J^H)^H t.

    Any g does. Ones say that every part of the result is asked for, to a rule that leaves out what is not.
    """
    parent = node.parents[position]
    assert parent is not None
    g = type(t)._wrap(np.ones_like(t.data, shape=node.shape, dtype=node.dtype))
    g._node = Node.leaf(g)
    with enable_grad():
        pulled = fit(op.pull(op, node, position, g), parent)
    pushed = backward([pulled], [t], [g._node], create_graph=_now().value)
    # Zeros where the rule does not look at g.
    return pushed[g._node] if g._node in pushed else type(t)._wrap(np.zeros_like(g.data))


multiply = elementwise("multiply", np.multiply, lambda y: y, lambda x: x)  # the row that stands here for `_times`
stack = defvjp(  # and the one for `sequence`
    "stack",
    lambda *operands, axis: np.stack(operands, axis),
    lambda g, position, axis: g[(*(slice(None),) * axis, position)],
)


class LostHistory(RuntimeError):
    """A tracked object was given to something that knows nothing of the tape."""


def sequence(x: Any, like: Any = None) -> Any:
    """The array of a number or of nested sequences, where `like` is; a recorded one, if there are tracked objects in them."""
    try:
        return np.asarray(x, like=like)
    except LostHistory:
        if not isinstance(x, (list, tuple)):
            raise
    parts = [sequence(part, like) if isinstance(part, (list, tuple)) else part for part in x]
    return stack(*[part if isinstance(part, Traced) else np.asarray(part, like=like) for part in parts], axis=0)


def _tracks(x: Any) -> bool:
    """Whether a tracked object is in the nested sequences."""
    if isinstance(x, (list, tuple)):
        return any(_tracks(part) for part in x)
    return isinstance(x, Traced) and x._node is not None


def usual(x: Any) -> Any:
    """An operand as rules and NumPy know it: recorded, where sequences hold tracked objects, and a float for fractions."""
    if type(x) in _PLAIN or isinstance(x, (Traced, int, float, np.generic)):
        return x
    if isinstance(x, (list, tuple)):
        return sequence(x) if _tracks(x) and _now().value else x
    return float(x) if isinstance(x, numbers.Real) else x  # NumPy would make it an object


# ----- Sweeps -----


def fit(value: Any, like: Any) -> Any:
    """Bring a cotangent or tangent to the shape and dtype of what it belongs to, undoing broadcasting and casts.

    Axes that were broadcast are summed, axes that a rule left at length one are broadcast, an imaginary part is dropped
    where `like` is real.
    """
    shape, dtype, data = like.shape, like.dtype, value._data
    if data.shape != shape:
        value = _fit_shape(value, shape)
    if data.dtype != dtype:
        if value.dtype.kind == "c" and dtype.kind != "c":
            value = value.real
        if value.dtype != dtype:
            value = value.astype(dtype)
    return value


def _fit_shape(value: Any, shape: tuple[int, ...]) -> Any:
    lead = value.ndim - len(shape)
    if lead < 0:
        value = value.reshape((1,) * -lead + value.shape)
        lead = 0
    axes = (*range(lead), *(lead + a for a, n in enumerate(shape) if n == 1 != value.shape[lead + a]))
    if axes:
        value = value.sum(axis=axes, keepdims=True)
    if lead:
        value = value.reshape(value.shape[lead:])
    return value if value.shape == shape else value.broadcast_to(shape)


def reachable(roots: Iterable[Node | None]) -> list[Node]:
    """The nodes that the roots were computed from, themselves included, in the order they were recorded."""
    seen = {root for root in roots if root is not None}
    stack = list(seen)
    while stack:
        for parent in stack.pop().parents:
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=lambda node: node.seq)


def _between(roots: Iterable[Node | None], sources: Iterable[Node] | None) -> dict[Node, None]:
    """Of the nodes reachable from the roots those that depend on a source (None: all), in recorded order."""
    order = reachable(roots)
    if sources is None:
        return dict.fromkeys(order)
    sources = set(sources)
    found: dict[Node, None] = {}
    for node in order:
        if node in sources or any(parent in found for parent in node.parents):
            found[node] = None
    return found


def backward(
    outputs: Sequence[Traced],
    cotangents: Sequence[Any],
    targets: Iterable[Node] | None,
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> dict[Node, Any]:
    """Sweep from the outputs to the target nodes (None: all leaves); the cotangents of those that are reached.

    Nodes whose rules ran give back the arrays they saved unless `retain_graph` (default: `create_graph`); all nodes do when
    a rule raises.
    """
    retain = create_graph if retain_graph is None else retain_graph
    path = _between([out._node for out in outputs], targets)
    wanted = {node for node in path if node.op is None} if targets is None else set(targets)
    pending: dict[Node, Any] = {}
    parts: dict[Node, list[tuple[Any, Node]]] = {}  # what belongs to parts of a node, with the nodes that picked them
    found: dict[Node, Any] = {}
    with grad_mode(create_graph):
        for out, cotangent in zip(outputs, cotangents, strict=True):
            if out._node in path:
                _add(pending, out._node, fit(cotangent, out._node))
        try:
            for node in reversed(path):
                if node in parts:
                    pending[node] = _put_together(pending.pop(node, None), parts.pop(node), node)
                if (g := pending.pop(node, None)) is None:
                    continue
                if node.hooks:
                    g = _run_hooks(node, g)
                if node in wanted:
                    found[node] = g
                if node.op is not None and node.op.parts is not None and _watcher is None:
                    if node.parents[0] in path:
                        parts.setdefault(node.parents[0], []).append((g, node))
                else:
                    _pull_into(node, g, path, pending, retain)
        except BaseException:
            if not retain:
                for node in path:
                    node.free()
            raise
        return _separate(found, cotangents)


def _pull_into(node: Node, g: Any, path: dict[Node, None], pending: dict[Node, Any], retain: bool) -> None:
    """Add to the operands' cotangents what the cotangent `g` of one result contributes."""
    op = node.op
    if op is None:
        return
    positions = [position for position, parent in enumerate(node.parents) if parent is not None and parent in path]
    at_once = op.apply(op.rule(0), node, 0, g) if op.at_once and positions and _watcher is None else None
    pull = op.pull if _watcher is None else _watcher.pulled
    for position in positions:
        parent: Any = node.parents[position]
        value = pull(op, node, position, g) if at_once is None else at_once[position]
        if value is not None:
            _add(pending, parent, fit(value, parent))
    if positions and not retain:
        node.free()


def _put_together(whole: Any, parts: list[tuple[Any, Node]], parent: Node) -> Any:
    """The cotangent of a node, of what belongs to all of it (None: nothing) and of those of its parts."""
    (g, node), op = parts[0], parts[0][1].op
    assert op is not None
    if whole is None and len(parts) == 1:
        return fit(op.pull(op, node, 0, g), parent)
    assert op.parts is not None
    gs, indices = [g for g, _ in parts], [node.params["index"] for _, node in parts]
    if whole is not None:
        gs, indices = [whole, *gs], [..., *indices]
    return op.parts(*gs, indices=tuple(indices), shape=parent.shape)


def forward(outputs: Sequence[Traced], sources: Sequence[Node], tangents: Sequence[Any]) -> list[Any]:
    """Sweep the same tape from the source nodes to the outputs; their tangents, None where nothing arrives.

    The tangents are computed under the grad mode of the caller, so that they can be differentiated again.
    """
    reached = dict(zip(sources, tangents, strict=True))
    for node in _between([out._node for out in outputs], sources):
        if node in reached or node.op is None:
            continue
        for position, parent in enumerate(node.parents):
            if parent is not None and parent in reached:
                _add(reached, node, fit(node.op.push(node.op, node, position, reached[parent]), node))
    nodes = [out._node for out in outputs]
    found = _separate({node: reached[node] for node in nodes if node in reached}, tangents)
    return [None if node is None else found.get(node) for node in nodes]


def _add(table: dict[Node, Any], node: Node, value: Any) -> None:
    table[node] = table[node] + value if node in table else value


def _run_hooks(node: Node, g: Any) -> Any:
    for hook in list((node.hooks or {}).values()):
        new = hook(g)
        if new is not None:
            if getattr(new, "shape", None) != node.shape:
                raise ValueError(
                    f"a gradient hook must return None or a tensor of the gradient's shape {node.shape}; "
                    f"it returned {getattr(new, 'shape', type(new).__name__)}"
                )
            g = g if new is g else fit(new, node).clone()  # the hook's owner may keep what it returned
    return g


def _separate(results: dict[Node, Any], given: Sequence[Any]) -> dict[Node, Any]:
    """Give every result memory of its own: rules pass on what they were given, and views of it."""
    taken = {id(_owner(g.data)) for g in given}
    for node, g in results.items():
        owner = _owner(g.data)
        whole = owner is g.data or (g.data.nbytes == owner.nbytes and g.data.flags.c_contiguous)
        if not whole or id(owner) in taken:
            results[node] = g = g.clone()
        taken.add(id(_owner(g.data)))
    return results


def _owner(array: Any) -> Any:
    """The array whose memory this one shows: itself, or what it is a view of (as those of the pool are, too)."""
    while isinstance(array.base, type(array)):
        array = array.base
    return array
