"""The compiled kernels on disk: their names, whom they are taken from, damage, failures to write, and how long they stay."""

from __future__ import annotations

import ast
import contextlib
import errno
import functools
import itertools
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from processes import script
from test_kernels import TINY

import eagerconv as ec
from eagerconv.kernels_cpu import cache

pwd = pytest.importorskip("pwd", reason="owners and modes of files, which Windows does not have")
NAME = f"module-function-float32-{'0' * 32}.o"
SOMEBODY = 4242

# ----- Names -----


def test_a_second_process_compiles_nothing_and_a_serial_one_never_imports_numba(tmp_path):
    code = TINY + "import sys; print('numba' in sys.modules)"
    environment = {"EAGERCONV_CACHE_DIR": str(tmp_path), "NUMBA_NUM_THREADS": "1"}
    assert script(code, **environment) == ["1", "True"]
    assert script(code, **environment) == ["0", "False"]


def test_the_cache_key_holds_versions_and_processor(monkeypatch):
    stamps = {cache._stamp("direct")}
    for name, value in (("host", lambda: ("other", "+features")), ("_numba_version", lambda: "0.0")):
        with monkeypatch.context() as patch:
            patch.setattr(cache, name, value)
            stamps.add(cache._stamp.__wrapped__("direct"))
    assert len(stamps) == 3


NATIVE = sorted(path.stem for path in Path(cache.__file__).with_name("native").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize(
    "changed", ["blocks", "table", "cooktoom", "targets", "compiler", *(f"native.{name}" for name in NATIVE)]
)
def test_a_changed_source_invalidates_the_kernels_made_of_it_alone(changed, monkeypatch):
    before = {module: cache._stamp.__wrapped__(module) for module in NATIVE}
    source = cache._source.__wrapped__
    monkeypatch.setattr(cache, "_source", lambda name: source(name) + b"#" * (name == changed))
    after = {module: cache._stamp.__wrapped__(module) for module in NATIVE}
    stale = {module for module in NATIVE if before[module] != after[module]}
    assert stale == {module for module in NATIVE if changed in imported(f"native.{module}") | imported("compiler")}


@functools.cache
def imported(module):
    """The modules of kernels_cpu that one of them imports, itself and through others, as Python's parser sees them."""
    tree = ast.parse(Path(cache.__file__).parent.joinpath(*module.split(".")).with_suffix(".py").read_text())
    found = {module}
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Import) or not any("kernels_cpu" in name.name for name in node.names)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("eagerconv.kernels_cpu"):
            inside = node.module.removeprefix("eagerconv.kernels_cpu").removeprefix(".")
            for name in [inside] if inside else [name.name for name in node.names]:
                found |= imported(name)
    return found


def test_kernel_sources_know_nothing_of_the_plans():
    shared = {"blocks", "cooktoom", "table", "targets"}
    for module in NATIVE:
        assert {name for name in imported(f"native.{module}") if not name.startswith("native.")} <= shared


def test_no_two_kernels_can_share_a_file(monkeypatch):
    monkeypatch.setattr(cache, "_stamp", lambda module: "0" * 64)
    names = ["a", "b", "ab", "a_b", "b_a", "_a", "a_", "a__b", "float32"]
    kernels = list(itertools.product(names, names, ["int8", "int16", "float32"]))
    files = {cache.file_name(f"{module}:{name}", np.dtype(dtype)) for module, name, dtype in kernels}
    assert len(files) == len(kernels)
    for name in ("a", "a-b:a", "a:b:a", "a:b-a", ":a", "a:"):
        with pytest.raises(ValueError, match="'module:function'"):
            cache.file_name(name, np.dtype("int8"))


