"""What every test shares: which tests run and how many examples, and a GPU or its stand-in."""

from __future__ import annotations

from types import SimpleNamespace

import fake_cuda
import pytest
from hypothesis import settings

from eagerconv.kernels_cpu import jit, threads
from eagerconv.kernels_gpu import cuda

# No deadline: the first example may wait for Numba to compile. The blob lets a failure seen elsewhere be replayed. Each test
# names its number of examples; a profile's is how many of a hundred of them are run (strategies.py). The quick ones are the
# same each time, so that who has changed nothing sees nothing change; to look for new ones is the other's work.
settings.register_profile("full", deadline=None, print_blob=True, max_examples=100)
settings.register_profile("quick", settings.get_profile("full"), max_examples=10, derandomize=True)
settings.load_profile("quick")


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="all examples, and tests marked `slow` too")
    parser.addoption(
        "--plan-only", action="store_true", help="neither compile nor call kernels: for tests marked `plans`"
    )


def nothing(*arguments):
    """Stands in for a kernel."""


def pytest_configure(config):
    config.left_out = {}
    if config.getoption("--full"):
        settings.load_profile("full")
    if config.getoption("--plan-only"):
        jit._load = lambda function, dtype: SimpleNamespace(name=function, call_arrays=nothing)
        threads.team = lambda: nothing


LONG = ("test_cache.py", "test_guard.py", "test_kernels.py")
"""Files of long tests, which compile in processes of their own."""


def pytest_collection_modifyitems(config, items):
    """Leave out what is slow, unless it is asked for, and what needs a GPU where there is none.

    Long tests come first, so that several workers finish together.
    """
    items.sort(key=lambda item: item.path.name not in LONG)
    slow = "slow" in config.getoption("markexpr") or config.getoption("--full")
    named = tuple(argument.partition("::")[2] for argument in config.args if "::" in argument)
    card = has_card()
    kept, left = [], {"slow": [], "gpu": []}
    for item in items:
        asked = slow or (named and item.nodeid.partition("::")[2].startswith(named))
        if item.get_closest_marker("gpu") and not card:
            left["gpu"].append(item)
        elif item.get_closest_marker("slow") and not asked:
            left["slow"].append(item)
        else:
            kept.append(item)
    items[:] = kept
    for why, some in left.items():
        config.hook.pytest_deselected(items=some)
        config.left_out[why] = len(some)


def has_card():
    try:
        cuda.runtime()
    except cuda.DeviceError:
        return False
    return True


def pytest_sessionfinish(session):
    """A worker tells the process that prints what it has left out: every one the same."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.left_out


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    node.config.left_out = getattr(node, "workeroutput", {}).get("left_out", {})


def pytest_terminal_summary(terminalreporter, config):
    """Say in one line what was left out, and how to run it."""
    left = config.left_out
    parts = [] if config.getoption("--full") else ["nine of ten examples of each property"]
    if left.get("slow"):
        parts.append(f"{left['slow']} slow tests")
    if parts:
        terminalreporter.write_line(f"Left out: {' and '.join(parts)}. `make test FULL=1` runs everything; a slow test runs "
                                    "when it is named, as in ARGS=tests/test_x.py::test_y.")  # fmt: skip
    if left.get("gpu"):
        terminalreporter.write_line(
            f"Left out: {left['gpu']} tests that need an NVIDIA GPU; `make test-gpu` runs them."
        )


@pytest.fixture(autouse=True)
def one_thread_to_plan_for(request):
    """Plans and choices count the threads there are: let those that are asserted count one on every machine."""
    before = threads.get_num_threads()
    if request.node.get_closest_marker("plans"):
        threads.set_num_threads(1)
    yield
    threads.set_num_threads(before)


@pytest.fixture(scope="module", params=["fake", pytest.param("card", marks=pytest.mark.gpu)])
def place(request):
    """Where arrays go: our libcudnn in the place of the real one and our array type in CuPy's, or a GPU."""
    if request.param == "card":
        yield fake_cuda.Card()
        return
    if fake_cuda.NO_COMPILER:
        pytest.skip(fake_cuda.NO_COMPILER)
    with fake_cuda.played():
        yield fake_cuda.Fake()
