"""Files of trees: what comes back, and that no file can do more than be refused with its name and what was found."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eagerconv as ec

pytest.importorskip("safetensors")
from safetensors import safe_open  # there only if the library is
from safetensors.numpy import save_file

BITS = [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64]
PART = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
LEAF = {"name": "w", "dtype": "float32", "shape": [2]}
PCG = {"bit_generator": "PCG64", "state": {"state": 3, "inc": 5}, "has_uint32": 0, "uinteger": 0}
TWISTER = {"bit_generator": "MT19937", "state": {"key": [1] * 624, "pos": 624}}
PHILOX = {
    "bit_generator": "Philox", "state": {"counter": [0] * 4, "key": [1, 2]}, "buffer": [0] * 4, "buffer_pos": 4,
    "has_uint32": 0, "uinteger": 0,
}  # fmt: skip


def written(path: Path, header: Any, body: bytes = b"") -> Path:
    """A file with any header at all."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def of_tree(path: Path, form: Any, part: Any = PART, body: bytes = bytes(8)) -> Path:
    """A file whose tree is anything at all, with the array w."""
    text = form if isinstance(form, str) else json.dumps(form)
    return written(path, {"__metadata__": {"format": "eagerconv tree 1", "tree": text}, "w": part}, body)


@pytest.mark.parametrize("kind", BITS)
def test_generators_of_all_kinds_go_on_where_they_were(tmp_path: Path, kind: Callable[[int], Any]) -> None:
    rng = np.random.Generator(kind(3))
    rng.integers(10, size=7, dtype=np.int32)  # leaves half a number behind
    ec.save(tmp_path / "f", [rng])
    (again,) = ec.load(tmp_path / "f")
    assert type(again.bit_generator) is kind
    assert again.integers(1000, size=5, dtype=np.int32).tolist() == rng.integers(1000, size=5, dtype=np.int32).tolist()
    assert again.random() == rng.random()


def test_what_stands_twice_is_written_once_and_comes_back_as_one(tmp_path: Path) -> None:
    w, a, rng = ec.tensor([1.0, 2.0], requires_grad=True), np.arange(3), np.random.default_rng(0)
    ec.save(
        tmp_path / "f",
        {"encoder": w, "decoder": [w, (w, a)], "a": a, "rng": [rng, rng], "equal": ec.tensor([1.0, 2.0])},
    )
    p = ec.load(tmp_path / "f")
    assert p["encoder"] is p["decoder"][0] is p["decoder"][1][0]
    assert p["encoder"].requires_grad
    assert p["a"] is p["decoder"][1][1]
    assert p["rng"][0] is p["rng"][1]
    assert p["equal"] is not p["encoder"]
    (p["encoder"] * p["decoder"][0]).sum().backward()
    assert p["encoder"].grad.tolist() == [2, 4]
    with safe_open(tmp_path / "f", framework="np") as file:
        assert sorted(file.keys()) == ["decoder.1.1", "encoder", "equal"]
    for form in (
        {"same": "w"},
        {"list": [{"same": "x"}, {"array": LEAF}]},
        {"list": [{"array": LEAF}, {"same": ["0"]}]},
    ):
        with pytest.raises(ValueError, match="is no branch or leaf of a tree"):
            ec.load(of_tree(tmp_path / "h", form))


def test_trees_of_files_of_other_programs_can_be_saved(tmp_path: Path) -> None:
    save_file(
        {"encoder.0.weight": np.ones((2, 3), "f4"), "encoder.0": np.zeros(2), "bias": np.ones(())}, tmp_path / "theirs"
    )
    p = ec.load(tmp_path / "theirs")
    ec.save(tmp_path / "ours", {"params": p, "epoch": 1})
    again = ec.load(tmp_path / "ours")
    assert list(again["params"]) == list(p)
    assert all((again["params"][name].numpy() == p[name].numpy()).all() for name in p)
    with pytest.raises(ValueError, match=r"two leaves have the path 'a\.b'.*rename"):
        ec.save(tmp_path / "no", {"a.b": np.ones(2), "a": {"b": np.ones(2)}})
    assert not (tmp_path / "no").exists()


