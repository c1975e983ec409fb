"""Prints the oldest version of everything that pyproject.toml declares, as constraints for pip: `make test-oldest`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def constraints() -> list[str]:
    """`name==version` for every `name[extra]>=version`; what asks for extras of our own has no version."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    requirements = {line for lines in (project["dependencies"], *extras) for line in lines}
    return sorted(_pinned(line) for line in requirements if not line.startswith(f"{project['name']}["))


def _pinned(requirement: str) -> str:
    found = re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", requirement)
    if found is None:
        raise ValueError(f"pyproject.toml: {requirement!r} does not name its oldest version, as in 'numpy>=2.1'")
    return "==".join(found.groups())


if __name__ == "__main__":
    print(*constraints(), sep="\n")
