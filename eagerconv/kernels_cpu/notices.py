"""What the library tells on stderr without being asked; EAGERCONV_QUIET=1 silences it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def quiet() -> bool:
    """Whether the user wants no notices."""
    return os.environ.get("EAGERCONV_QUIET", "0") not in ("", "0")


def say(text: str) -> None:
    """Write one line, unless the user wants none; where nobody can read it, nothing fails."""
    if not quiet():
        with suppress(OSError, ValueError):  # stderr is full, or closed
            print(f"eagerconv: {text}; EAGERCONV_QUIET=1 silences this", file=sys.stderr, flush=True)
