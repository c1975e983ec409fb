"""The border to the user's program: calls that cannot be right are told there, and tracebacks of mistakes end there.

An error that a check of ours raises is about the line that called the library; the lines in between say nothing about it.
So where the library catches it on its way out, they are taken from its traceback. What no check raised is a fault of ours,
and stays as it is. The environment variable EAGERCONV_TRACEBACK=full keeps all lines.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Collection, Iterable
from opcode import opmap
from types import FunctionType, ModuleType, TracebackType
from typing import Any, TypeVar, cast

import numpy as np

from eagerconv.vocabulary import for_keyword

__all__ = [
    "answering", "around", "border", "explain", "outside", "place", "refuse_missing", "shorten", "unexpected",
    "without_numpy",
]  # fmt: skip

F = TypeVar("F", bound=Callable[..., Any])

PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
KERNELS = tuple(PACKAGE + folder + os.sep for folder in ("kernels_cpu", "kernels_gpu"))
RULES = PACKAGE + os.path.join("autograd", "rules") + os.sep
LIBRARIES = tuple(os.path.dirname(path) + os.sep for path in (os.__file__, os.path.dirname(np.__file__)))


KINDS = (TypeError, ValueError, LookupError, AttributeError, RuntimeError)
"""What mistakes are raised as. An ArithmeticError, say, tells of wrong results."""


# ----- Tracebacks -----


def shorten(error: Exception) -> None:
    """Take the library's lines, the caller's too, out of the traceback of a user's mistake; to be followed by `raise`."""
    if not _is_mistake(error) or os.environ.get("EAGERCONV_TRACEBACK") == "full":
        return
    error.eagerconv_mistake = True  # type: ignore[attr-defined]  # what is cut is not seen again farther out
    kept = [entry for entry in _entries(error) if not _file(entry).startswith(PACKAGE)]
    while kept and _of_library(kept[-1]):
        kept.pop()
    chain: TracebackType | None = None
    for entry in reversed(kept):
        entry.tb_next, chain = chain, entry
    error.__traceback__ = chain


def _is_mistake(error: Exception) -> bool:
    """Whether it was raised by a `raise` of ours outside of kernels, or by a function of the user's that we called."""
    if hasattr(error, "eagerconv_mistake"):
        return True
    entries = _entries(error)
    inner = next((n for n, entry in enumerate(reversed(entries)) if not _of_library(entry)), 0)
    last = entries[-1 - inner]
    if not _file(last).startswith(PACKAGE):
        return True
    raised = last.tb_frame.f_code.co_code[last.tb_lasti] == opmap["RAISE_VARARGS"]
    checked = raised and not inner and not _file(last).startswith(KERNELS) and isinstance(error, KINDS)
    return checked or isinstance(error, np.exceptions.AxisError)


def _of_library(entry: TracebackType) -> bool:
    """Whether it is of one that we stand on, or the program does."""
    return _file(entry).startswith(LIBRARIES) and not _file(entry).startswith(PACKAGE)


def _entries(error: Exception) -> list[TracebackType]:
    entries, entry = [], error.__traceback__
    while entry is not None:
        entries.append(entry)
        entry = entry.tb_next
    return entries


def _file(entry: TracebackType) -> str:
    return entry.tb_frame.f_code.co_filename


def without_numpy(error: Exception) -> None:
    """Take out of a traceback what lies below a row of the rule tables: NumPy, which has refused its operands.

    To be called where the row is, and followed by `raise`. Between the row and NumPy stand the row's one line, and perhaps
    what widens its operands; a longer function may be wrong itself, and stays.
    """
    own = [_file(entry) for entry in _entries(error)[1:] if not _of_library(entry)]
    plain = len(own) <= 2 and all(file.startswith(RULES) for file in own)
    if plain and os.environ.get("EAGERCONV_TRACEBACK") != "full":
        error.__traceback__ = None


def outside() -> int:
    """The `stacklevel` by which a warning of the function that asks points to the line of the user's program."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    return level


def place(value: Any) -> tuple[str, str]:
    """The public function that was called, and which of its arguments is `value`: "relu" and "x"."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _of_package(frame.f_back.f_code.co_filename):
        frame = frame.f_back
    names = [name for name, given in frame.f_locals.items() if given is value]
    return frame.f_code.co_name, names[0] if names else "an argument"


def _of_package(file: str) -> bool:
    return file.startswith(PACKAGE) and file != __file__


# ----- Keywords -----

_parameters: dict[str, tuple[str, ...]] = {}  # of functions that answer for all of their arguments


