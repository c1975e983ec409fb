"""Keeps compiled kernels on disk for other processes: under which names, in a folder of whose, made by whom, for how long.

An object is machine code, and whoever can write it runs as the user who loads it. So the folder and every object must belong
to the user of this process (root accepts root's alone) and be writable by nobody else, and neither may be a symbolic link.
The folder is held open while it is used, and what is checked is what was opened: nobody can put another one in between.

Windows knows neither owners nor modes nor open folders in this sense, so nothing of this is checked there. The default
folder, in LOCALAPPDATA, is private by the access list that it inherits, and so is the user's temporary folder; a folder named
in EAGERCONV_CACHE_DIR is taken as it is, and whoever names one must see to it that no other user can write there.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import shlex
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import llvmlite
import numpy as np

from eagerconv.kernels_cpu.notices import say
from eagerconv.kernels_cpu.targets import host

HOUR, DAY = 3600.0, 86400.0
UNUSED = 90 * DAY
"""How long an object is kept that no process reads, in seconds."""

TOTAL = 256 << 20
"""How many bytes of objects are kept; those unread for longest go first."""

LOCKS = "locks"
"""An empty file of the folder: who compiles a kernel holds the byte of it that stands for the kernel."""

WAIT = 60.0
"""How long another process is left to compile a kernel, in seconds; it may have been stopped."""

# What this file has written, and nothing else: objects, and those that are not finished.
_OURS = re.compile(r"\w+-\w+-\w+-[0-9a-f]{32}\.o(?P<unfinished>\.[0-9a-f]{16}\.tmp)?")
_GUARDED = (
    hasattr(os, "geteuid")
    and {os.open, os.rename, os.unlink, os.utime} <= os.supports_dir_fd
    and os.scandir in os.supports_fd
)
_FORMULAS = "formulas.py"
_warned = False
_pruned = False


# ----- Names -----


def file_name(function: str, dtype: np.dtype[Any]) -> str:
    """One name for each kernel: identifiers hold neither of the separators, so no two can collide."""
    module, _, attribute = function.partition(":")
    if not (module.isidentifier() and attribute.isidentifier()):
        raise ValueError(f"a kernel is named 'module:function', both identifiers, not {function!r}")
    return f"{module}-{attribute}-{dtype.name}-{_stamp(module)[:32]}.o"


@cache
def _stamp(module: str) -> str:
    """Hash of all that shapes a module's machine code: its sources, the compilers' versions, the host's features."""
    digest = hashlib.sha256()
    for name, text in sorted((_sources(f"native.{module}") | _sources("compiler")).items()):
        digest.update(name.encode() + b"\0" + text)
    versions = (sys.version, np.__version__, llvmlite.__version__, _numba_version(), platform.machine(), *host())
    digest.update(repr(versions).encode())
    return digest.hexdigest()


def _sources(module: str) -> dict[str, bytes]:
    """The text of a module of this package and of all modules of this package that it imports, or they do; formulas too."""
    found: dict[str, bytes] = {}
    todo = {module}
    while todo:
        name = todo.pop()
        found[name] = text = _source(name)
        todo |= {part for part in _imports(text) if part not in found}
    return found


@cache
def _source(module: str) -> bytes:
    here = Path(__file__).parent
    path = here.parent / module if module == _FORMULAS else here.joinpath(*module.split("."))
    return path.with_suffix(".py").read_bytes()


@cache
def _imports(text: bytes) -> frozenset[str]:
    """The modules of this package that a source imports, wherever in it: `from <package>.a import x`, or `import a`."""
    package = re.escape(__package__.encode())
    inside = re.findall(rb"^ *from " + package + rb"\.([\w.]+) import ", text, re.MULTILINE)
    itself = re.findall(rb"^ *from " + package + rb" import (\([^)]*\)|.*)", text, re.MULTILINE)
    named = [name for names in itself for name in re.findall(rb"(?<!as )\b(?!as\b)\w+", names)]
    shared = [_FORMULAS] if re.search(rb"^from eagerconv\.formulas import ", text, re.MULTILINE) else []
    return frozenset([*(name.decode() for name in (*inside, *named)), *shared])


def _numba_version() -> str:
    from importlib.metadata import version  # not `import numba`, which takes longer than everything else together

    return version("numba")


# ----- The folder -----


class _NotPrivate(PermissionError):
    """Somebody else may have written what this process would run."""


class _Folder(NamedTuple):
    """The folder of objects: an open one, or on Windows, where `handle` is None, its path."""

    path: Path
    handle: int | None

    def at(self, name: str) -> str:
        return str(self.path / name) if self.handle is None else name

    def open(self, name: str, mode: str) -> Any:
        """A file of the folder. Links are refused, and a named pipe does not wait for its other end."""
        more = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        return open(self.at(name), mode, opener=lambda at, flags: os.open(at, flags | more, 0o600, dir_fd=self.handle))

    def replace(self, old: str, new: str) -> None:
        os.replace(self.at(old), self.at(new), src_dir_fd=self.handle, dst_dir_fd=self.handle)

    def touch(self, name: str) -> None:
        with suppress(OSError):
            os.utime(self.at(name), dir_fd=self.handle)

    def delete(self, name: str) -> None:
        with suppress(OSError):  # another process was quicker, or still reads it
            os.unlink(self.at(name), dir_fd=self.handle)

    def ours(self) -> Iterator[tuple[re.Match[str], os.stat_result]]:
        """The files that this module wrote."""
        with os.scandir(self.path if self.handle is None else self.handle) as entries:
            for entry in entries:
                with suppress(OSError):  # another process has deleted it
                    if (name := _OURS.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False):
                        yield name, entry.stat(follow_symlinks=False)


