"""The array functions in one place: the main namespace of the array API standard, and NumPy's names beside it."""

from __future__ import annotations

from eagerconv import dtypes
from eagerconv.dtypes import *  # noqa: F403  # its __all__
from eagerconv.functional import creation, elementwise, manipulation, reductions, searching
from eagerconv.functional.creation import *  # noqa: F403  # its __all__
from eagerconv.functional.elementwise import *  # noqa: F403  # its __all__
from eagerconv.functional.manipulation import *  # noqa: F403  # its __all__
from eagerconv.functional.reductions import *  # noqa: F403  # its __all__
from eagerconv.functional.searching import *  # noqa: F403  # its __all__
from eagerconv.linalg import einsum, matmul, matrix_transpose, tensordot, vecdot

__all__ = [*dtypes.__all__, *creation.__all__, *elementwise.__all__, *manipulation.__all__, *reductions.__all__]
__all__ += [*searching.__all__, "einsum", "matmul", "matrix_transpose", "tensordot", "vecdot"]
