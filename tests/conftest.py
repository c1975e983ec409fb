"""Settings that every test shares: the Hypothesis profile."""

from __future__ import annotations

from hypothesis import settings

# No deadline: the first example may wait for Numba to compile. The blob lets a failure seen elsewhere be replayed.
settings.register_profile("eagerconv", deadline=None, print_blob=True)
settings.load_profile("eagerconv")
