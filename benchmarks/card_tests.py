"""pytest as a stage of `benchmarks.card`: each test has a limit, and its end written at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.card_child import Report, condition

ENDED = (
    pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED, pytest.ExitCode.INTERRUPTED,
)  # fmt: skip


class Plugin:
    """Tells of each test at once, in the report; those that were begun before are not begun again."""

    def __init__(self, report: Report, seconds: float) -> None:
        self.report, self.seconds, self.parts = report, seconds, list[Any]()

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if item.nodeid not in self.report.begun]

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            values = {"error": in_one_line(report), "traceback": str(report.longrepr)}
            self.report.write(report.nodeid or "collection", "failed", **values)

    def pytest_runtest_setup(self, item: Any) -> None:
        if self.report.left < 3:
            item.session.shouldstop = "no time left"

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.parts.clear()
        self.report.begun.add(nodeid)
        self.report.write(nodeid, "begin")
        self.report.watch(self.seconds)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.parts.append(report)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        values: dict[str, Any] = {"seconds": round(sum(part.duration for part in self.parts), 3)}
        if failed := [part for part in self.parts if part.failed]:
            state = "failed"
            values |= {"error": in_one_line(failed[0]), "traceback": str(failed[0].longrepr), **condition()}
        elif skipped := [part for part in self.parts if part.skipped]:
            state, values["why"] = "skipped", in_one_line(skipped[0])
        else:
            state = "ok"
        self.report.write(nodeid, state, **values)
        self.report.watch(self.report.left)
        if values.get("alive") is False:
            self.report.leave()


def in_one_line(report: Any) -> str:
    """Why a test failed or was skipped."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        return str(crash.message).partition("\n")[0]
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    return str(why).strip().rpartition("\n")[2]


def run_tests(report: Report, arguments: Sequence[str], seconds: float) -> None:
    """Run tests. Warnings, which newer libraries have more of, are no failures, and the checkout is not written to."""
    options = ["-q", "--no-header", "--tb=short", "-W", "default", "-p", "no:cacheprovider", "-p", "no:faulthandler"]
    status = pytest.main([*options, *arguments], plugins=[Plugin(report, seconds)])
    if status not in ENDED:
        raise RuntimeError(f"pytest ended with {status!r}")
