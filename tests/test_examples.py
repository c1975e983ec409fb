"""The example programs, on a few steps: they learn, on data that is honestly split, and equal seeds give equal results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for library in ("sklearn", "tqdm", "matplotlib"):
    pytest.importorskip(library)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

import demo  # noqa: E402
import denoise  # noqa: E402
import digits  # noqa: E402

Pair = tuple[Any, Any]


@pytest.fixture(scope="module")
def trained() -> Pair:
    return digits.train(epochs=3, progress=False), denoise.train(steps=120, progress=False)


def test_classifier_learns(trained: Pair) -> None:
    losses, accuracy = trained[0].losses, trained[0].accuracy
    assert losses[0] > losses[1] > losses[2]
    assert accuracy > 0.8


def test_denoiser_learns(trained: Pair) -> None:
    result = trained[1]
    assert np.mean(result.losses[-20:]) < 0.6 * np.mean(result.losses[:20])
    assert result.gain > 1
    assert denoise.psnr(result.noisy, result.truth) == pytest.approx(20, abs=0.1)  # -10 log10(0.1 ** 2)


def test_equal_seeds_give_equal_results() -> None:
    for train, length in ((digits.train, {"epochs": 1}), (denoise.train, {"steps": 5})):
        one, same, other = (train(seed, progress=False, **length) for seed in (3, 3, 4))
        assert one.losses == same.losses != other.losses
        for name in one.params:
            np.testing.assert_array_equal(one.params[name].numpy(), same.params[name].numpy())


def test_held_out_digits_are_not_trained_on() -> None:
    images, held_out, labels, held_out_labels = digits.load()
    assert (len(images), len(held_out)) == (1347, 450)
    assert set(labels) == set(held_out_labels) == set(range(10))
    seen = {image.tobytes() for image in images}
    assert not any(image.tobytes() in seen for image in held_out)


def test_patches_do_not_touch_the_held_out_crop() -> None:
    photos = denoise.load()
    hidden = np.zeros(photos.shape[:1] + photos.shape[2:], bool)
    hidden[0][denoise.CROP] = True
    windows = np.lib.stride_tricks.sliding_window_view(hidden, (denoise.PATCH, denoise.PATCH), axis=(1, 2))
    touches = windows.any(axis=(-2, -1))  # (photograph, first row, first column)
    np.testing.assert_array_equal(denoise.corners(photos), np.argwhere(~touches))


def test_psnr() -> None:
    truth = np.full((2, 3), 0.5)
    assert denoise.psnr(truth + 0.01, truth) == pytest.approx(40)


def test_demo_reports_and_draws(trained: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.report(*trained) is False  # so short a training misses the goals
    printed = capsys.readouterr().out
    assert f"{trained[0].accuracy:.2%}" in printed
    assert f"{trained[1].gain:+.2f} dB" in printed
    picture = tmp_path / "demo.png"
    demo.draw(*trained, str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 50_000


@pytest.mark.parametrize(("accuracy", "gain", "status"), [(0.99, 5.0, 0), (0.97, 5.0, 1), (0.99, 3.9, 1)])
def test_demo_fails_when_a_goal_is_missed(
    trained: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accuracy: float, gain: float, status: int
) -> None:
    monkeypatch.setattr(digits.Result, "accuracy", accuracy)
    monkeypatch.setattr(denoise.Result, "gain", gain)
    monkeypatch.setattr(digits, "train", lambda: trained[0])
    monkeypatch.setattr(denoise, "train", lambda: trained[1])
    monkeypatch.setattr(demo, "draw", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["demo.py", "--output", str(tmp_path / "demo.png")])
    assert demo.main() == status


def test_mosaic_keeps_every_image() -> None:
    images = np.arange(4 * 2 * 3.0).reshape(4, 2, 3)
    tiled = demo.mosaic(images, 2)
    assert tiled.shape == (2 * 3 - 1, 2 * 4 - 1)
    np.testing.assert_array_equal(tiled[3:, 4:], images[3])
    assert np.isnan(tiled[2]).all()
    colour = demo.mosaic(np.stack([images] * 3, axis=-1), 2)
    np.testing.assert_array_equal(colour[:2, 4:, 1], images[1])
