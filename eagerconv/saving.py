"""Saving and loading trees of Tensors, with the numbers and random generators beside them, as safetensors files.

The tensors of such a file can be read by every program that knows the format, under their paths in the tree
("params.conv1.weight"); what makes them a tree again is in the file's metadata, as JSON. Nothing in a file is ever run.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from eagerconv.tensor import Tensor, tensor

__all__ = ["load", "save"]

FORMAT = "eagerconv tree 1"


def save(path: str | os.PathLike[str], tree: Any) -> None:
    """Write a tree to a file, which is replaced only when all is written.

    Parameters
    ----------
    path : path
        Usually ending in ".safetensors".
    tree : tree
        Dicts with names for keys, lists and tuples, of Tensors, arrays, numbers, strings, None and
        `numpy.random.Generator`s: parameters, `optimizer.state_dict()`, the number of the epoch.

    Raises
    ------
    ImportError
        If the library safetensors is not there.
    TypeError
        For anything else in the tree.
    ValueError
        For a key with a dot in it.

    Examples
    --------
    >>> import tempfile
    >>> from eagerconv.tensor import tensor
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/run.safetensors", {"params": {"w": tensor([1.0, 2.0])}, "epoch": 3})
    ...     load(f"{folder}/run.safetensors")
    {'params': {'w': tensor([1., 2.], dtype=float64)}, 'epoch': 3}
    """
    numpy = _safetensors()
    arrays: dict[str, Any] = {}
    form = _describe(tree, "", arrays)
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
        If the library safetensors is not there.
    FileNotFoundError
        If there is no such file.
    """
    numpy = _safetensors()
    from safetensors import safe_open

    with safe_open(os.fspath(path), framework="np") as file:
        metadata = file.metadata() or {}
    arrays = numpy.load_file(path)
    if metadata.get("format") != FORMAT:
        return {name: Tensor._wrap(array) for name, array in arrays.items()}
    return _build(json.loads(metadata["tree"]), arrays)


def _describe(value: Any, path: str, arrays: dict[str, Any]) -> Any:
    """The JSON of a tree; its arrays are put beside it under their paths."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or "." in key:
                raise ValueError(f"save: keys must be strings without a dot, not {key!r} in {path or 'the tree'}")
        return {"dict": {key: _describe(v, _join(path, key), arrays) for key, v in value.items()}}
    if type(value) in (list, tuple):
        parts = [_describe(v, _join(path, i), arrays) for i, v in enumerate(value)]
        return {type(value).__name__: parts}
    if isinstance(value, (Tensor, np.ndarray)):
        array = value.to("cpu").data if isinstance(value, Tensor) else value
        name = path or "tensor"
        # What the format does not know travels as bytes of a width that it knows.
        arrays[name] = _plain(array)
        leaf = {"name": name, "dtype": array.dtype.name, "shape": array.shape}
        return {"tensor": {**leaf, "grad": value.requires_grad}} if isinstance(value, Tensor) else {"array": leaf}
    if isinstance(value, np.random.Generator):
        return {"generator": value.bit_generator.state}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    raise TypeError(f"save: {path or 'the tree'} is {type(value).__name__}, which cannot be saved")


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _plain(array: Any) -> Any:
    array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False))
    if array.dtype.kind == "c":
        return array.reshape(-1).view(array.real.dtype).reshape(*array.shape, 2)
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array


def _build(form: Any, arrays: dict[str, Any]) -> Any:
    ((kind, content),) = form.items()
    if kind == "dict":
        return {key: _build(v, arrays) for key, v in content.items()}
    if kind in ("list", "tuple"):
        parts = [_build(v, arrays) for v in content]
        return parts if kind == "list" else tuple(parts)
    if kind == "generator":
        generator = np.random.Generator(getattr(np.random, content["bit_generator"])())
        generator.bit_generator.state = content
        return generator
    if kind == "value":
        return content
    array = arrays[content["name"]].view(_dtype(content["dtype"])).reshape(content["shape"])
    if kind == "array":
        return array
    return tensor(array, requires_grad=content["grad"])  # where new tensors go


def _dtype(name: str) -> Any:
    if name == "bfloat16":
        import ml_dtypes

        return ml_dtypes.bfloat16
    return np.dtype(name)


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("save and load need safetensors; pip install safetensors, or 'eagerconv[train]'") from error
    return safetensors.numpy
