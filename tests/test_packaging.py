"""The package as it is installed: its public names, version, typing marker, and what importing it costs others."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.resources
import inspect
import re
import subprocess
import sys
from pathlib import Path

import oldest
import pytest

import eagerconv as ec

ROOT = Path(__file__).resolve().parents[1]
OPTIONAL = {"cupy", "hypothesis", "matplotlib", "pytest", "safetensors", "scipy", "sklearn", "torch", "tqdm"}
FOLDERS = ("eagerconv", "tests", "examples", "benchmarks")


def test_import_loads_no_optional_library(tmp_path: Path) -> None:
    # Numba looks for SciPy by itself, so what NumPy and Numba load does not count. The directory is empty: what is
    # imported is the installed package, not a folder that happens to be there.
    code = """
import sys, numpy, numba
before = set(sys.modules)
import eagerconv
print(*set(sys.modules) - before)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert "eagerconv" in loaded
    assert [name for name in loaded if name.partition(".")[0] in OPTIONAL] == []


def test_version_is_the_installed_one() -> None:
    installed = importlib.metadata.version("eagerconv")
    assert ec.__version__ == installed, "after a change of version: touch pyproject.toml, then make test"


def test_only_numpy_and_numba_are_required() -> None:
    required = [line for line in importlib.metadata.requires("eagerconv") or () if "extra ==" not in line]
    assert sorted(line.partition(">")[0] for line in required) == ["numba", "numpy"]


def test_every_requirement_names_the_version_that_the_oldest_environment_has() -> None:
    pinned = {line.replace("==", ">=").replace("_", "-") for line in oldest.constraints()}
    required = [line.partition(";")[0] for line in importlib.metadata.requires("eagerconv") or ()]
    floors = {re.sub(r"\[.*\]", "", line).replace("_", "-") for line in required if not line.startswith("eagerconv[")}
    assert floors == pinned, "installed from another pyproject.toml: make test installs anew"


def test_type_checkers_find_the_marker() -> None:
    assert importlib.resources.files("eagerconv").joinpath("py.typed").is_file()


def test_public_names_are_listed_once() -> None:
    assert len(ec.__all__) == len(set(ec.__all__))


@pytest.mark.parametrize("name", ec.__all__)
def test_public_name_exists_and_is_documented(name: str) -> None:
    value = getattr(ec, name)
    if callable(value) or inspect.ismodule(value):
        assert (value.__doc__ or "").strip(), f"eagerconv.{name} has no docstring"


def test_every_file_says_first_why_it_exists() -> None:
    files = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    assert files
    silent = [str(file.relative_to(ROOT)) for file in files if not ast.get_docstring(ast.parse(file.read_bytes()))]
    assert not silent