def unexpected(function: str, name: str, known: Collection[str] | None = None) -> TypeError:
    """The error of a keyword that is not among the `known` ones (by default of a function that is `answering`)."""
    advice = for_keyword(name, _parameters[function] if known is None else known)
    return TypeError(f"{function}() got an unexpected keyword argument {name!r}; {advice}")


class _Missing:
    def __repr__(self) -> str:
        return "<missing>"


MISSING = _Missing()
"""What stands for an argument that was left out, in a function that is `answering`."""


def refuse_missing(function: str, name: str, value: Any) -> None:
    """Raise for an argument that was left out."""
    if value is MISSING:
        raise TypeError(f"{function}() is missing the argument {name!r}") from None


def answering(function: F) -> F:
    """Let a function that takes `**unknown` answer for the arguments it demands, too, which arrive as MISSING.

    So that a call by the names of another library, `conv2d(input=x, weight=w)`, is told of those and not of `filters`, at
    no cost for others. The signature stays as it is written.
    """
    code, own = function.__code__, cast(FunctionType, function)
    _parameters[function.__name__] = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    own.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    given = own.__defaults__ or ()
    own.__defaults__ = (MISSING,) * (code.co_argcount - len(given)) + given
    return function


# ----- Functions that cannot answer themselves -----


def border(function: F) -> F:
    """The function with its mistakes told: unknown keywords by what to write instead, tracebacks by the user's lines."""
    name = function.__qualname__.removesuffix(".__init__").rpartition(">.")[2]
    takes_any = function.__code__.co_flags & inspect.CO_VARKEYWORDS

    @functools.wraps(function)
    def public(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            if isinstance(error, TypeError) and not takes_any:
                explain(error, name, function, args, kwargs)
            shorten(error)
            raise

    return cast(F, public)


def explain(error: TypeError, name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
    """Let what Python says of a call that does not fit the function's signature tell what to write instead."""
    try:
        parameters, text = inspect.signature(function).parameters, str(error)
    except ValueError:  # some of NumPy's functions have none
        return
    known = list(parameters)
    by_keyword = [key for key, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    wrong = next((key for key in kwargs if f"unexpected keyword argument {key!r}" in text), None)
    if wrong is not None:
        text = str(unexpected(name, wrong, [key for key in known if key != "self"]))
    elif (whole := _in_pieces(name, known, args)) is not None:
        text += whole
    elif "positional argument" in text and "given" in text:
        text += f"; what stands behind these is given by keyword: {', '.join(f'{key}=' for key in by_keyword)}" * bool(
            by_keyword
        )
    elif error.__traceback__ is not None and error.__traceback__.tb_next is not None:
        return  # from inside of the function
    error.args = (text,)
    error.eagerconv_mistake = True  # type: ignore[attr-defined]


_WHOLE = ("shape", "axes")  # arguments that other libraries take in pieces


def _in_pieces(name: str, known: list[str], args: tuple[Any, ...]) -> str | None:
    """What to write where a shape, axes or arrays, which are one argument, were given as several."""
    for whole in _WHOLE:
        if whole in known and len(pieces := args[known.index(whole) :]) > 1 and all(isinstance(n, int) for n in pieces):
            return f"; give the {whole} as one argument, {name}({'x, ' * known.index(whole)}{tuple(pieces)})"
    if known[:1] == ["arrays"] and len(args) > 1 and all(hasattr(x, "shape") for x in args):
        return f"; give the arrays as one argument, {name}([x, y])"
    return None


def around(module: ModuleType, names: Iterable[str]) -> None:
    """Put the border around functions with options, or a shape, and the classes of a module, by name.

    Those without options, such as `exp`, have no keywords to be mistaken in and short tracebacks, and are left alone: the
    border takes a tenth of a microsecond. Those that take any keyword, such as `conv2d`, answer themselves.
    """
    for name in names:
        value = getattr(module, name)
        if isinstance(value, FunctionType):
            home = sys.modules[value.__module__]
            there = getattr(home, value.__name__, None)
            if getattr(there, "__wrapped__", None) is value:
                setattr(module, name, there)
            elif _has_options(value):
                bordered = border(value)
                setattr(home, value.__name__, bordered)  # the same function for those who pickle it
                setattr(module, name, bordered)
        elif isinstance(value, type):
            made = value.__dict__.get("__init__")
            if isinstance(made, FunctionType) and _has_options(made):
                setattr(value, "__init__", border(made))  # noqa: B010


def _has_options(function: FunctionType) -> bool:
    code = function.__code__
    in_pieces = any(name in code.co_varnames[: code.co_argcount] for name in _WHOLE)
    optional = function.__defaults__ or function.__kwdefaults__ or in_pieces
    return bool(optional) and not code.co_flags & inspect.CO_VARKEYWORDS
