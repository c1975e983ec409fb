"""The pictures of convolution arithmetic: their numbers are the library's, their command line and page work."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import eagerconv as ec

matplotlib = pytest.importorskip("matplotlib", reason="examples/arithmetic.py draws with Matplotlib")
matplotlib.use("agg")  # a figure is a file here, not a window

from matplotlib.text import Text  # noqa: E402
from PIL import Image  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "examples" / "arithmetic.py"
PAGE = ROOT / "docs" / "arithmetic.md"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("arithmetic", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


arithmetic = _load()


# ----- What is drawn -----


def _forward_calls() -> Iterator[dict[str, Any]]:
    kernels, strides, dilations, flips = ((3, 3), (2, 1)), (1, (3, 2)), (1, (1, 2)), (True, False)
    modes = ("valid", "half", "full", "same", "same_lower", 2, (0, 3), ((2, 0), (0, 1)))
    for kernel, stride, dilation, mode, flip in product(kernels, strides, dilations, modes, flips):
        yield {
            "input": arithmetic.sample_input((5, 6)), "filters": arithmetic.sample_filters(kernel), "border_mode": mode,
            "subsample": stride, "filter_dilation": dilation, "filter_flip": flip,
        }  # fmt: skip


def _transposed_calls() -> Iterator[dict[str, Any]]:
    """The transposes of these, each on its own output, back to its own input's size."""
    for call in _forward_calls():
        call["input"] = arithmetic.sample_input(arithmetic.picture(**call).output.shape)
        call["input_dilation"] = call.pop("subsample")
        yield {**call, "output_shape": (None, None, 5, 6), "transposed": True}


def _unshared(call: dict[str, Any]) -> dict[str, Any]:
    out = call["input"].shape if "transposed" in call else arithmetic.picture(**call).output.shape
    return {**call, "filters": arithmetic.sample_filters((*out, *call["filters"].shape)), "unshared": True}


