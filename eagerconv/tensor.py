"""Tensor: an array with a place on the tape, and the operators, methods and in-place changes known from NumPy."""

from __future__ import annotations

import copy
import itertools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from typing import Any, SupportsIndex, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from eagerconv import devices, dispatch
from eagerconv.autograd import rules, tape, views
from eagerconv.autograd.tape import Node, Traced
from eagerconv.devices import DEVICES
from eagerconv.mistakes import border, explain, place, refuse_missing, shorten
from eagerconv.vocabulary import METHODS

__all__ = ["Axis", "Tensor", "asarray", "tensor"]

Array: TypeAlias = np.ndarray[Any, Any]
Axis: TypeAlias = int | tuple[int, ...] | None

# The rows behind the operators.
_add = dispatch.row(np.add)
_subtract = dispatch.row(np.subtract)
_multiply = dispatch.row(np.multiply)
_divide = dispatch.row(np.divide)
_floor_divide = dispatch.row(np.floor_divide)
_remainder = dispatch.row(np.remainder)
_power = dispatch.row(np.power)
_matmul = dispatch.row(np.matmul)
_bitwise_and = dispatch.row(np.bitwise_and)
_bitwise_or = dispatch.row(np.bitwise_or)
_bitwise_xor = dispatch.row(np.bitwise_xor)
_left_shift = dispatch.row(np.left_shift)
_right_shift = dispatch.row(np.right_shift)
_negative = dispatch.row(np.negative)
_positive = dispatch.row(np.positive)
_absolute = dispatch.row(np.absolute)
_invert = dispatch.row(np.invert)
_equal = dispatch.row(np.equal)
_not_equal = dispatch.row(np.not_equal)
_less = dispatch.row(np.less)
_less_equal = dispatch.row(np.less_equal)
_greater = dispatch.row(np.greater)
_greater_equal = dispatch.row(np.greater_equal)


def _method(function: Callable[..., Any], doc: str) -> Callable[..., Any]:
    """A method of a tensor that is a function of NumPy, of the same name and arguments."""

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        try:
            return dispatch.call(function, (self, *args), kwargs, Tensor)
        except Exception as error:
            if isinstance(error, TypeError):
                explain(error, function.__name__, function, args, kwargs)
            shorten(error)
            raise

    method.__name__ = function.__name__
    method.__doc__ = doc
    return method


def _operators(row: Callable[..., Any]) -> tuple[Callable[[Tensor, Any], Tensor], Callable[[Tensor, Any], Tensor]]:
    """The operator with a tensor before it, and with one behind it."""

    def before(self: Tensor, other: Any) -> Any:
        return row(self, other) if type(other) in _OURS else _beside(row, other, self, other)

    def behind(self: Tensor, other: Any) -> Any:
        return row(other, self) if type(other) in _OURS else _beside(row, other, other, self)

    return before, behind


def _comparison(row: Callable[..., Any], without: bool) -> Callable[[Tensor, Any], Tensor]:
    """The operator == or !=, whose answer is `without` beside what no number can be compared with, such as a word."""

    def method(self: Tensor, other: Any) -> Any:
        if type(other) in _OURS:
            return row(self, other)
        try:
            return _beside(row, other, self, other)
        except TypeError:
            return Tensor._wrap(np.full_like(self.data, without, dtype=bool))

    return method


def _beside(row: Callable[..., Any], stranger: Any, x: Any, y: Any) -> Any:
    """What an operator gives where one operand, `stranger`, is of a class that is not ours."""
    if _stands_back(stranger):
        return NotImplemented
    return _no_objects(row(_number(x), _number(y)), stranger)


def _number(x: Any) -> Any:
    """The operand, but for a Fraction, which NumPy would keep as an object, a float."""
    return float(x) if isinstance(x, Real) and type(x) not in _OURS else x


def _no_objects(out: Any, stranger: Any) -> Any:
    if out.dtype.kind == "O":
        raise TypeError(f"a tensor cannot meet a {type(stranger).__name__}; make it a number first, as by float()")
    return out


_accumulating = threading.RLock()  # several threads may add to the gradient of one leaf


