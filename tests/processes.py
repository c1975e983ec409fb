"""Runs code in a fresh process, for tests of what a process does once: start, load, compile, fork, end."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap


def script(code: str, *, ahead: str = "", seconds: float = 300, **environment: str) -> list[str]:
    """Run code, `ahead` of it what many scripts share, in a process that must end well, and give the words it prints."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ahead + textwrap.dedent(code)],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=seconds,
    )  # fmt: skip
    assert run.returncode == 0, (run.returncode, run.stderr)
    return run.stdout.split()
