"""Saving and loading trees of Tensors, with the numbers and random generators beside them, as safetensors files.

The tensors of such a file can be read by every program that knows the format, under their paths in the tree
("params.conv1.weight"); what makes them a tree again is in the file's metadata, as JSON. Nothing in a file is ever run.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from eagerconv.autograd.tape import inexact
from eagerconv.tensor import Tensor, tensor

__all__ = ["load", "save"]

FORMAT = "eagerconv tree 1"

DTYPES = {
    "BOOL": "bool", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
    "F16": "float16", "F32": "float32", "F64": "float64", "BF16": "bfloat16", "C64": "complex64",
}  # fmt: skip
"""What a file may hold, by the format's names and by NumPy's; complex128 it does not know."""

_WORD, _LONG, _HUGE = 2**32, 2**64, 2**128
_HALF = {"has_uint32": 2, "uinteger": _WORD}  # the half of a number that is left over
GENERATORS: dict[str, dict[str, Any]] = {
    "PCG64": {"state": {"state": _HUGE, "inc": _HUGE}, **_HALF},
    "PCG64DXSM": {"state": {"state": _HUGE, "inc": _HUGE}, **_HALF},
    "MT19937": {"state": {"key": (624, np.uint32), "pos": 625}},
    "Philox": {
        "state": {"counter": (4, np.uint64), "key": (2, np.uint64)},
        "buffer": (4, np.uint64),
        "buffer_pos": 5,
        **_HALF,
    },
    "SFC64": {"state": {"state": (4, np.uint64)}, **_HALF},
}
"""The bit generators that a file may name, and what is in their states: numbers from 0 to below a limit, or arrays.

NumPy takes over positions unchecked, and reads memory of others at those that are out of range.
"""


def save(path: str | os.PathLike[str], tree: Any) -> None:
    """Write a tree to a file, which is replaced only when all is written.

    Parameters
    ----------
    path : path
        Usually ending in ".safetensors".
    tree : tree
        Dicts with names for keys, lists and tuples, of Tensors, arrays, numbers, strings, None and
        `numpy.random.Generator`s: parameters, `optimizer.state_dict()`, the number of the epoch. What stands in it several
        times, as tied weights do, is written once, and `load` gives one object for all places.

    Raises
    ------
    ImportError
        If the library safetensors is not there.
    TypeError
        For anything else in the tree, arrays of dtypes that the format does not know included.
    ValueError
        For an empty key, or two leaves of one path, such as those of {"a.b": x, "a": {"b": y}}.

    Examples
    --------
    >>> import tempfile
    >>> from eagerconv.tensor import tensor
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/run.safetensors", {"params": {"w": tensor([1.0, 2.0])}, "epoch": 3})
    ...     load(f"{folder}/run.safetensors")
    {'params': {'w': tensor([1., 2.], dtype=float64)}, 'epoch': 3}
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"save: path must be a path, not {type(path).__name__}; write save(path, tree)")
    numpy = _safetensors()
    arrays: dict[str, Any] = {}
    form = _describe(tree, "", arrays, {})
    metadata = {"format": FORMAT, "tree": json.dumps(form)}
    part = f"{os.fspath(path)}.part"
    try:
        numpy.save_file(arrays, part, metadata=metadata)
        os.replace(part, path)
    finally:
        if os.path.exists(part):
            os.remove(part)


def load(path: str | os.PathLike[str]) -> Any:
    """Read a tree from a file.

    Parameters
    ----------
    path : path
        As given to `save`; or a safetensors file of another program, which gives a dict from names to Tensors.

    Returns
    -------
    tree
        With leaves that require a gradient where the saved ones did.

    Raises
    ------
    ImportError
        If the library safetensors is not there; for bfloat16, if ml_dtypes is not there.
    OSError
        If there is no such file, or it cannot be opened.
    ValueError
        If it is not a safetensors file, or does not hold what `save` writes; the message names the file and what was found.
    """
    _safetensors()
    from safetensors import SafetensorError, safe_open

    name = os.fspath(path)
    with open(name, "rb"):
        pass  # or an error that names the file
    try:
        with safe_open(name, framework="np") as file:
            arrays = {key: _read(file, key) for key in file.keys()}  # noqa: SIM118  # no mapping
            metadata = file.metadata() or {}
        form = metadata.get("format", "")
        if form == FORMAT:
            return _build(json.loads(metadata.get("tree", "")), "", arrays, {})
        if form.startswith(FORMAT.rstrip("0123456789")):
            raise ValueError(f"its format is {form!r}, and this version of eagerconv reads {FORMAT!r}")
    except RecursionError:
        raise ValueError(f"load: {name!r} is no file that can be read: its tree is too deep") from None
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"load: {name!r} is no file that can be read: {error}") from error
    return {key: Tensor._wrap(array) for key, array in arrays.items()}


