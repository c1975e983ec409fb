"""Settings that hold inside a `with` block: each thread and asyncio task has its own, and blocks may end in any order.

Blocks of one task are nested, but those of generators overlap: the one entered first may end first. Restoring "what was
before" would then switch off what still holds, or leave on what ended. So a setting is the list of the blocks that hold, each
with the change that it makes to what holds outside of it, and a block that ends takes itself out of the list.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any, Generic, ParamSpec, Self, TypeVar

__all__ = ["Block", "Setting"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def refuse_operand(name: str, given: tuple[Any, ...]) -> None:
    """Raise where a block without arguments was given some: the function that it decorates without parentheses, say."""
    if given:
        raise TypeError(
            f"{name} takes no argument, not {given[0]!r}; to decorate a function write @{name}(), with parentheses"
        )


class Frame(Generic[T]):
    """One block that holds, the value inside of it, and the frame of the block outside of it."""

    __slots__ = ("block", "change", "outer", "value")

    def __init__(self, block: object, change: Callable[[T], T], outer: Frame[T] | None, value: T) -> None:
        self.block, self.change, self.outer, self.value = block, change, outer, value


class Setting(Generic[T]):
    """A value that blocks change for themselves; `frame.get().value` is the fastest way to it."""

    def __init__(self, name: str, value: T) -> None:
        outside: Frame[T] = Frame(None, lambda outer: outer, None, value)
        self.frame: ContextVar[Frame[T]] = ContextVar(name, default=outside)  # nobody changes a frame

    def get(self) -> T:
        """The value that holds here."""
        return self.frame.get().value

    def enter(self, block: object, change: Callable[[T], T]) -> None:
        """Let a block hold; it may be entered again inside itself."""
        outer = self.frame.get()
        self.frame.set(Frame(block, change, outer, change(outer.value)))

    def leave(self, block: object) -> None:
        """Take the innermost frame of a block out; if it was entered in another task, it holds there and not here."""
        frame = self.frame.get()
        if frame.block is block and frame.outer is not None:  # nearly always
            self.frame.set(frame.outer)
        else:
            self.frame.set(_without(frame, block))

    def inside(self, change: Callable[[T], T]) -> Block:
        """A block in which the setting is changed."""
        return Block(self, change)


def _without(frame: Frame[T], block: object) -> Frame[T]:
    """The frames without the innermost of a block; those above it are made again, as they hold inside of it no more."""
    if frame.outer is None or frame.block is block:
        return frame.outer or frame
    outer = _without(frame.outer, block)
    return frame if outer is frame.outer else Frame(frame.block, frame.change, outer, frame.change(outer.value))


class Block:
    """Changes a setting inside a `with` block, or inside a decorated function, generator or coroutine."""

    __slots__ = ("_change", "_setting")

    def __init__(self, setting: Setting[Any], change: Callable[[Any], Any]) -> None:
        self._setting = setting
        self._change = change

    def __enter__(self) -> Self:
        self._setting.enter(self, self._change)
        return self

    def __exit__(self, *exc: object) -> None:
        self._setting.leave(self)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """The function with its body in the block: that of a generator or coroutine runs later, and piece by piece."""
        if inspect.isasyncgenfunction(fn):
            raise TypeError(
                f"{fn.__name__} is an asynchronous generator, which cannot be decorated; put a `with` into it"
            )
        wrapped: Any
        if inspect.iscoroutinefunction(fn):

            @functools.wraps(fn)
            async def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self:
                    return await fn(*args, **kwargs)

        elif inspect.isgeneratorfunction(fn):

            @functools.wraps(fn)
            def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
                return (yield from self._steps(fn(*args, **kwargs)))

        else:

            @functools.wraps(fn)
            def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self:
                    return fn(*args, **kwargs)

        return wrapped  # type: ignore[no-any-return]

    def _steps(self, generator: Any) -> Generator[Any, Any, Any]:
        """What a generator yields, each step of it taken in the block, and those of its caller not."""
        step, sent = generator.send, None
        while True:
            with self:
                try:
                    value = step(sent)
                except StopIteration as end:
                    return end.value
            try:
                step, sent = generator.send, (yield value)
            except GeneratorExit:
                with self:
                    generator.close()
                raise
            except BaseException as error:
                step, sent = generator.throw, error