def _library(call: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The result of the call itself, without any picture."""
    options = dict(call)
    function = ec.conv2d_transpose if options.pop("transposed", False) else ec.conv2d
    x, w = options.pop("input")[None, None], options.pop("filters")
    w = w[None, :, :, None] if w.ndim == 4 else w[None, None]
    return np.asarray(function(x, w, **options).numpy()[0, 0])


@pytest.mark.parametrize("calls", [_forward_calls, _transposed_calls])
@pytest.mark.parametrize("unshared", [False, True])
def test_every_window_sums_to_what_the_library_returns(calls: Any, unshared: bool) -> None:
    for shared in calls():
        call = _unshared(shared) if unshared else shared
        p = arithmetic.picture(**call)
        expected = _library(call)
        np.testing.assert_array_equal(p.output, expected, str(call))
        for window in p.windows:
            products = [p.canvas[cell] * weight for cell, weight in p.taps(window) if weight is not None]
            assert sum(products) == expected[window], (window, call)


@pytest.mark.parametrize("calls", [_forward_calls, _transposed_calls])
def test_formula_holds_and_input_is_all_there(calls: Any) -> None:
    for call in calls():
        p = arithmetic.picture(**call)
        for axis, size in zip((p.rows, p.columns), p.output.shape, strict=True):
            assert axis.formula.endswith(f"== {size}")
            assert eval(axis.formula), (axis.formula, call)
        np.testing.assert_array_equal(p.canvas[p.kinds == "input"], call["input"].ravel())
        assert not p.canvas[p.kinds != "input"].any()


def test_padding_of_a_convolution_is_drawn_even_where_no_window_reaches_it() -> None:
    x, w = arithmetic.sample_input((6, 6)), arithmetic.sample_filters((3, 3))
    p = arithmetic.picture(x, w, border_mode=((1, 1), (0, 2)), subsample=2)  # rows: 8 cells, windows on 7 of them
    is_input = p.kinds == "input"
    assert p.kinds.shape == (8, 8)
    assert is_input[1:7, 0:6].all()
    assert is_input.sum() == 36
    assert max(cell[0] for window in p.windows for cell, _ in p.taps(window)) == 6


def test_transposed_convolution_is_drawn_with_the_zeros_of_relationship_13() -> None:
    y, w = arithmetic.sample_input((3, 3)), arithmetic.sample_filters((3, 3))
    p = arithmetic.picture(y, w, transposed=True, output_shape=(1, 1, 6, 6), border_mode=1, input_dilation=2)
    row = ["input", "spread"] * 2 + ["input"]
    assert p.kinds[1].tolist() == ["padding", *row, "padding", "padding"]  # p' = k-p-1 = 1, and a = 1 more behind
    assert p.result.shape == (8, 8)  # of which border_mode crops one on every side


# ----- Drawings -----


def _numbers(figure: Any) -> dict[str, str]:
    return {text.get_gid(): text.get_text() for text in figure.findobj(Text) if text.get_gid()}


@pytest.mark.parametrize("transposed", [False, True])
def test_numbers_in_the_figure_are_the_librarys(transposed: bool) -> None:
    calls = list(_transposed_calls() if transposed else _forward_calls())
    for call in calls[:: len(calls) // 5]:
        p, expected = arithmetic.picture(**call), _library(call)
        drawn = _numbers(arithmetic.draw(**call, windows=[p.windows[0], p.windows[-1]]))
        for window in (p.windows[0], p.windows[-1]):
            cells = [cell for cell, _ in p.taps(window)]
            products = [int(drawn[f"canvas {window} {c}"]) * int(drawn[f"weight {window} {c}"]) for c in cells]
            assert int(drawn[f"output {window} {window}"]) == sum(products) == expected[window]
            shown = sum(name.startswith(f"output {window} ") for name in drawn)
            assert shown == 1 + p.windows.index(window), "the window's output and those before it, no later ones"


def test_floats_and_tensors_are_drawn_too() -> None:
    x = ec.tensor([[0.125, -2.0], [1.0, 1000.0]], requires_grad=True)
    drawn = _numbers(arithmetic.draw(x, [[0.5]]))
    outputs = [drawn[f"output (1, 1) {o}"] for o in np.ndindex(2, 2)]
    assert outputs == ["0.0625", "-1", "0.5", "500"]


def test_bad_arguments_of_draw() -> None:
    x, w = np.ones((5, 5)), np.ones((3, 3))
    with pytest.raises(TypeError, match="unexpected keyword argument 'stride'; use subsample="):
        arithmetic.draw(x, w, stride=2)
    with pytest.raises(ValueError, match=r"input must have 4 axes .*, got 5"):
        arithmetic.draw(np.ones((1, 5, 5)), w)
    with pytest.raises(ValueError, match=r"at most 40 rows and columns, not \(5, 65\)"):
        arithmetic.draw(x, w, border_mode=(0, 30))
    with pytest.raises(ValueError, match=r"windows must be .* \(0, 0\) to \(2, 2\), got \[\(3, 0\)\]"):
        arithmetic.draw(x, w, windows=[(3, 0)])


def test_animation_has_every_window(tmp_path: Path) -> None:
    x, w = arithmetic.sample_input((3, 4)), arithmetic.sample_filters((2, 2))
    file = tmp_path / "windows.gif"
    arithmetic.animate(x, w, milliseconds=50).save(file, writer="pillow", dpi=40)
    with Image.open(file) as image:
        # Pillow joins the last frames, which are equal, into one.
        assert image.n_frames == 2 * 3
        frames = []
        for n in range(image.n_frames):
            image.seek(n)
            frames.append(image.convert("RGB").tobytes())
    assert len(set(frames)) == len(frames)


# ----- Command line and page -----


def _run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), *arguments]
    environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONWARNINGS": "error"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "begins"),
    [
        ("--size 5 --kernel 3 --stride 2 --padding 1 --output out.png", b"\x89PNG"),
        ("--size 4 6 --kernel 2 1 --dilation 2 1 --padding 1,2 0,1 --no-flip --all-windows --output out.svg", b"<?xml"),
        ("--size 1 2 --kernel 1 2 --stride 1 2 --transposed --output out.gif", b"GIF8"),
        ("--size 2 3 --kernel 2 --unshared --output out.html", b"\n<link"),
    ],
)
def test_command_line(arguments: str, begins: bytes, tmp_path: Path) -> None:
    done = _run(*arguments.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    file = tmp_path / arguments.split()[-1]
    assert file.read_bytes().startswith(begins)
    call, sizes, wrote = done.stdout.splitlines()
    assert call.startswith("ec.conv2d_transpose(" if "--transposed" in arguments else "ec.conv2d(")
    assert "==" in sizes
    assert wrote == f"wrote {file.name}"


BAD = {
    "--stride 0": "conv2d: subsample must be one int >= 1, or one per axis (rows, columns), got 0",
    "--padding -1": "conv2d: border_mode must be one of",
    "--padding 1,x": "argument --padding: invalid padding value: '1,x'",
    "--padding 1 2 3": "got (1, 2, 3)",
    "--border-mode fully": "got 'fully'",
    "--size 2 --kernel 3": "conv2d: the output would have 0 rows",
    "--size 5 5 5": "conv2d: input must have 4 axes",
    "--size 0": "--size and --kernel must be numbers >= 1, got (0, 0)",
    "--output-size 5": "--output-size goes with --transposed",
    "--transposed --stride 0": "conv2d_transpose: input_dilation must be one int >= 1",
    "--transposed --stride 2 --output-size 9": "rows must be 11 to 12, got 9",
    "--transposed --size 1 --kernel 1 --padding 2": "impossible with this padding",
    "--padding 1 --border-mode half": "not allowed with argument",
    "--output out.jpg": "--output must end in .png, .svg, .pdf, .gif, .html, got 'out.jpg'",
    "--output no/such/folder.png": "No such file or directory",
}


@pytest.mark.parametrize("arguments", BAD)
def test_bad_arguments_of_the_command_line(
    arguments: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(PROGRAM), *arguments.split()])
    with pytest.raises(SystemExit) as exit_:
        arithmetic.main()
    assert exit_.value.code == 2
    assert BAD[arguments] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


IMAGE = r"!\[[^]]+\]\(images/([\w.-]+)\)\n\n`python examples/arithmetic\.py ([^`]*)`"  # and its command
SHOWN = re.findall(IMAGE, PAGE.read_text("utf-8"))


def test_page_shows_all_fourteen_relationships_and_every_image_there_is() -> None:
    text = PAGE.read_text("utf-8")
    assert re.findall(r"^### Relationship (\d+):", text, re.MULTILINE) == [str(n) for n in range(1, 15)]
    names = [name for name, _ in SHOWN]
    assert [Path(name).stem for name in names[:14]] == [f"relationship-{n:02}" for n in range(1, 15)]
    assert text.count("![") == len(names)
    assert sorted(names) == sorted(file.name for file in (PAGE.parent / "images").iterdir())


@pytest.mark.parametrize(("name", "command"), SHOWN)
def test_image_on_the_page_is_what_its_command_draws(name: str, command: str) -> None:
    arguments = arithmetic.parser().parse_args(shlex.split(command))
    p = arithmetic.picture(**arithmetic.call_of(arguments))
    with Image.open(PAGE.parent / "images" / name) as image:
        if name.endswith(".png"):
            assert image.info["Title"] == p.call
        else:
            assert image.n_frames == len(p.windows)