def test_a_changed_emitter_and_a_missing_folder_cost_a_compilation(tmp_path):
    package = tmp_path / "eagerconv"
    shutil.copytree(Path(ec.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {"EAGERCONV_CACHE_DIR": str(tmp_path / "not" / "there")}
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{TINY}"
    assert script(code, **environment) == ["1"]
    assert script(code, **environment) == ["0"]
    emitters = package / "kernels_cpu" / "native" / "vector.py"
    emitters.write_text(emitters.read_text() + "\n# changed\n")
    assert script(code, **environment) == ["1"]


# ----- Whose folder, whose object -----


def as_in_a_new_process(monkeypatch):
    """Forget what a process remembers of its folder."""
    monkeypatch.setattr(cache, "directory", functools.cache(cache.directory.__wrapped__))
    monkeypatch.setattr(cache, "_warned", False)
    monkeypatch.setattr(cache, "_pruned", False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of kernels with one object in it, as a new process finds it."""
    monkeypatch.setenv("EAGERCONV_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.delenv("EAGERCONV_QUIET", raising=False)
    as_in_a_new_process(monkeypatch)
    cache.write_object(NAME, b"code")
    assert stat.S_IMODE((tmp_path / "kernels" / NAME).stat().st_mode) == 0o600
    as_in_a_new_process(monkeypatch)
    return tmp_path / "kernels"


def give_away(path, monkeypatch):
    """Let a file or folder belong to somebody else; who is not root can only make it look so."""
    if os.geteuid() == 0:
        os.chown(path, SOMEBODY, -1)
        return
    given, ask = path.stat().st_ino, os.fstat

    def fstat(handle):
        status = ask(handle)
        return os.stat_result([*status[:4], SOMEBODY, *status[5:10]]) if status.st_ino == given else status

    monkeypatch.setattr(os, "fstat", fstat)


def put_behind_a_link(path, monkeypatch):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


FOREIGN = {
    "of somebody else": (give_away, rf"belongs to user {SOMEBODY}, not to \d+; name one"),
    "writable by the group": (lambda path, _: path.chmod(0o770), r"\(mode 770\); `chmod go-w \S+` mends it"),
    "writable by all": (lambda path, _: path.chmod(0o707), r"\(mode 707\); `chmod go-w \S+` mends it"),
    "behind a link": (put_behind_a_link, "is a symbolic link; name one"),
}


@pytest.mark.parametrize("fault", FOREIGN)
def test_a_folder_that_is_not_ours_alone_is_left_alone_and_one_line_says_why(fault, folder, monkeypatch, capsys):
    spoil, text = FOREIGN[fault]
    spoil(folder, monkeypatch)
    assert cache.read_object(NAME) is None
    cache.write_object(NAME.replace("module", "other"), b"code")
    assert cache.directory() is None
    assert [path.name for path in folder.iterdir()] == [NAME]
    line, nothing = capsys.readouterr().err.split("\n")
    assert line.startswith("eagerconv: ")
    assert str(folder) in line
    assert re.search(text, line)
    assert nothing == ""


def test_a_folder_that_is_mended_serves_again_but_not_what_others_wrote(folder, monkeypatch):
    folder.chmod(0o777)
    planted = NAME.replace("module", "planted")
    shutil.copy(folder / NAME, folder / planted)
    give_away(folder / planted, monkeypatch)
    assert cache.read_object(NAME) is None
    folder.chmod(0o755)
    as_in_a_new_process(monkeypatch)
    assert cache.read_object(NAME) == b"code"
    assert cache.read_object(planted) is None


def test_a_folder_that_others_may_write_from_now_on_is_not_used_again(folder, capsys):
    assert cache.read_object(NAME) == b"code"
    folder.chmod(0o777)
    assert [cache.read_object(NAME) for _ in range(3)] == [None] * 3
    assert capsys.readouterr().err.count("chmod go-w") == 1


def test_root_takes_nothing_from_the_home_of_another_user(folder, monkeypatch):
    give_away(folder, monkeypatch)
    if os.geteuid():
        monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert cache.read_object(NAME) is None


@pytest.mark.parametrize("fault", FOREIGN)
def test_an_object_that_is_not_ours_alone_is_not_read_and_is_replaced(fault, folder, monkeypatch, capsys):
    FOREIGN[fault][0](folder / NAME, monkeypatch)
    assert cache.read_object(NAME) is None
    cache.write_object(NAME, b"new")
    assert cache.read_object(NAME) == b"new"
    assert capsys.readouterr().err == ""


def test_a_folder_put_in_the_place_of_the_checked_one_is_neither_read_nor_written(folder, monkeypatch):
    checked = folder.with_name("checked")
    other = folder.with_name("other")
    shutil.copytree(folder, other)
    (other / NAME).write_bytes((other / NAME).read_bytes()[:-4] + b"evil")
    ask = os.fstat

    def swap(handle):
        status = ask(handle)
        if stat.S_ISDIR(status.st_mode) and not checked.exists():
            folder.rename(checked)
            other.rename(folder)
        return status

    cache.directory()
    monkeypatch.setattr(os, "fstat", swap)
    assert cache.read_object(NAME) == b"code"
    folder.rename(other)
    checked.rename(folder)
    cache.write_object(NAME.replace("module", "new"), b"code")
    assert len(list(checked.iterdir())) == 2
    assert len(list(folder.iterdir())) == 1


def test_a_warning_can_be_silenced_and_never_fails(folder, monkeypatch, capsys):
    folder.chmod(0o777)
    with monkeypatch.context() as patch:
        patch.setenv("EAGERCONV_QUIET", "1")
        assert cache.read_object(NAME) is None
    assert capsys.readouterr().err == ""
    as_in_a_new_process(monkeypatch)
    with open(os.devnull, "w") as closed:
        pass
    monkeypatch.setattr(sys, "stderr", closed)
    assert cache.read_object(NAME) is None


# ----- Where there is no folder, and what is no file -----


def homeless(monkeypatch):
    """Take away the home, as for a container's user whom the system does not know."""

    def unknown(user):
        raise KeyError(f"getpwuid(): uid not found: {user}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", "EAGERCONV_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    as_in_a_new_process(monkeypatch)


def no_temporary_folder():
    raise FileNotFoundError("No usable temporary directory found")


def test_without_a_home_the_chosen_folder_serves_or_one_in_the_temporary_folder(tmp_path, monkeypatch):
    homeless(monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert cache.directory() == tmp_path / f"eagerconv-{os.geteuid()}"
    assert stat.S_IMODE(cache.directory().stat().st_mode) == 0o700
    monkeypatch.setattr(tempfile, "gettempdir", no_temporary_folder)
    monkeypatch.setenv("EAGERCONV_CACHE_DIR", str(tmp_path / "chosen"))
    as_in_a_new_process(monkeypatch)
    assert cache.directory() == tmp_path / "chosen"


def test_a_home_that_cannot_be_written_is_passed_over(tmp_path, monkeypatch):
    homeless(monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    assert cache.directory() == tmp_path / f"eagerconv-{os.geteuid()}"


def test_another_users_folder_in_the_temporary_one_is_not_used(tmp_path, monkeypatch, capsys):
    homeless(monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / f"eagerconv-{os.geteuid()}").mkdir(mode=0o755)
    give_away(tmp_path / f"eagerconv-{os.geteuid()}", monkeypatch)
    assert cache.directory() is None
    assert f"belongs to user {SOMEBODY}" in capsys.readouterr().err


def test_a_relative_folder_stays_where_it_was_when_the_program_goes_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("EAGERCONV_CACHE_DIR", "kernels")
    monkeypatch.chdir(tmp_path)
    as_in_a_new_process(monkeypatch)
    cache.write_object(NAME, b"code")
    monkeypatch.chdir("/")
    assert cache.read_object(NAME) == b"code"
    assert cache.directory() == tmp_path / "kernels"


@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_convolutions_need_neither_a_home_nor_a_folder_for_temporary_files(layer, tmp_path, monkeypatch):
    code = """
    import os, pwd, tempfile
    os.environ.pop("HOME", None)
    def unknown(*_):
        raise KeyError("uid not found")
    def none():
        raise FileNotFoundError("No usable temporary directory found")
    pwd.getpwuid, tempfile.gettempdir = unknown, none
    """
    code = textwrap.dedent(code) + TINY + "from eagerconv.kernels_cpu import threads; threads.team()"
    unset = dict.fromkeys(("XDG_CACHE_HOME", "EAGERCONV_CACHE_DIR"), "")
    monkeypatch.chdir(tmp_path)
    assert script(code, NUMBA_THREADING_LAYER=layer, **unset) == ["1"]
    assert list(tmp_path.iterdir()) == []


def put_a_pipe(path):
    os.mkfifo(path)


def put_a_pipe_that_has_a_writer(path):
    os.mkfifo(path)
    return open(os.open(path, os.O_RDWR), "wb", buffering=0)


def put_a_socket(path):
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path.name)  # from within its folder, as a socket's path may not be long


def soon(function, *arguments):
    """What a function returns, which must not wait for ever."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function(*arguments)), daemon=True)
    thread.start()
    thread.join(10)
    assert results, f"{function.__name__} hangs"
    return results[0]


@pytest.mark.parametrize("put", [put_a_pipe, put_a_pipe_that_has_a_writer, put_a_socket, Path.mkdir])
def test_what_is_no_file_is_not_waited_for_and_is_replaced_if_it_can_be(put, folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / NAME).unlink()
    writer = put(folder / NAME)
    assert soon(cache.read_object, NAME) is None
    soon(cache.write_object, NAME, b"new")
    in_the_way = (folder / NAME).is_dir()
    assert soon(cache.read_object, NAME) == (None if in_the_way else b"new")
    assert [path.name for path in folder.iterdir()] == [NAME]
    if writer:
        writer.close()


# ----- Failures to write, and old objects -----


def test_a_damaged_object_is_not_read_and_is_replaced(folder):
    whole = (folder / NAME).read_bytes()
    damaged = [whole[:n] for n in range(len(whole))]
    damaged += [whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :] for n in range(len(whole))]
    for data in damaged:
        (folder / NAME).write_bytes(data)
        assert not cache.read_object(NAME)
    cache.write_object(NAME, b"code")
    assert cache.read_object(NAME) == b"code"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("step", ["replace", "open"])
def test_a_write_that_fails_leaves_nothing_behind(step, error, folder, monkeypatch):
    work = getattr(cache._Folder, step)

    def fail(*arguments):
        if step == "open":
            work(*arguments).close()  # the file is there, and cannot be written
        raise error

    monkeypatch.setattr(cache._Folder, step, fail)
    if isinstance(error, OSError):
        cache.write_object(NAME, b"new")
    else:
        with pytest.raises(type(error)):
            cache.write_object(NAME, b"new")
    monkeypatch.undo()
    assert [path.name for path in folder.iterdir()] == [NAME]
    assert (folder / NAME).read_bytes().endswith(b"code")


def used(path, days):
    os.utime(path, (time.time() - days * cache.DAY,) * 2)


def add(folder, module, days=0.0, nbytes=100, ending=""):
    path = folder / (NAME.replace("module", module) + ending)
    path.write_bytes(b"\0" * nbytes)
    used(path, days)
    return path


def test_a_process_that_writes_deletes_what_was_not_used_for_long(folder):
    old, recent = add(folder, "old", days=91), add(folder, "recent", days=89)
    killed, busy = add(folder, "killed", 0.1, ending=f".{'0' * 16}.tmp"), add(folder, "busy", ending=f".{'1' * 16}.tmp")
    others = [folder / name for name in ("tmp1234", "notes.txt", "a-b-c.o", f"{NAME}.bak")]
    for other in others:
        other.write_text("somebody's")
        used(other, 1000)
    cache.write_object(NAME, b"code")
    assert [path.exists() for path in (old, recent, killed, busy, *others)] == [False, True, False, True, *[True] * 4]


def test_a_process_that_writes_deletes_the_least_recent_beyond_the_total(folder, monkeypatch):
    monkeypatch.setattr(cache, "TOTAL", 1000)
    kept = [add(folder, f"a{days}", days, 300) for days in (1, 3, 2, 5, 4)]
    cache.write_object(NAME, b"code")
    assert [path.exists() for path in kept] == [True, True, True, False, False]


def test_a_process_that_only_reads_deletes_nothing_and_one_that_writes_looks_once(folder):
    old = add(folder, "old", days=91)
    assert cache.read_object(NAME) == b"code"
    assert old.exists()
    cache.write_object(NAME, b"code")
    assert not old.exists()
    old = add(folder, "old", days=91)
    cache.write_object(NAME, b"code")
    assert old.exists()


def test_reading_an_object_keeps_it(folder, monkeypatch):
    used(folder / NAME, 89)
    assert cache.read_object(NAME) == b"code"
    assert time.time() - (folder / NAME).stat().st_mtime < 60
    used(folder / NAME, 0.5)
    before = (folder / NAME).stat().st_mtime
    assert cache.read_object(NAME) == b"code"  # to the day
    assert (folder / NAME).stat().st_mtime == before
    used(folder / NAME, 89)
    monkeypatch.setattr(os, "utime", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EROFS, "read-only")))
    assert cache.read_object(NAME) == b"code"


def test_two_processes_may_delete_at_once(folder, monkeypatch):
    old = [add(folder, f"a{i}", days=91) for i in range(20)]
    list_entries, list_ours = os.scandir, cache._Folder.ours

    @contextlib.contextmanager
    def entries(where):
        with list_entries(where) as found:
            listed = list(found)
            for path in old[::4]:  # the other one has been here
                path.unlink()
            yield listed

    def ours(self):
        listed = list(list_ours(self))
        for path in old[1::4]:  # and here
            path.unlink()
        return iter(listed)

    monkeypatch.setattr(os, "scandir", entries)
    monkeypatch.setattr(cache._Folder, "ours", ours)
    cache.write_object(NAME, b"new")
    monkeypatch.undo()
    assert [path.name for path in folder.iterdir()] == [NAME]


def test_where_folders_cannot_be_held_open_everything_goes_by_the_path(folder, monkeypatch):
    monkeypatch.setattr(cache, "_GUARDED", False)  # as on Windows
    monkeypatch.delattr(os, "geteuid")
    old, other = add(folder, "old", days=91), NAME.replace("module", "other")
    used(folder / NAME, 2)
    assert cache.read_object(NAME) == b"code"
    assert time.time() - (folder / NAME).stat().st_mtime < 60
    cache.write_object(other, b"new")
    assert cache.read_object(other) == b"new"
    assert not old.exists()
    (folder / other).unlink()
    (folder / other).mkdir()
    cache.write_object(other, b"new")
    assert cache.read_object(other) is None
    assert sorted(path.name for path in folder.iterdir()) == [NAME, other]


# ----- Several processes -----


def test_processes_that_need_a_kernel_at_once_compile_it_once(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(TINY)]
    environment = {**os.environ, "EAGERCONV_CACHE_DIR": str(tmp_path), "NUMBA_NUM_THREADS": "1"}
    team = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sorted(process.communicate(timeout=300)[0] for process in team) == ["0\n", "0\n", "1\n"]


@contextlib.contextmanager
def other_process(code):
    """One whose turn it is, from when it says so; it stays for as long as the code lets it."""
    code = f"import os, sys\nfrom eagerconv.kernels_cpu import cache\nwith cache.turn({NAME!r}):\n {code}"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"mine\n"
        yield
        process.kill()


def waiting():
    """The seconds until it is our turn."""
    start = time.monotonic()
    with cache.turn(NAME):
        return time.monotonic() - start


def test_who_dies_leaves_the_turn_to_others(folder):
    with other_process("print('mine', flush=True); os.kill(os.getpid(), 9)"):
        assert waiting() < 10


def test_a_forked_child_that_stays_keeps_nobody_waiting(folder):
    with other_process("os.fork() and (print('mine', flush=True), os._exit(0)); sys.stdin.read(); os._exit(0)"):
        assert waiting() < 10


def test_who_stands_still_is_not_waited_for_for_ever_nor_for_another_kernel(folder, monkeypatch):
    with other_process("print('mine', flush=True); sys.stdin.read()"):
        monkeypatch.setattr(cache, "WAIT", 0.3)
        assert waiting() >= 0.3
        monkeypatch.setattr(cache, "WAIT", 60)
        with cache.turn(NAME.replace("module", "other")):
            pass


@pytest.mark.parametrize("fault", ["no fcntl", "no locks", "no folder", "a pipe"])
def test_where_there_is_no_lock_nobody_waits(fault, folder, monkeypatch):
    if fault == "no fcntl":  # as on Windows
        monkeypatch.setitem(sys.modules, "fcntl", None)
    elif fault == "no locks":
        monkeypatch.setattr("fcntl.lockf", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "none")))
    elif fault == "no folder":
        folder.chmod(0o777)
    else:
        os.mkfifo(folder / cache.LOCKS)
    assert soon(waiting) < 10


# ----- Numba's own cache -----

REGION = """
from eagerconv.kernels_cpu import cache, parallel
print(cache.directory())
"""


def test_numba_keeps_its_loop_in_our_folder_and_damage_costs_a_compilation(tmp_path):
    environment = {"EAGERCONV_CACHE_DIR": str(tmp_path)}
    assert script(REGION, **environment) == [str(tmp_path)]
    (index,) = tmp_path.rglob("*.nbi")
    index.write_bytes(b"")
    assert script(REGION, **environment) == [str(tmp_path)]


def test_numba_keeps_nothing_where_others_could_write(tmp_path):
    tmp_path.chmod(0o777)
    package = Path(cache.__file__).parent
    before = sorted(package.rglob("*.nb?"))
    assert script(REGION, EAGERCONV_CACHE_DIR=str(tmp_path), NUMBA_CACHE_DIR=str(tmp_path)) == ["None"]
    assert list(tmp_path.iterdir()) == []
    assert sorted(package.rglob("*.nb?")) == before