def test_bfloat16_is_bfloat16_for_other_programs_and_loads_from_files_that_made_it_integers(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = ec.tensor(np.array([1.5, -2.0, 3e38]), dtype=ml_dtypes.bfloat16)
    ec.save(tmp_path / "new", {"w": x, "s": ec.tensor(0.5, dtype=ml_dtypes.bfloat16)})
    with safe_open(tmp_path / "new", framework="np") as file:
        assert [(file.get_slice(k).get_dtype(), file.get_slice(k).get_shape()) for k in ("w", "s")] == [
            ("BF16", [3]),
            ("BF16", []),
        ]
    assert ec.load(tmp_path / "new")["w"].tolist() == x.tolist()
    leaf = {"tensor": {**LEAF, "dtype": "bfloat16", "grad": False}}
    old = of_tree(tmp_path / "old", leaf, {**PART, "dtype": "U16", "data_offsets": [0, 4]}, x.numpy()[:2].tobytes())
    assert ec.load(old).tolist() == [1.5, -2]


def test_a_single_number_is_saved_without_axes_and_loads_from_files_that_gave_it_one(tmp_path: Path) -> None:
    ec.save(tmp_path / "new", [np.ones((), "f4"), np.array(1 + 2j)])
    assert b'"shape":[1]' not in (tmp_path / "new").read_bytes()
    old = of_tree(
        tmp_path / "old", {"array": {**LEAF, "shape": []}}, {**PART, "shape": [1], "data_offsets": [0, 4]}, bytes(4)
    )
    assert [a.shape for a in (*ec.load(tmp_path / "new"), ec.load(old))] == [(), (), ()]


def test_a_file_cannot_have_a_function_of_numpy_called(tmp_path: Path) -> None:
    for name in ("seed", "default_rng", "Generator", "BitGenerator", "__dict__", "bit_generator"):
        np.random.seed(7)  # noqa: NPY002  # the global generator is what a file must not reach
        before = np.random.get_state()[1].tolist()  # noqa: NPY002
        path = of_tree(tmp_path / "evil", {"generator": {**PCG, "bit_generator": name}})
        with pytest.raises(ValueError, match=rf"evil' is no file.*a generator of \"{name}\".*there are PCG64, "):
            ec.load(path)
        assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


@pytest.mark.parametrize(
    "state",
    [
        {**TWISTER, "state": {"key": [1] * 624, "pos": 100_000}},  # NumPy would read far behind the key
        {**TWISTER, "state": {"key": [1] * 624, "pos": -1}},
        {**TWISTER, "state": {"key": [1] * 623, "pos": 0}},
        {**TWISTER, "state": {"key": [2**32] * 624, "pos": 0}},
        {**TWISTER, "state": {"key": [0.5] * 624, "pos": 0}},
        {**PHILOX, "buffer_pos": 5},
        {**PHILOX, "buffer": [[0] * 4]},
        {**PHILOX, "buffer": "0000"},
        {**PCG, "has_uint32": 2},
        {**PCG, "uinteger": 2**32},
        {**PCG, "uinteger": True},
        {**PCG, "state": {"state": 2**128, "inc": 5}},
        {**PCG, "state": {"state": "3", "inc": 5}},
        {**PCG, "state": {"state": 3}},
        {**PCG, "state": None},
        {**PCG, "more": 1},
        {"bit_generator": "SFC64"},
        {},
    ],
)
def test_states_of_generators_are_checked_before_they_are_applied(tmp_path: Path, state: Any) -> None:
    with pytest.raises(ValueError, match=r"f' is no file that can be read: .*'rng\.0'"):
        ec.load(of_tree(tmp_path / "f", {"dict": {"rng": {"list": [{"generator": state}]}}}))


@pytest.mark.parametrize(
    "form",
    [
        "", "nonsense", "[]", "3", "{}", "NaN", '{"value": 1, "list": []}', '{"value": [1]}', '{"value": {"a": 1}}',
        '{"dict": []}', '{"list": {}}', '{"tuple": 3}', '{"set": []}', '{"list": [{}]}', '{"generator": 3}',
        '{"tensor": []}', '{"value": ' + "9" * 5000 + "}", '{"list": [' * 100_000 + "]}" * 100_000,
        {"array": {}},
        {"array": {**LEAF, "name": "v"}},
        {"array": {**LEAF, "name": ["w"]}},
        {"array": {**LEAF, "dtype": "object"}},
        {"array": {**LEAF, "dtype": "V1000000000"}},
        {"array": {**LEAF, "dtype": "float8_e4m3fn"}},
        {"array": {**LEAF, "dtype": ["f4", "f4"]}},
        {"array": {**LEAF, "dtype": "int32"}},
        {"array": {**LEAF, "dtype": "float64", "shape": [1]}},
        {"array": {**LEAF, "dtype": "complex64", "shape": [1]}},
        {"array": {**LEAF, "shape": [1 << 40]}},
        {"array": {**LEAF, "shape": [-1]}},
        {"array": {**LEAF, "shape": 2}},
        {"array": {**LEAF, "shape": None}},
        {"tensor": {**LEAF, "grad": "yes"}},
        {"list": [{"array": LEAF}] * 2},  # a file of a megabyte would be a tree of a thousand
    ],
)  # fmt: skip
def test_trees_that_save_does_not_write_are_refused(tmp_path: Path, form: Any) -> None:
    with pytest.raises(ValueError, match=r"f' is no file that can be read: "):
        ec.load(of_tree(tmp_path / "f", form))


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (b"", b""),
        (b"\xff\xfe", b""),
        (b"[]", b""),
        (b"[" * 100_000, b""),
        ({"w": {**PART, "dtype": "V8"}}, bytes(8)),
        ({"w": {**PART, "dtype": "F8_E4M3", "shape": [8]}}, bytes(8)),
        ({"w": {**PART, "dtype": "F4", "shape": [16]}}, bytes(8)),
        ({"w": {**PART, "dtype": "BOOL", "shape": [8]}}, bytes([1, 7] * 4)),
        ({"w": {**PART, "shape": [1 << 62]}}, bytes(8)),
        ({"w": {**PART, "shape": [-2]}}, bytes(8)),
        ({"w": {**PART, "shape": [0, 1 << 40, 1 << 40], "data_offsets": [0, 0]}}, b""),
        ({"w": {**PART, "shape": [1] * 70, "data_offsets": [0, 4]}}, bytes(4)),
        ({"w": PART}, bytes(7)),
        ({"w": PART}, bytes(9)),
        ({"__metadata__": {"format": 1}}, b""),
        ({"__metadata__": {"format": "eagerconv tree 1"}}, b""),
        ({"__metadata__": {"format": "eagerconv tree 99", "tree": "{}"}}, b""),
    ],
)
def test_malformed_files_are_refused_by_name(tmp_path: Path, header: Any, body: bytes) -> None:
    with pytest.raises(ValueError, match=r"f' is no file that can be read: "):
        ec.load(written(tmp_path / "f", header, body))


