"""Optimisers, schedules and clipping: step by step against PyTorch's, with the same gradients."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest

import eagerconv as ec
from eagerconv import func, optim, schedule, tree

rng = np.random.default_rng(0)
W, B = rng.standard_normal((3, 4)), rng.standard_normal(3)
X, Y = rng.standard_normal((5, 4)), rng.standard_normal((5, 3))

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {"lr": 0.1}),
    "SGD with momentum": ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    "SGD with Nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "Adam": ("Adam", {"lr": 0.1}),
    "Adam with decay": ("Adam", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.2}),
    "AdamW": ("AdamW", {"lr": 0.1}),
    "AdamW with decay": ("AdamW", {"lr": 0.1, "weight_decay": 0.3}),
    "RMSProp": ("RMSProp", {"lr": 0.1}),
    "RMSProp with all": (
        "RMSProp", {"lr": 0.05, "alpha": 0.9, "eps": 1e-4, "momentum": 0.7, "centered": True, "weight_decay": 0.1}
    ),
}  # fmt: skip


def loss(p: Any, x: Any, y: Any) -> Any:
    return ec.mse_loss(ec.linear(x, p["w"], p["b"]), y)


def fresh() -> dict[str, ec.Tensor]:
    return {"w": ec.tensor(W, requires_grad=True), "b": ec.tensor(B, requires_grad=True)}


@pytest.mark.parametrize("name", CASES)
def test_steps_against_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    kind, options = CASES[name]
    p, functional = fresh(), fresh()
    q = [torch.tensor(a, requires_grad=True) for a in (W, B)]
    ours, other = getattr(optim, kind)(p.values(), **options), getattr(optim, kind)(functional, **options)
    theirs = getattr(torch.optim, {"RMSProp": "RMSprop"}.get(kind, kind))(q, **options)
    for _ in range(12):
        for optimizer, value in (
            (ours, loss(p, X, Y)),
            (theirs, torch.nn.functional.mse_loss(torch.nn.functional.linear(torch.tensor(X), *q), torch.tensor(Y))),
        ):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        other.step(func.grad(lambda p: loss(p, X, Y))(tree.map(ec.Tensor.detach, functional)))
    for mine, again, expected in zip(p.values(), functional.values(), q, strict=True):
        np.testing.assert_allclose(mine.numpy(), expected.detach().numpy(), rtol=1e-10)
        np.testing.assert_array_equal(mine.numpy(), again.numpy())


def test_complex_parameters_against_pytorch() -> None:
    torch = pytest.importorskip("torch")
    z = np.array([1 + 2j, -0.5j])
    p, q = ec.tensor(z, requires_grad=True), torch.tensor(z, requires_grad=True)
    ours, theirs = optim.Adam(p, lr=0.1), torch.optim.Adam([q], lr=0.1)
    for _ in range(4):
        for optimizer, value in ((ours, (abs(p * p - 1) ** 2).sum()), (theirs, ((q * q - 1).abs() ** 2).sum())):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=1e-10)


def test_errors() -> None:
    p = fresh()
    for options, message in (
        ({"lr": -1}, r"lr must be a number in \[0, inf\)"), ({"lr": 1, "momentum": -0.1}, "momentum must be a number in"),
        ({"lr": 1, "nesterov": True}, "nesterov=True needs a momentum above 0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            optim.SGD(p, **options)
    with pytest.raises(ValueError, match="weight_decay must be a number in"):
        optim.AdamW(p, weight_decay=-1)
    with pytest.raises(ValueError, match=r"params\[1\] must be a leaf Tensor that requires a gradient"):
        optim.SGD([p["w"], W], lr=1)
    with pytest.raises(ValueError, match=r"gradient of params\[1\] must have its shape \(3,\), not \(1,\)"):
        optim.SGD(p, lr=1).step({"w": None, "b": np.ones(1)})
    with pytest.raises(ValueError, match=r"grads: expected the keys \['w', 'b'\], got \['w'\]"):
        optim.SGD(p, lr=1).step({"w": None})
    with pytest.raises(ValueError, match="the state is one of 1 parameters, here are 2"):
        optim.SGD(p, lr=1).load_state_dict(optim.SGD([p["w"]], lr=1).state_dict())


def test_parameters_without_gradients_stay() -> None:
    p = fresh()
    optimizer = optim.Adam(p, lr=1)
    optimizer.step({"w": None, "b": np.ones(3)})
    np.testing.assert_array_equal(p["w"].numpy(), W)
    np.testing.assert_allclose(p["b"].numpy(), B - 1)
    assert optimizer.state_dict()["state"][0] == {}


def test_an_optimiser_that_trains_nothing_warns() -> None:
    p = fresh()
    optimizer = optim.SGD(p, lr=1)
    p["w"], p["b"] = p["w"].detach() * 0.5, p["b"].detach() * 0.5  # others from now on
    for leaf in p.values():
        leaf.requires_grad = True
    loss(p, X, Y).backward()
    with pytest.warns(UserWarning, match=r"no parameter has a gradient.*very Tensors.*p\['w'\] = .*new optimiser"):
        optimizer.step()
    copied = copy.deepcopy(fresh())
    optimizer = optim.Adam(copied, lr=1)
    with pytest.warns(UserWarning, match="no parameter has a gradient"):
        optimizer.step({"w": None, "b": None})
    np.testing.assert_array_equal(copied["w"].numpy(), W)


@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, 0.1), lambda p: optim.AdamW(p, 0.1, weight_decay=0.3)])
def test_a_parameter_that_stands_twice_is_stepped_once(make: Any) -> None:
    def run(p: Any, tied: Any) -> Any:
        optimizer = make(p)
        for _ in range(3):
            optimizer.zero_grad()
            (loss({"w": tied(p), "b": p["b"]}, X, Y) + (tied(p) ** 2).sum()).backward()
            optimizer.step()
        assert len(optimizer.state_dict()["state"]) == 2
        return p

    once = run(fresh(), lambda p: p["w"])
    w = ec.tensor(W, requires_grad=True)
    twice = run({"w": w, "b": fresh()["b"], "decoder": [w, {"again": w}]}, lambda p: p["decoder"][0])
    for name in ("w", "b"):
        np.testing.assert_array_equal(once[name].numpy(), twice[name].numpy())


def test_gradients_at_all_places_of_a_parameter_are_added() -> None:
    def tied() -> Any:
        w = ec.tensor(W, requires_grad=True)
        return {"encoder": w, "decoder": w}

    def objective(p: Any) -> Any:
        return ((X @ p["encoder"].T) @ p["decoder"]).sum() + (p["decoder"] ** 3).sum()

    p, q, r = tied(), tied(), tied()
    objective(p).backward()
    optim.SGD(p, lr=0.1).step()
    optim.SGD(q, lr=0.1).step(func.grad(objective)(q))  # one of each place
    objective(r).backward()
    grads, norm = optim.clip_by_norm(tree.map(lambda leaf: 1.0 * leaf.grad, r), np.inf)
    assert norm == pytest.approx(np.linalg.norm(r["encoder"].grad.numpy()), rel=1e-12)
    optim.SGD(r, lr=0.1).step(optim.clip_by_value(grads, 1e9))  # the sum already, at each place
    for other in (q, r):
        np.testing.assert_allclose(other["encoder"].numpy(), p["encoder"].numpy(), rtol=1e-12)
    with pytest.raises(ValueError, match=r"gradient of params\[0\] must have its shape \(3, 4\), not \(4,\)"):
        optim.SGD(p, lr=0.1).step({"encoder": np.ones((3, 4)), "decoder": np.ones(4)})


# ----- Schedules -----


def test_schedules_drive_the_rate() -> None:
    w = ec.tensor(10.0, requires_grad=True)
    optimizer = optim.SGD(w, lr=schedule.step(1.0, at=(2, 3), factor=0.5))
    seen = []
    for _ in range(4):
        before = w.item()
        optimizer.step(np.asarray(1.0))
        seen.append(before - w.item())
    assert seen == [1.0, 1.0, 0.5, 0.25]


@pytest.mark.parametrize("steps", [7, 100])
def test_schedules_against_pytorch(steps: int) -> None:
    torch = pytest.importorskip("torch")
    lr_scheduler = torch.optim.lr_scheduler

    def rates(make: Any) -> list[float]:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
        other = make(optimizer)
        found = []
        for _ in range(steps):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            other.step()
        return found

    for ours, theirs in (
        (schedule.step(0.4, 3, 0.5), lambda o: lr_scheduler.StepLR(o, 3, 0.5)),
        (schedule.step(0.4, (2, 5)), lambda o: lr_scheduler.MultiStepLR(o, [2, 5])),
        (schedule.cosine(0.4, steps, 0.1), lambda o: lr_scheduler.CosineAnnealingLR(o, steps, 0.1)),
        (schedule.exponential(0.4, 1, 0.36), lambda o: lr_scheduler.ExponentialLR(o, 0.9)),
        (
            schedule.warm_up(0.4, 5),
            lambda o: lr_scheduler.LambdaLR(o, lambda done: min(1.0, (done + 1) / 5)),
        ),
        (
            schedule.one_cycle(0.4, steps, 0.3),
            lambda o: lr_scheduler.OneCycleLR(o, 0.4, total_steps=steps, pct_start=0.3, cycle_momentum=False),
        ),
    ):
        np.testing.assert_allclose([ours(n) for n in range(steps)], rates(theirs), rtol=1e-9)


@pytest.mark.parametrize(
    "rate",
    [
        schedule.step(0.8, at=2), schedule.step(0.8, at=(1, 3)), schedule.exponential(1.0, 5, 0.1), schedule.cosine(1.0, 5),
        schedule.warm_up(0.5, 3), schedule.warm_up(schedule.cosine(1.0, 5, 0.1), 3), schedule.one_cycle(1.0, 6, rise=0.5),
    ],
)  # fmt: skip
def test_optimisers_with_schedules_are_pickled_and_copied(rate: Any) -> None:
    def step(optimizer: Any) -> None:
        optimizer.step({"w": np.full((3, 4), 0.5), "b": np.ones(3)})

    optimizer = optim.SGD(fresh(), lr=rate, momentum=0.5)
    step(optimizer)
    copies = [pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)]
    for _ in range(4):
        for one in (optimizer, *copies):
            step(one)
    for one in copies:
        for p, q in zip(one.params, optimizer.params, strict=True):
            assert p is not q
            np.testing.assert_array_equal(p.numpy(), q.numpy())
    assert [pickle.loads(pickle.dumps(rate))(n) for n in range(9)] == [rate(n) for n in range(9)]


def test_schedule_errors() -> None:
    with pytest.raises(ValueError, match="cosine: steps must be an int of at least 1, not 0"):
        schedule.cosine(0.1, 0)


# ----- Clipping -----


def test_clip_by_norm() -> None:
    torch = pytest.importorskip("torch")
    grads = {"w": ec.tensor(W), "z": [ec.tensor([3 + 4j])]}
    clipped, norm = optim.clip_by_norm(grads, 2.0)
    assert norm == pytest.approx(math.sqrt((W**2).sum() + 25))
    np.testing.assert_allclose(clipped["z"][0], np.array([3 + 4j]) * 2 / norm)
    assert optim.clip_by_norm(grads, 100.0)[0] is grads
    p = torch.tensor(W, requires_grad=True)
    p.grad = torch.tensor(W)
    torch.nn.utils.clip_grad_norm_([p], 0.5)
    np.testing.assert_allclose(optim.clip_by_norm([ec.tensor(W)], 0.5)[0][0], p.grad.numpy(), rtol=1e-5)
    assert math.isnan(optim.clip_by_norm([ec.tensor([np.nan])], 1.0)[1])
    for clip in (optim.clip_by_norm, optim.clip_by_value):
        with pytest.raises(ValueError, match=r"must be a number in \(0, inf\], not 0"):
            clip(grads, 0)


def test_clip_by_value() -> None:
    np.testing.assert_array_equal(optim.clip_by_value([ec.tensor(W)], 0.3)[0], np.clip(W, -0.3, 0.3))


def test_a_centered_rmsprop_survives_rounding() -> None:
    p = ec.tensor(np.full(1000, 1.0, "f"), requires_grad=True)
    optimizer = optim.RMSProp([p], lr=1e-3, alpha=0.9, centered=True)
    for _ in range(300):  # the variance of equal gradients is zero but for rounding, which may make it negative
        optimizer.step([np.full(1000, 0.7, "f")])
    assert np.isfinite(p.data).all()
