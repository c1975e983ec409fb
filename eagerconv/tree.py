"""Trees: dicts, lists and tuples, nested at will, that hold the Tensors of a model; what one does with all of them at once.

A model is a function and a tree of parameters. Dicts, lists, tuples and named tuples are branches; anything else is a
leaf, except None, which holds no leaf at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Structure", "flatten", "flatten_as", "leaves", "map", "paths", "unflatten", "zip_map"]

Predicate = Callable[[Any], bool]


@dataclass(frozen=True)
class Structure:
    """The shape of a tree without its leaves: the kind of the branch, its keys and children; kind None for a leaf."""

    kind: type | None
    keys: tuple[Any, ...] = ()
    children: tuple[Structure, ...] = ()

    @property
    def size(self) -> int:
        """The number of leaves."""
        return 1 if self.kind is None else sum(child.size for child in self.children)

    def __str__(self) -> str:
        if self.kind is None:
            return "*"
        if issubclass(self.kind, dict):
            return "{" + ", ".join(f"{k!r}: {c}" for k, c in zip(self.keys, self.children, strict=True)) + "}"
        if self.kind is type(None):
            return "None"
        inside = ", ".join([str(child) for child in self.children])
        return f"[{inside}]" if issubclass(self.kind, list) else f"({inside})"


LEAF = Structure(None)


def flatten(tree: Any, is_leaf: Predicate | None = None) -> tuple[list[Any], Structure]:
    """Take a tree apart.

    Parameters
    ----------
    tree : tree
        Nested dicts, lists and tuples. The leaves of a dict come in the order of its keys' insertion.
    is_leaf : callable, optional
        Called with every branch; where it says True, the branch counts as a leaf.

    Returns
    -------
    leaves : list
    structure : Structure
        What `unflatten` needs to put the tree together again.

    Examples
    --------
    >>> flatten({"a": 1, "b": (2, [3])})[0]
    [1, 2, 3]
    """
    out: list[Any] = []
    return out, _flatten(tree, is_leaf, out)


def _flatten(tree: Any, is_leaf: Predicate | None, out: list[Any]) -> Structure:
    if (is_leaf is not None and is_leaf(tree)) or not (tree is None or isinstance(tree, (dict, list, tuple))):
        out.append(tree)
        return LEAF
    keys, branches = _branches(tree)
    return Structure(type(tree), keys, tuple([_flatten(branch, is_leaf, out) for branch in branches]))


def _branches(tree: Any) -> tuple[tuple[Any, ...], Iterable[Any]]:
    if isinstance(tree, dict):
        return tuple(tree), tree.values()
    return tuple(range(len(tree or ()))), tree or ()


def unflatten(structure: Structure, leaves: Iterable[Any]) -> Any:
    """Put a tree together from its structure and its leaves.

    Raises
    ------
    ValueError
        If there are more or fewer leaves than the structure has places.

    Examples
    --------
    >>> leaves, structure = flatten({"a": 1, "b": (2, 3)})
    >>> unflatten(structure, [10 * leaf for leaf in leaves])
    {'a': 10, 'b': (20, 30)}
    """
    values = list(leaves)
    if len(values) != structure.size:
        raise ValueError(f"unflatten: the structure {structure} has {structure.size} leaves, not {len(values)}")
    return _unflatten(structure, iter(values))


def _unflatten(structure: Structure, values: Iterator[Any]) -> Any:
    kind = structure.kind
    if kind is None:
        return next(values)
    if kind is type(None):
        return None
    branches = [_unflatten(child, values) for child in structure.children]
    if issubclass(kind, dict):
        return dict(zip(structure.keys, branches, strict=True))
    make: Callable[..., Any] = kind
    return make(*branches) if hasattr(kind, "_fields") else make(branches)


def flatten_as(structure: Structure, tree: Any, name: str = "tree") -> list[Any]:
    """Take a tree apart along a given structure: whatever lies in the place of a leaf is one.

    Raises
    ------
    ValueError
        If a branch is missing, of another kind, or has other keys.

    Examples
    --------
    >>> structure = flatten({"a": 1, "b": 2})[1]
    >>> flatten_as(structure, {"b": [1, 2], "a": 0})
    [0, [1, 2]]
    """
    out: list[Any] = []
    _flatten_as(structure, tree, name, out)
    return out


def _flatten_as(structure: Structure, tree: Any, name: str, out: list[Any]) -> None:
    if structure.kind is None:
        out.append(tree)
        return
    if structure.kind is type(None):
        if tree is not None:
            raise ValueError(f"{name}: expected None, got {type(tree).__name__}")
        return
    kinds = dict if issubclass(structure.kind, dict) else (list, tuple)
    if not isinstance(tree, kinds):
        raise ValueError(f"{name}: expected {structure}, got {type(tree).__name__}")
    keys, _ = _branches(tree)
    if set(keys) != set(structure.keys):
        raise ValueError(f"{name}: expected the keys {list(structure.keys)}, got {list(keys)}")
    for key, child in zip(structure.keys, structure.children, strict=True):
        _flatten_as(child, tree[key], f"{name}[{key!r}]", out)


def leaves(tree: Any, is_leaf: Predicate | None = None) -> list[Any]:
    """The leaves of a tree.

    Examples
    --------
    >>> leaves([1, None, {"a": 2}])
    [1, 2]
    """
    return flatten(tree, is_leaf)[0]


def paths(tree: Any, separator: str = ".") -> dict[str, Any]:
    """The leaves of a tree by their paths, as in "encoder.0.bias".

    Raises
    ------
    ValueError
        If a key has the separator in it, or two keys read the same, so that the paths would not tell them apart.

    Examples
    --------
    >>> paths({"conv": {"weight": 1, "bias": 2}, "scale": [3]})
    {'conv.weight': 1, 'conv.bias': 2, 'scale.0': 3}
    """
    values, structure = flatten(tree)
    names = list(_paths(structure, "", separator))
    if len(set(names)) != len(names):
        raise ValueError(f"paths: two leaves have the same path among {sorted(names)}")
    return dict(zip(names, values, strict=True))


def _paths(structure: Structure, prefix: str, separator: str) -> Iterator[str]:
    if structure.kind is None:
        yield prefix
    for key, child in zip(structure.keys, structure.children, strict=True):
        if separator in str(key):
            raise ValueError(f"paths: the key {key!r} has the separator {separator!r} in it")
        yield from _paths(child, f"{prefix}{separator}{key}" if prefix else str(key), separator)


def map(fn: Callable[[Any], Any], tree: Any) -> Any:
    """The tree of what a function makes of each leaf; of an array that stands several times, once for all places.

    Examples
    --------
    >>> map(lambda x: x + 1, {"a": 1, "b": [2]})
    {'a': 2, 'b': [3]}
    """
    return zip_map(fn, tree)


def zip_map(fn: Callable[..., Any], first: Any, *others: Any) -> Any:
    """The tree of what a function makes of the leaves that lie in the same place of several trees.

    Parameters
    ----------
    fn : callable
        Takes one leaf of each tree. Where the same arrays meet several times, as tied weights do, it is called once.
    first, *others : trees
        The first tells the structure; in the others, whatever lies in the place of a leaf is one.

    Raises
    ------
    ValueError
        If another tree lacks a branch of the first, or has one more.

    Examples
    --------
    >>> zip_map(lambda p, g: p - 0.5 * g, {"w": 1.0}, {"w": 4.0})
    {'w': -1.0}
    """
    values, structure = flatten(first)
    columns = [flatten_as(structure, other, f"trees[{i + 1}]") for i, other in enumerate(others)]
    made: dict[Any, Any] = {}  # what is tied stays tied
    results = []
    for row in zip(values, *columns, strict=True):
        key: Any = tuple([id(leaf) for leaf in row]) if hasattr(row[0], "shape") else object()
        if key not in made:
            made[key] = fn(*row)
        results.append(made[key])
    return _unflatten(structure, iter(results))