def test_files_cut_off_anywhere_or_with_a_bit_turned_are_refused_or_load(tmp_path: Path) -> None:
    path = tmp_path / "f"
    ec.save(path, {"w": ec.tensor([1.0, 2.0], requires_grad=True), "rng": np.random.default_rng(0), "n": [3, (True,)]})
    whole = path.read_bytes()
    broken = [whole[:end] for end in range(0, len(whole), 7)]
    for place in range(0, len(whole), 3):
        turned = bytearray(whole)
        turned[place] ^= 1 << place % 8
        broken.append(bytes(turned))
    refused = 0
    for content in broken:
        path.write_bytes(content)
        try:
            ec.load(path)
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017  # some may be read: a bit of a number was turned
            refused += 1
    assert refused > len(broken) // 2


def test_what_is_no_file_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=str(tmp_path)):  # which error it is depends on the system
        ec.load(tmp_path)


def test_bfloat16_loads_where_nobody_imported_its_library_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ml_dtypes")
    theirs = written(tmp_path / "theirs", {"w": {**PART, "dtype": "BF16", "shape": [4]}}, b"\x80\x3f" * 4)
    ours = of_tree(
        tmp_path / "ours", {"array": {**LEAF, "dtype": "bfloat16", "shape": [4]}},
        {**PART, "dtype": "U16", "shape": [4]}, b"\x80\x3f" * 4,
    )  # fmt: skip
    code = f"import eagerconv as ec; print(ec.load({str(theirs)!r})['w'].sum(), ec.load({str(ours)!r}).sum())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "tensor(4, dtype=bfloat16) 4"
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    for path in (theirs, ours):
        with pytest.raises(
            ImportError, match=r"bfloat16 needs ml_dtypes; pip install ml_dtypes, or 'eagerconv\[train\]'"
        ):
            ec.load(path)


def test_what_cannot_come_back_is_not_saved(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")

    class Own(np.random.PCG64):
        pass

    for bad, said in (
        (np.zeros(2, ml_dtypes.float8_e4m3fn), r"a is of dtype float8_e4m3fn, which cannot be saved; convert it"),
        (np.zeros(2, "M8[s]"), r"a is of dtype datetime64"),
        (np.array(["x"]), r"a is of dtype <U1"),
        (np.array([None]), r"a is of dtype object"),
        (np.random.Generator(Own()), r"a is a Generator of Own, which cannot be saved; there are PCG64, "),
    ):
        with pytest.raises(TypeError, match=said):
            ec.save(tmp_path / "f", {"a": bad})
    for key in ("", "__metadata__"):  # the first would get the name of another, the second none at all
        with pytest.raises(ValueError, match="keys must be strings, neither empty nor"):
            ec.save(tmp_path / "f", {key: np.ones(2), "tensor": np.zeros(2)})


def test_measured_choices_nested_too_deeply_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "choices.json"
    path.write_text('{"winners": ' + "[" * 100_000)
    with pytest.raises(ValueError, match=r"choices\.json is not a file that autotune\.save wrote"):
        ec.autotune.load(path)