def _after_fork_in_child() -> None:
    global _accumulating
    _accumulating = threading.RLock()  # its owner may not exist here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Tensor(Traced):
    """An n-dimensional array that remembers how it was computed.

    Made by `tensor` (copies) and `asarray` (shares memory). Operations run at once; those on tensors that require a
    gradient are recorded, and `backward` fills the `.grad` of the leaves. In-place changes (`x[...] = v`, `x += v`)
    write to the memory when nothing is being recorded for x or v. When something is, x is given a new array instead, so
    what was recorded stays true, and all Tensors that show its memory follow: its views, and what it is a view of.

    Examples
    --------
    >>> w = tensor([1.0, 2.0], requires_grad=True)
    >>> loss = (w * w).sum()
    >>> loss.backward()
    >>> w.grad
    tensor([2., 4.], dtype=float64)
    """

    __slots__ = ()
    __array_priority__ = 1000.0  # to libraries without the protocols below: ours decides
    __hash__ = object.__hash__

    grad: Tensor | None

    # ----- What it is -----

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return cast(tuple[int, ...], self._data.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype of the elements."""
        return cast("np.dtype[Any]", self._data.dtype)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return cast(int, self._data.ndim)

    @property
    def size(self) -> int:
        """The number of elements."""
        return cast(int, self._data.size)

    @property
    def itemsize(self) -> int:
        """The bytes of one element."""
        return cast(int, self._data.itemsize)

    @property
    def strides(self) -> tuple[int, ...]:
        """The bytes from one element to the next along each axis."""
        return cast(tuple[int, ...], self._data.strides)

    @property
    def nbytes(self) -> int:
        """The bytes of all elements."""
        return cast(int, self._data.nbytes)

    @property
    def device(self) -> str:
        """Where the data lives: "cpu" for a NumPy array, "cuda" for one of CuPy's."""
        return devices.of(self._data) or "cpu"

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made it: True for all tensors that do not require a gradient."""
        return self._node is None or self._node.op is None

    @property
    def requires_grad(self) -> bool:
        """Whether operations on it are recorded. May be set on leaves."""
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if bool(value) == self.requires_grad:
            return
        if not value and not self.is_leaf:
            raise RuntimeError(
                f"requires_grad of a result of {self._node.op.name} cannot be switched off; "  # type: ignore[union-attr]
                "use detach() for a tensor without a history"
            )
        if value and not tape.inexact(self.dtype):
            raise TypeError(
                f"only floating and complex tensors can require a gradient, this one is {self.dtype}; "
                "convert it first, as in x.astype('float32')"
            )
        self._node = Node.leaf(self) if value else None
        views.cut(self)  # a leaf has no history, not even that of changes to what it is a view of

    def __repr__(self) -> str:
        text = np.array2string(devices.move(self._data, "cpu"), separator=", ", prefix="tensor(")
        tail = f", dtype={self.dtype.name}" + (f", device={self.device!r}" if self.device != "cpu" else "")
        return f"tensor({text}{tail}{', requires_grad=True' if self.requires_grad else ''})"

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not isinstance(vars(Tensor).get(name), _Elsewhere)]

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a tensor without axes")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self._data)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.size == 1 else format(repr(self), spec)

    def __complex__(self) -> complex:
        return complex(self.item())

    def __index__(self) -> int:
        return cast(SupportsIndex, self.item()).__index__()

    def __reduce__(self) -> Any:
        if not self.is_leaf and tape.is_grad_enabled():
            raise dispatch.lost("pickle")
        return _rebuild, (self._data, self.requires_grad and self.is_leaf, self.grad)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """A copy in the same order in memory, with its gradient; of a result that has a history, `clone` makes one."""
        if not self.is_leaf and tape.is_grad_enabled():
            raise dispatch.lost("copy.copy or copy.deepcopy, neither of which can copy a graph; clone() keeps it")
        memo[id(self)] = result = _rebuild(self._data.copy(order="K"), self.requires_grad and self.is_leaf)
        result.grad = copy.deepcopy(self.grad, memo)
        return result

    def __copy__(self) -> Tensor:
        return self.__deepcopy__({})

    # ----- Out of the tape -----

    def numpy(self) -> Array:
        """The NumPy array of this tensor, sharing its memory; read-only when a gradient is required.

        Raises
        ------
        TypeError
            If the tensor is on another device than the CPU.
        """
        if self.device != "cpu":
            raise TypeError(
                f"the tensor is on {self.device!r}, and NumPy's arrays are on the CPU; use x.to('cpu').numpy()"
            )
        if self._node is None:
            return cast(Array, self._data)
        view = self._data.view()
        view.flags.writeable = False  # a change through it would go unnoticed by the tape
        return cast(Array, view)

    def item(self, *index: Any) -> Any:
        """The only element, or the one at an index, as a Python number."""
        return self._data.item(*index)

    def tobytes(self) -> bytes:
        """A copy of the elements' memory, in C order."""
        return cast(bytes, self._data.tobytes())

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers."""
        return self._data.tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The NumPy array, for code that asks for one; refused where that would lose a gradient unseen.

        Inside `no_grad` the history is known to be unwanted: then a tracked tensor gives a read-only array.
        """
        if self._node is not None and tape.is_grad_enabled():
            raise dispatch.lost("code that wants a NumPy array")
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    # ----- NumPy's functions, and other libraries -----

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        strangers = [x for x in inputs if type(x) not in _OURS]
        for x in strangers:
            if _overrides(x):
                return NotImplemented
        if strangers:
            inputs = tuple(map(_number, inputs))
        try:
            out = dispatch.call_ufunc(ufunc, method, inputs, kwargs, Tensor)
        except Exception as error:
            shorten(error)
            raise
        return _no_objects(out, strangers[0]) if strangers and isinstance(out, Tensor) else out

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if not all(issubclass(t, (Tensor, *DEVICES)) for t in types):
            return NotImplemented
        try:
            return dispatch.call(function, args, kwargs, Tensor)
        except Exception as error:
            shorten(error)
            raise

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        """The functions of the array API standard for tensors: the package itself."""
        if api_version is not None and api_version not in _API_VERSIONS:
            raise ValueError(f"api_version must be one of {', '.join(_API_VERSIONS)}, not {api_version!r}")
        return sys.modules["eagerconv"]

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[Any, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A capsule from which another library makes an array of the same memory."""
        if self._node is not None and tape.is_grad_enabled():
            raise dispatch.lost("another library by DLPack")
        return self._data.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)

    def __dlpack_device__(self) -> tuple[Any, int]:
        return cast("tuple[Any, int]", self._data.__dlpack_device__())

    def to(self, device: str) -> Tensor:
        """Move to a device, through which gradients flow back; the tensor itself, if it is there.

        Parameters
        ----------
        device : {"cpu", "cuda"}

        Raises
        ------
        ValueError
            If there is no device of that name.
        DeviceError
            If this machine has no GPU that can be used; the message tells what is missing.
        """
        if devices.known(device) == self.device:
            return self
        return cast(Tensor, _moved(self, target=device, source=self.device))

    def to_device(self, device: str, /, *, stream: Any = None) -> Tensor:
        """Move to a device: `to` under the name of the array API standard."""
        return self.to(device)

    def detach(self) -> Tensor:
        """The same memory without a history; in-place changes of either are still noticed by the tape."""
        result = Tensor._wrap(self._data, None, self._version)
        views.add(result, self, rules.alias, {}, attached=False)
        return result

    def clone(self) -> Tensor:
        """A copy in memory of its own, through which gradients flow."""
        return cast(Tensor, rules.copy(self))

    copy = clone

    # ----- Gradients -----

    def backward(self, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False) -> None:
        """Add the gradient of this tensor to the `.grad` of every leaf it was computed from; threads may do so at once.

        Parameters
        ----------
        gradient : array_like, optional
            The cotangent of this tensor, of its shape. May be left out for a single element, where it is one.
        retain_graph : bool, optional
            Keep what was saved, for another backward through the same graph. Default: `create_graph`.
        create_graph : bool
            Record the computation of the gradient, so that it can be differentiated too.

        Raises
        ------
        RuntimeError
            If this tensor does not require a gradient, the gradient is left out for more than one element, the graph
            was used up before, or an array that is needed was changed in place.
        """
        seed = cotangent(self, gradient, "backward")
        grads = tape.backward([self], [seed], None, create_graph=create_graph, retain_graph=retain_graph)
        with tape.grad_mode(create_graph):
            for node, g in grads.items():
                owner = node.owner() if node.owner is not None else None
                if owner is not None:
                    with _accumulating:
                        owner.grad = g if owner.grad is None else owner.grad + g

    def zero_grad(self) -> None:
        """Forget the accumulated gradient."""
        self.grad = None

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> HookHandle:
        """Call `hook(gradient)` whenever a backward sweep has the gradient of this tensor; it may return a replacement.

        Examples
        --------
        >>> x = tensor([3.0], requires_grad=True)
        >>> handle = x.register_hook(lambda g: 10 * g)
        >>> (x * x).backward()
        >>> x.grad
        tensor([60.], dtype=float64)
        >>> handle.remove()
        """
        if self._node is None:
            raise RuntimeError("register_hook: this tensor does not require a gradient, so none will ever arrive")
        if self._node.hooks is None:
            self._node.hooks = {}
        return HookHandle(self._node.hooks, hook)

    # ----- Operators: beside an operand whose class has its own way they leave it to that -----

    __add__, __radd__ = _operators(_add)
    __sub__, __rsub__ = _operators(_subtract)
    __mul__, __rmul__ = _operators(_multiply)
    __truediv__, __rtruediv__ = _operators(_divide)
    __floordiv__, __rfloordiv__ = _operators(_floor_divide)
    __mod__, __rmod__ = _operators(_remainder)
    __pow__, __rpow__ = _operators(_power)
    __matmul__, __rmatmul__ = _operators(_matmul)
    __and__, __rand__ = _operators(_bitwise_and)
    __or__, __ror__ = _operators(_bitwise_or)
    __xor__, __rxor__ = _operators(_bitwise_xor)
    __lshift__, __rlshift__ = _operators(_left_shift)
    __rshift__, __rrshift__ = _operators(_right_shift)

    def __divmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return other // self, other % self

    def __neg__(self) -> Tensor:
        return cast(Tensor, _negative(self))

    def __pos__(self) -> Tensor:
        return cast(Tensor, _positive(self))

    def __abs__(self) -> Tensor:
        return cast(Tensor, _absolute(self))

    def __invert__(self) -> Tensor:
        return cast(Tensor, _invert(self))

    __eq__ = _comparison(_equal, False)  # type: ignore[assignment]
    __ne__ = _comparison(_not_equal, True)  # type: ignore[assignment]
    __lt__ = _operators(_less)[0]
    __le__ = _operators(_less_equal)[0]
    __gt__ = _operators(_greater)[0]
    __ge__ = _operators(_greater_equal)[0]

    def __contains__(self, item: Any) -> bool:
        return bool(np.any(cast(Any, self == item)))

    def __getitem__(self, index: Any) -> Tensor:
        return cast(Tensor, rules.getitem(self, index=dispatch.plain(index)))

    # ----- In-place changes -----

    def __setitem__(self, index: Any, value: Any) -> None:
        index, value = dispatch.plain(index), tape.usual(value)
        if not self._must_record(value):
            self._data[index] = value.data if isinstance(value, Traced) else value
            self._version[0] += 1
            return
        if not self._holds(value, index):
            self._become(rules.setitem(self, value, index=index))

    def __iadd__(self, other: Any) -> Tensor:
        return self._update(np.add, other)

    def __isub__(self, other: Any) -> Tensor:
        return self._update(np.subtract, other)

    def __imul__(self, other: Any) -> Tensor:
        return self._update(np.multiply, other)

    def __itruediv__(self, other: Any) -> Tensor:
        return self._update(np.divide, other)

    def __ifloordiv__(self, other: Any) -> Tensor:
        return self._update(np.floor_divide, other)

    def __imod__(self, other: Any) -> Tensor:
        return self._update(np.remainder, other)

    def __ipow__(self, other: Any) -> Tensor:
        return self._update(np.power, other)

    def __imatmul__(self, other: Any) -> Tensor:
        return self._update(np.matmul, other)

    def __iand__(self, other: Any) -> Tensor:
        return self._update(np.bitwise_and, other)

    def __ior__(self, other: Any) -> Tensor:
        return self._update(np.bitwise_or, other)

    def __ixor__(self, other: Any) -> Tensor:
        return self._update(np.bitwise_xor, other)

    def __ilshift__(self, other: Any) -> Tensor:
        return self._update(np.left_shift, other)

    def __irshift__(self, other: Any) -> Tensor:
        return self._update(np.right_shift, other)

    def _update(self, ufunc: np.ufunc, other: Any) -> Tensor:
        if type(other) not in _OURS and _stands_back(other):
            return cast(Tensor, NotImplemented)  # so that the operator without = is asked
        other = tape.usual(other)
        if self._must_record(other):
            return self._take_over(dispatch.row(ufunc)(self, other))
        ufunc(self._data, other._data if isinstance(other, Traced) else other, out=self._data)
        self._version[0] += 1
        return self

    def _assign(self, new: Tensor) -> Tensor:
        """Be what `out=` names, for a result that has to be recorded."""
        self._must_record(new)  # which raises for a leaf
        return self._take_over(new)

    def _holds(self, value: Any, index: Any) -> bool:
        """Whether the value is the view at this index: then x[i] += v, which ends with x[i] = x[i], is done already."""
        if not isinstance(value, Tensor) or value._version is not self._version or value._base is None:
            return False
        here, place = value.data, self._data[index]
        return (
            type(value._base[0]) is not weakref.ref
            and isinstance(here, np.ndarray)
            and (here.shape, here.strides, here.dtype) == (place.shape, place.strides, place.dtype)
            and here.__array_interface__["data"] == place.__array_interface__["data"]
        )

    def _take_over(self, new: Tensor) -> Tensor:
        """Become the result of an in-place operation, of this shape and dtype."""
        if new.shape != self.shape or not np.can_cast(new.dtype, self.dtype, "same_kind"):
            raise ValueError(
                f"an in-place result of shape {new.shape}, {new.dtype}, does not fit this tensor of shape "
                f"{self.shape}, {self.dtype}; use the operator or function that makes a new tensor"
            )
        self._become(new if new.dtype == self.dtype else new.astype(self.dtype))
        return self

    def _must_record(self, value: Any) -> bool:
        """Whether an in-place change by `value` has to go on the tape instead of into the memory."""
        tracked = self._node is not None or (isinstance(value, Traced) and value._node is not None)
        if not tracked and self._base is not None and tape.is_grad_enabled():
            top = views.root(self)
            if top is not None and top._node is not None and not views.detached(self, rules.alias):
                raise RuntimeError(
                    "this tensor is a view of one that requires a gradient, made under no_grad() or before that did, and a "
                    "change of it would be missing in the history; make the change in the block `with no_grad():`, or change "
                    "a copy, x = x.clone()"
                )
        if not tracked or not tape.is_grad_enabled():
            return False
        for x in (self, views.root(self)):
            if x is not None and x._node is not None and x._node.op is None:
                raise RuntimeError(
                    f"a {'leaf' if x is self else 'view of a leaf'} that requires a gradient was changed in place while "
                    "recording; wrap the change in `with no_grad():`, or change a copy, x = x.clone()"
                )
        return True

    def _become(self, new: Tensor) -> None:
        """Take over the value and the history of `new`, and so do views: the memory held so far stays as it was recorded."""
        views.replace(self, new, rules.write)

    # ----- Methods: the same functions as in the namespace, on this tensor -----

    def sum(
        self,
        axis: Axis = None,
        dtype: npt.DTypeLike | None = None,
        out: Any = None,
        keepdims: bool = False,
        initial: Any = None,
        where: Any = True,
    ) -> Tensor:
        """Sum over the given axes, or all."""
        if out is initial is None and where is True:
            return cast(Tensor, rules.sum(self, axis=axis, dtype=dtype, keepdims=keepdims))
        return self._called(np.sum, axis=axis, dtype=dtype, out=out, keepdims=keepdims, initial=initial, where=where)

    def prod(
        self,
        axis: Axis = None,
        dtype: npt.DTypeLike | None = None,
        out: Any = None,
        keepdims: bool = False,
        initial: Any = None,
        where: Any = True,
    ) -> Tensor:
        """Multiply over the given axes, or all."""
        if out is initial is None and where is True:
            return cast(Tensor, rules.prod(self, axis=axis, dtype=dtype, keepdims=keepdims))
        return self._called(np.prod, axis=axis, dtype=dtype, out=out, keepdims=keepdims, initial=initial, where=where)

    def mean(
        self,
        axis: Axis = None,
        dtype: npt.DTypeLike | None = None,
        out: Any = None,
        keepdims: bool = False,
        *,
        where: Any = True,
    ) -> Tensor:
        """Arithmetic mean over the given axes, or all."""
        if out is None and where is True:
            return cast(Tensor, rules.mean(self, axis=axis, dtype=dtype, keepdims=keepdims))
        return self._called(np.mean, axis=axis, dtype=dtype, out=out, keepdims=keepdims, where=where)

    def var(
        self,
        axis: Axis = None,
        dtype: npt.DTypeLike | None = None,
        out: Any = None,
        ddof: float = 0,
        keepdims: bool = False,
        *,
        where: Any = True,
        mean: Any = None,
    ) -> Tensor:
        """Variance over the given axes, or all; the divisor is the number of elements less `ddof`."""
        if out is mean is None and where is True:
            return cast(Tensor, rules.var(self, axis=axis, dtype=dtype, ddof=ddof, keepdims=keepdims))
        return self._called(
            np.var, axis=axis, dtype=dtype, out=out, ddof=ddof, keepdims=keepdims, where=where, mean=mean
        )

    def std(
        self,
        axis: Axis = None,
        dtype: npt.DTypeLike | None = None,
        out: Any = None,
        ddof: float = 0,
        keepdims: bool = False,
        *,
        where: Any = True,
        mean: Any = None,
    ) -> Tensor:
        """Standard deviation, the square root of `var`."""
        if out is mean is None and where is True:
            return cast(Tensor, rules.std(self, axis=axis, dtype=dtype, ddof=ddof, keepdims=keepdims))
        return self._called(
            np.std, axis=axis, dtype=dtype, out=out, ddof=ddof, keepdims=keepdims, where=where, mean=mean
        )

    def max(
        self, axis: Axis = None, out: Any = None, keepdims: bool = False, initial: Any = None, where: Any = True
    ) -> Tensor:
        """Largest element over the given axes, or all; ties share the gradient equally."""
        if out is initial is None and where is True:
            return cast(Tensor, rules.max(self, axis=axis, keepdims=keepdims))
        return self._called(np.max, axis=axis, out=out, keepdims=keepdims, initial=initial, where=where)

    def min(
        self, axis: Axis = None, out: Any = None, keepdims: bool = False, initial: Any = None, where: Any = True
    ) -> Tensor:
        """Smallest element over the given axes, or all; ties share the gradient equally."""
        if out is initial is None and where is True:
            return cast(Tensor, rules.min(self, axis=axis, keepdims=keepdims))
        return self._called(np.min, axis=axis, out=out, keepdims=keepdims, initial=initial, where=where)

    def _called(self, function: Any, *args: Any, **params: Any) -> Tensor:
        """A function of NumPy on this tensor, without the parameters that say nothing."""
        given = {name: value for name, value in params.items() if value is not None and value is not True}
        return cast(
            Tensor, dispatch.call(function, (self, *args), given | {"keepdims": bool(params["keepdims"])}, Tensor)
        )

    all = _method(np.all, "Whether all elements along the axes are true.")
    any = _method(np.any, "Whether any element along the axes is true.")
    argmax = _method(np.argmax, "Index of the first largest element along an axis, or in the flattened tensor.")
    argmin = _method(np.argmin, "Index of the first smallest element along an axis, or in the flattened tensor.")
    argsort = _method(np.argsort, "The indices that would sort along an axis.")
    argpartition = _method(
        np.argpartition, "The indices that would put smaller elements before the k-th, larger behind."
    )
    choose = _method(np.choose, "At each place, of the choice with the number that stands in this tensor.")
    clip = _method(np.clip, "Limit elements to an interval.")
    cumprod = _method(np.cumprod, "Running product along an axis.")
    cumsum = _method(np.cumsum, "Running sum along an axis.")
    diagonal = _method(np.diagonal, "The diagonals of two axes.")
    dot = _method(np.dot, "Product over the last axis and the last but one of the other.")
    nonzero = _method(np.nonzero, "The indices of the elements that are not zero, one tensor per axis.")
    ptp = _method(np.ptp, "The largest element less the smallest.")
    repeat = _method(np.repeat, "Repeat elements along an axis.")
    round = _method(np.round, "Round to a number of decimals.")
    searchsorted = _method(np.searchsorted, "Where values belong in this sorted tensor.")
    swapaxes = _method(np.swapaxes, "Exchange two axes.")
    take = _method(np.take, "Elements at indices along an axis.")
    trace = _method(np.trace, "Sum of the diagonal.")

    def fill(self, value: Any) -> None:
        """Give every element one value, in place."""
        self[...] = value

    def sort(self, axis: int = -1) -> None:
        """Sort along an axis, in place."""
        self[...] = np.sort(cast(Any, self), axis=axis)

    def reshape(self, *shape: Any, order: str = "C", copy: bool | None = None) -> Tensor:
        """The same elements in another shape; a view where NumPy can give one."""
        new = shape[0] if len(shape) == 1 else shape
        if order == "C" and copy is None:
            return cast(Tensor, rules.reshape(self, shape=new))
        return cast(Tensor, dispatch.call(np.reshape, (self, new), {"order": order, "copy": copy}, Tensor))

    def ravel(self, order: str = "C") -> Tensor:
        """The elements along one axis; a view where NumPy can give one."""
        if order == "C":
            return cast(Tensor, rules.reshape(self, shape=(-1,)))
        return cast(Tensor, dispatch.call(np.ravel, (self, order), {}, Tensor))

    def flatten(self, order: str = "C") -> Tensor:
        """A copy of the elements along one axis."""
        return self.ravel(order).clone()

    @property
    def flat(self) -> Flat:
        """The elements in C order, to iterate over, to index and to assign to."""
        return Flat(self)

    @flat.setter
    def flat(self, value: Any) -> None:
        Flat(self)[...] = value

    def transpose(self, *axes: Any) -> Tensor:
        """Permute the axes; reverse them when none are given."""
        if len(axes) == 1 and not isinstance(axes[0], SupportsIndex):
            axes = () if axes[0] is None else tuple(axes[0])
        if len(axes) not in (0, self.ndim):
            exchange = f"; to exchange two write swapaxes{axes}" if len(axes) == 2 else ""
            raise ValueError(f"transpose: give each of the {self.ndim} axes its place, not {axes}{exchange}")
        return cast(Tensor, rules.transpose(self, axes=axes or None))

    @property
    def T(self) -> Tensor:
        """The axes reversed."""
        return cast(Tensor, rules.transpose(self))

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged: every matrix of a stack transposed."""
        return cast(Tensor, dispatch.call(np.matrix_transpose, (self,), {}, Tensor))

    def compress(self, condition: Any, axis: int | None = None) -> Tensor:
        """Slices along an axis, or elements, where a condition holds."""
        return cast(Tensor, dispatch.call(np.compress, (condition, self, axis), {}, Tensor))

    def squeeze(self, axis: Axis = None) -> Tensor:
        """Drop axes of length one."""
        return cast(Tensor, rules.squeeze(self, axis=axis))

    def expand_dims(self, axis: int | tuple[int, ...]) -> Tensor:
        """Insert axes of length one."""
        return cast(Tensor, rules.expand_dims(self, axis=axis))

    def broadcast_to(self, shape: Sequence[int]) -> Tensor:
        """Repeat to a larger shape without copying."""
        return cast(Tensor, rules.broadcast_to(self, shape=tuple(shape)))

    def astype(self, dtype: npt.DTypeLike, copy: bool = True) -> Tensor:
        """A copy with elements of another dtype; with copy=False itself, where the dtype is the same."""
        if not copy and self.dtype == np.dtype(dtype):
            return self
        return cast(Tensor, rules.astype(self, dtype=_supported(np.dtype(dtype))))

    def conjugate(self) -> Tensor:
        """Complex conjugate; a real tensor is returned as it is."""
        return cast(Tensor, rules.conj(self)) if self._data.dtype.kind == "c" else self

    conj = conjugate

    @property
    def real(self) -> Tensor:
        """The real part; a real tensor is returned as it is."""
        return cast(Tensor, rules.real(self)) if self._data.dtype.kind == "c" else self

    @property
    def imag(self) -> Tensor:
        """The imaginary part."""
        return cast(Tensor, rules.imag(self))


class Flat:
    """The elements of a tensor in C order: what `flat` gives."""

    __slots__ = ("_tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def __len__(self) -> int:
        return self._tensor.size

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._tensor.ravel())

    def __getitem__(self, index: Any) -> Tensor:
        return self._tensor.ravel()[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        numbers = np.arange(self._tensor.size)[dispatch.plain(index)]
        self._tensor[np.unravel_index(numbers, self._tensor.shape)] = value


class HookHandle:
    """What `register_hook` returns: `remove()` takes the hook away again."""

    __slots__ = ("_hooks", "_key")
    _keys = itertools.count()

    def __init__(self, hooks: dict[int, Callable[[Any], Any]], hook: Callable[[Any], Any]) -> None:
        self._hooks, self._key = hooks, next(self._keys)
        hooks[self._key] = hook

    def remove(self) -> None:
        """Take the hook away; once is enough, more does no harm."""
        self._hooks.pop(self._key, None)


def tensor(
    data: Any, dtype: npt.DTypeLike | None = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """Make a tensor from a copy of `data`.

    Parameters
    ----------
    data : array_like
        A number, nested sequence, array or Tensor. Never shared, and without its history.
    dtype : dtype, optional
        Element type; default: as NumPy decides.
    device : {"cpu", "cuda"}, optional
        Where to put it. Default: tensors and arrays on a GPU stay there, other data go to the default
        device (see `device`).
    requires_grad : bool
        Record operations on it, for gradients.

    Returns
    -------
    Tensor

    Raises
    ------
    TypeError
        For elements that are not numbers, or `requires_grad` of integers and booleans.
    ValueError
        For a device that is not there.

    Examples
    --------
    >>> tensor([[1, 2], [3, 4]], dtype="float32", requires_grad=True)
    tensor([[1., 2.],
            [3., 4.]], dtype=float32, requires_grad=True)
    """
    array = data.data if isinstance(data, Traced) else data
    here = devices.of(array)
    try:
        if here in (None, "cpu"):
            try:
                array = np.array(array, dtype=dtype, copy=True, order="C")
            except tape.LostHistory:  # tracked tensors in a sequence
                with tape.no_grad():
                    array = np.array(array, dtype=dtype, copy=True, order="C")
        else:
            array = array.astype(array.dtype if dtype is None else dtype, order="C", copy=True)
        _supported(array.dtype)
    except Exception as error:
        _refuse(data, error)
        raise
    result = Tensor._wrap(devices.move(array, device or _home(here)))
    result.requires_grad = requires_grad
    return result


def asarray(
    data: Any, dtype: npt.DTypeLike | None = None, device: str | None = None, copy: bool | None = None
) -> Tensor:
    """Make a tensor that shares the memory of `data` where that is possible.

    Parameters
    ----------
    data : array_like
        A Tensor is returned as it is, history included; an array is wrapped; anything else is converted, sequences with
        Tensors in them with their histories.
    dtype : dtype, optional
        Element type; a copy is made if it differs.
    device : {"cpu", "cuda"}, optional
        Where to put it. Default: tensors and arrays on a GPU stay there, other data go to the default
        device (see `device`).
    copy : bool, optional
        True: always copy, history included; False: raise where a copy is needed.

    Returns
    -------
    Tensor

    Raises
    ------
    TypeError
        For elements that are not numbers.
    ValueError
        For a device that is not there, or a copy that is needed and forbidden.

    Examples
    --------
    >>> a = np.zeros(3)
    >>> asarray(a)[0] = 5
    >>> a
    array([5., 0., 0.])
    """
    if isinstance(data, Tensor):
        if device is not None and devices.known(device) != data.device:
            if copy is False:
                raise ValueError(f"asarray: {data.device} to {device} needs a copy, which copy=False forbids")
            return asarray(data, dtype).to(device)
        fits = dtype is None or data.dtype == np.dtype(dtype)
        if copy is False and not fits:
            raise ValueError(f"asarray: {data.dtype} to {np.dtype(dtype)} needs a copy, which copy=False forbids")
        return (data.clone() if copy else data) if fits else data.astype(cast(Any, dtype))
    here = devices.of(data)
    try:
        if here is not None and dtype is None:
            array = data.copy() if copy else data
        elif here in (None, "cpu"):
            try:
                array = np.asarray(data, dtype=dtype, copy=copy)
            except tape.LostHistory:  # tracked tensors in a sequence
                return asarray(tape.sequence(data), dtype, device, copy)
        else:
            array = data.astype(dtype, copy=bool(copy))
        _supported(array.dtype)
    except Exception as error:
        _refuse(data, error)
        raise
    target = device or _home(here)
    if copy is False and target != (here or "cpu"):
        raise ValueError(f"asarray: {here or 'cpu'} to {target} needs a copy, which copy=False forbids")
    return Tensor._wrap(devices.move(array, target))


def cotangent(out: Tensor, gradient: Any, caller: str) -> Tensor:
    """Check, and if left out make, the cotangent with which a backward sweep begins."""
    if out._node is None:
        raise RuntimeError(
            f"{caller}: the output of shape {out.shape} does not require a gradient: nothing it was computed from has "
            "requires_grad=True, or it was computed under no_grad()"
        )
    if gradient is None:
        if out.size != 1:
            raise RuntimeError(
                f"{caller}: the gradient may be left out only for a single element, and the output has shape "
                f"{out.shape}; reduce it, for example with .sum(), or pass its cotangent"
            )
        return Tensor._wrap(np.ones_like(out.data))
    given = asarray(gradient)
    if given.shape != out.shape:
        raise ValueError(f"{caller}: the cotangent must have the output's shape {out.shape}, not {given.shape}")
    return given


def _supported(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if not dispatch.numeric(dtype):
        raise TypeError(f"a tensor holds booleans, integers, floating or complex numbers, not {dtype}")
    return dtype


def _refuse(data: Any, error: Exception) -> None:
    """Raise for what is no array, naming the function that was called and its argument, and what to write instead."""
    function, argument = place(data)
    refuse_missing(function, argument, data)
    if isinstance(data, tuple) and any(isinstance(part, Tensor) for part in data):
        parts = ", ".join(f"Tensor {p.shape}" if isinstance(p, Tensor) else type(p).__name__ for p in data)
        raise TypeError(
            f"{function}: {argument} must be one array, not ({parts}): the function that made it returns several; take one "
            "of them, as in out, running = batch_norm(...)"
        ) from None
    if not isinstance(data, Traced) and getattr(data, "requires_grad", False) is True:
        raise TypeError(
            f"{function}: {argument} is a {type(data).__module__}.{type(data).__name__} that requires a gradient, whose "
            "history ends here: give x.detach(), or tensor(x.detach(), requires_grad=True) for one that begins here"
        ) from None
    if type(error) in (TypeError, ValueError):
        raise type(error)(f"{function}: {argument} is not an array of numbers: {error}") from None


class _Elsewhere:
    """In the place of a method that other libraries have: no attribute, but an error that tells what to write.

    A `__getattr__` would make every attribute of every tensor slower.
    """

    def __init__(self, name: str, advice: str) -> None:
        self.name, self.advice = name, advice

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        raise AttributeError(f"'Tensor' object has no attribute {self.name!r}; use {self.advice}", name=self.name)


for _name in ("backward", "max", "mean", "min", "prod", "squeeze", "std", "sum", "var"):
    setattr(Tensor, _name, border(Tensor.__dict__[_name]))

for _name, _advice in METHODS.items():
    if not hasattr(Tensor, _name):
        setattr(Tensor, _name, _Elsewhere(_name, _advice))


_API_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12", "2025.12")
_SCALARS = {kind for kind in np.sctypeDict.values() if issubclass(kind, (np.number, np.bool_))}
_OURS = frozenset({Tensor, bool, int, float, complex, list, tuple, *DEVICES} | _SCALARS)


def _overrides(x: Any) -> bool:
    """Whether an operand of a ufunc is of a class that has its own way with ufuncs."""
    if isinstance(x, (Tensor, np.generic, *DEVICES)):
        return False
    return getattr(type(x), "__array_ufunc__", None) is not None


def _stands_back(x: Any) -> bool:
    """Whether an operator leaves the operation to the class of this operand, as an array's operators would do."""
    kind = type(x)
    if isinstance(x, (Tensor, np.generic, *DEVICES)):
        return False
    if hasattr(kind, "__array_ufunc__"):  # None, or a way of its own
        return True
    return getattr(kind, "__array_priority__", 0.0) > 0 and not hasattr(kind, "__array__")


def _home(here: str | None) -> str:
    """Where data from `here` become a tensor: what is on a GPU stays there, the rest goes to the default device."""
    return devices.default() if here in (None, "cpu") else here


# The transpose of moving there is moving back.
_moved: tape.Op = tape.linear(
    "to",
    lambda x, target, source: devices.move(x, target),
    lambda g, target, source: _moved(g, target=source, source=target),
)


def _rebuild(data: Any, requires_grad: bool, grad: Tensor | None = None) -> Tensor:
    result = asarray(data)
    result.requires_grad, result.grad = requires_grad, grad
    return result