@cache
def directory() -> Path | None:
    """The folder of compiled kernels: EAGERCONV_CACHE_DIR, else the user's cache, else one in the temporary folder.

    One that cannot be entered or written is passed over. None where none is left, or where one is met that is not private: then
    every process compiles for itself.
    """
    for find in (_chosen, _users, _temporary):
        try:
            if (folder := find()) is None:
                continue
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _opened(folder):
                if os.access(folder, os.W_OK | os.X_OK):
                    return folder
        except _NotPrivate:
            return None
        except (OSError, RuntimeError):  # RuntimeError: there is no home folder to expand
            continue
    return None


def _chosen() -> Path | None:
    chosen = os.environ.get("EAGERCONV_CACHE_DIR")
    return Path(chosen).absolute() if chosen else None  # absolute: the program may go to another folder


def _users() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return Path(base or "~/.cache").expanduser().absolute() / "eagerconv"


def _temporary() -> Path:
    user = os.geteuid() if _GUARDED else 0
    return Path(tempfile.gettempdir()).absolute() / f"eagerconv-{user}"


@contextmanager
def _opened(path: Path | None) -> Iterator[_Folder]:
    """The folder, open, if nobody else can write there."""
    if path is None:
        raise FileNotFoundError("there is no folder of compiled kernels")
    if not _GUARDED:
        yield _Folder(path, None)
        return
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        if path.is_symlink():
            _refuse(path, "is a symbolic link")
        raise
    try:
        status = os.fstat(handle)
        if not _own(status):
            _refuse(path, f"belongs to user {status.st_uid}, not to {os.geteuid()}")
        if _shared(status):
            mends = f"`chmod go-w {shlex.quote(str(path))}` mends it, or "
            _refuse(path, f"can be written by others (mode {stat.S_IMODE(status.st_mode):o})", mends)
        yield _Folder(path, handle)
    finally:
        os.close(handle)


def _own(status: os.stat_result) -> bool:
    return not _GUARDED or status.st_uid == os.geteuid()


def _shared(status: os.stat_result) -> bool:
    return _GUARDED and bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _refuse(path: Path, fault: str, mends: str = "") -> NoReturn:
    """Tell the user, once, why kernels are not kept, and go without."""
    global _warned
    if not _warned:
        _warned = True
        say(f"kernels are compiled anew in every process, as a kernel is code and the folder {path} {fault}; "
            f"{mends}name one that only you can write in EAGERCONV_CACHE_DIR")  # fmt: skip
    raise _NotPrivate(f"{path} {fault}")


# ----- Objects -----

# Each begins with its checksum. This is against damage, as a broken object could crash the process; against other users, who
# can compute it too, it is the owner and the mode that count.


def read_object(name: str) -> bytes | None:
    """The object of this name, or None if it is absent, not what was written, or not surely written by this user."""
    try:
        with _opened(directory()) as folder, folder.open(name, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or not _own(status) or _shared(status):
                return None
            data: bytes = file.read()
            if time.time() - status.st_mtime > DAY:
                folder.touch(name)  # when it was last used, to the day: not every system keeps the time of access
    except OSError:
        return None
    digest, native_object = data[:32], data[32:]
    return native_object if hashlib.sha256(native_object).digest() == digest else None


def write_object(name: str, native_object: bytes) -> None:
    """Never let another process see half an object; a full or vanished disk only costs a later compilation."""
    unfinished = f"{name}.{secrets.token_hex(8)}.tmp"
    with suppress(OSError), _opened(directory()) as folder:
        try:
            with folder.open(unfinished, "xb") as file:
                file.write(hashlib.sha256(native_object).digest() + native_object)
            folder.replace(unfinished, name)
        except BaseException:
            folder.delete(unfinished)
            raise
        _prune(folder)


@contextmanager
def turn(name: str) -> Iterator[None]:
    """Let one process at a time make the object of this name: who enters looks first whether another has made it by now.

    The lock is one of POSIX: it goes with its process, however that ends, and a forked child has no part in it. Where there is
    none to be had, as on Windows or some network disks, each process compiles for itself.
    """
    with ExitStack() as stack:
        with suppress(OSError, ImportError):
            folder = stack.enter_context(_opened(directory()))
            file = stack.enter_context(folder.open(LOCKS, "ab"))
            _wait_for(file, int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) >> 1)
        yield


def _wait_for(file: Any, byte: int) -> None:
    import fcntl  # Windows has none

    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        with suppress(BlockingIOError, PermissionError):  # which of them: POSIX leaves it to the system
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            return
        time.sleep(0.02)


def _prune(folder: _Folder) -> None:
    """Delete what nobody has used for long, what is too much, and what killed processes left: once, if this one has written."""
    global _pruned
    if _pruned:
        return
    _pruned = True
    now, total = time.time(), 0
    for name, status in sorted(folder.ours(), key=lambda found: found[1].st_mtime, reverse=True):
        age = now - status.st_mtime
        if name["unfinished"]:
            stale = age > HOUR
        else:
            total += status.st_size
            stale = age > UNUSED or total > TOTAL
        if stale:
            folder.delete(name.string)