def _read(file: Any, key: str) -> Any:
    """One array of a file; its dtype is checked first, as NumPy does not know all of the format's."""
    kind = file.get_slice(key).get_dtype()
    if kind not in DTYPES:
        raise ValueError(
            f"{key!r} is of dtype {kind}, which cannot be loaded; convert it to one of {', '.join(DTYPES)}"
        )
    if kind == "BF16":
        _bfloat16()
    array = file.get_tensor(key)
    if kind == "BOOL" and array.view(np.uint8).max(initial=0) > 1:
        raise ValueError(f"{key!r} is of dtype BOOL, and holds other bytes than 0 and 1")
    return array


def _describe(value: Any, path: str, arrays: dict[str, Any], paths: dict[int, str]) -> Any:
    """The JSON of a tree; its arrays are put beside it under their paths, which `paths` tells of those so far."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or not key or (key == "__metadata__" and not path):
                raise ValueError(
                    f"save: keys must be strings, neither empty nor '__metadata__', which the format keeps for itself, not "
                    f"{key!r} in {path or 'the tree'}"
                )
        return {"dict": {key: _describe(v, _join(path, key), arrays, paths) for key, v in value.items()}}
    if type(value) in (list, tuple):
        parts = [_describe(v, _join(path, i), arrays, paths) for i, v in enumerate(value)]
        return {type(value).__name__: parts}
    if id(value) in paths:
        return {"same": paths[id(value)]}
    if isinstance(value, (Tensor, np.ndarray, np.random.Generator)):
        paths[id(value)] = path
    if isinstance(value, (Tensor, np.ndarray)):
        array = value.to("cpu").data if isinstance(value, Tensor) else value
        name = path or "tensor"
        if array.dtype.name not in (*DTYPES.values(), "complex128"):
            raise TypeError(
                f"save: {path or 'the tree'} is of dtype {array.dtype}, which cannot be saved; convert it, as in "
                "x.astype('float32')"
            )
        if name in arrays:
            raise ValueError(f"save: two leaves have the path {name!r}, by which files name them; rename a key")
        arrays[name] = _plain(array)  # what the format does not know travels as pairs of numbers that it knows
        leaf = {"name": name, "dtype": array.dtype.name, "shape": array.shape}
        return {"tensor": {**leaf, "grad": value.requires_grad}} if isinstance(value, Tensor) else {"array": leaf}
    if isinstance(value, np.random.Generator):
        return {"generator": _generator_state(value.bit_generator, path)}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    raise TypeError(f"save: {path or 'the tree'} is {type(value).__name__}, which cannot be saved")


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _plain(array: Any) -> Any:
    array = np.asarray(array, array.dtype.newbyteorder("="), order="C")
    if array.dtype.kind == "c":
        return array.reshape(-1).view(array.real.dtype).reshape(*array.shape, 2)
    return array


def _generator_state(bits: Any, path: str) -> Any:
    """The state of a bit generator, with lists for arrays."""
    name = type(bits).__name__
    if name not in GENERATORS or type(bits) is not getattr(np.random, name):
        raise TypeError(
            f"save: {path or 'the tree'} is a Generator of {name}, which cannot be saved; there are {', '.join(GENERATORS)}"
        )
    return json.loads(json.dumps(bits.state, default=np.ndarray.tolist))


def _build(form: Any, path: str, arrays: dict[str, Any], made: dict[str, Any]) -> Any:
    """The tree of its JSON, of which nothing is believed; arrays are taken out as leaves are made of them."""
    if type(form) is not dict or len(form) != 1:
        raise ValueError(f"{_place(path)} is no branch or leaf of a tree, but {_shown(form)}")
    ((kind, content),) = form.items()
    if kind == "dict" and type(content) is dict:
        return {key: _build(v, _join(path, key), arrays, made) for key, v in content.items()}
    if kind in ("list", "tuple") and type(content) is list:
        parts = [_build(v, _join(path, i), arrays, made) for i, v in enumerate(content)]
        return parts if kind == "list" else tuple(parts)
    if kind == "value" and (content is None or isinstance(content, (bool, int, float, str))):
        return content
    if kind == "generator" and type(content) is dict:
        return made.setdefault(path, _generator(content, path))
    if kind in ("tensor", "array") and type(content) is dict:
        array = _array(content, path, arrays)
        grad = content.get("grad", False)
        if type(grad) is not bool or (grad and not inexact(array.dtype)):
            raise ValueError(f"{_place(path)} of dtype {array.dtype} cannot have grad={_shown(grad)}")
        leaf = array if kind == "array" else tensor(array, requires_grad=grad)  # where new tensors go
        return made.setdefault(path, leaf)
    if kind == "same" and type(content) is str and content in made:
        return made[content]
    raise ValueError(f"{_place(path)} is no branch or leaf of a tree, but {_shown(form)}")


def _array(leaf: dict[str, Any], path: str, arrays: dict[str, Any]) -> Any:
    """The array of a leaf, which says what it was before it was made fit for the format."""
    name, dtype, shape = leaf.get("name"), leaf.get("dtype"), leaf.get("shape")
    if type(name) is not str or name not in arrays:
        raise ValueError(f"{_place(path)} is to be the array {_shown(name)}, which is not there, or used elsewhere")
    array = arrays.pop(name)  # each is for one leaf: a small file would be a large tree else
    if type(dtype) is not str or dtype not in (*DTYPES.values(), "complex128"):
        raise ValueError(f"{_place(path)} is to be of dtype {_shown(dtype)}, which cannot be loaded")
    wanted = np.dtype(_bfloat16() if dtype == "bfloat16" else dtype)
    plain = {"complex64": np.float32, "complex128": np.float64}.get(dtype, wanted)
    if dtype == "bfloat16" and array.dtype == np.uint16:  # of old
        array = array.view(wanted)
    stored = [*shape, *[2] * (wanted.kind == "c")] if type(shape) is list else []
    if (
        array.dtype != plain or type(shape) is not list or list(array.shape) not in (stored, [1, *stored])
    ):  # [1]: of old
        raise ValueError(
            f"{_place(path)} is to be of dtype {dtype} and shape {_shown(shape)}, and its array is {array.dtype}, {array.shape}"
        )
    return array.reshape(-1).view(wanted).reshape(shape)


def _generator(content: dict[str, Any], path: str) -> np.random.Generator:
    """The generator of a state, all of which is checked before it is applied."""
    kind = content.get("bit_generator")
    if type(kind) is not str or kind not in GENERATORS:
        raise ValueError(
            f"{_place(path)} is a generator of {_shown(kind)}, which cannot be loaded; there are {', '.join(GENERATORS)}"
        )
    expected: dict[str, Any] = {"bit_generator": kind, **GENERATORS[kind]}
    state = _checked(content, expected, f"the state of the {kind} at {_place(path)}")
    bits = getattr(np.random, kind)()
    bits.state = state
    return np.random.Generator(bits)


def _checked(found: Any, expected: Any, place: str) -> Any:
    """A state, or a part of one, with arrays for lists, if it is what is expected there."""
    if isinstance(expected, dict) and type(found) is dict and found.keys() == expected.keys():
        return {key: _checked(found[key], expected[key], f"{key!r} in {place}") for key in expected}
    if isinstance(expected, str) and found == expected:
        return found
    if isinstance(expected, int) and type(found) is int and 0 <= found < expected:
        return found
    if isinstance(expected, tuple) and type(found) is list and len(found) == expected[0]:
        limit = int(np.iinfo(expected[1]).max) + 1
        return np.array([_checked(number, limit, place) for number in found], expected[1])
    raise ValueError(f"{place} cannot be {_shown(found)}")


def _place(path: str) -> str:
    return repr(path) if path else "the tree"


def _shown(found: Any) -> str:
    """What was found, in a length that a message can hold."""
    text = json.dumps(found)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _bfloat16() -> Any:
    try:
        import ml_dtypes  # from now on NumPy knows "bfloat16" by name
    except ImportError as error:
        raise ImportError("load: bfloat16 needs ml_dtypes; pip install ml_dtypes, or 'eagerconv[train]'") from error
    return ml_dtypes.bfloat16


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("save and load need safetensors; pip install safetensors, or 'eagerconv[train]'") from error
    return safetensors.numpy
