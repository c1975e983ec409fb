"""Recorded computations: what CuPy is asked for and in which order, and a whole training step on a card."""

from __future__ import annotations

from types import SimpleNamespace

import fake_cuda
import numpy as np
import pytest

import eagerconv as ec
from eagerconv.kernels_gpu import cuda


class Script:
    """`cupy.cuda` as far as recording goes: it writes down what happens."""

    def __init__(self):
        self.events, self.current, self.allocators = [], "caller", []
        script = self

        class Stream:
            def __init__(self, name="own", non_blocking=False):
                self.name, self.blocks = name, not non_blocking

            def __enter__(self):
                self.before, script.current = script.current, self.name

            def __exit__(self, *error):
                script.current = self.before

            def record(self):
                return f"event of {self.name}"

            def wait_event(self, event):
                script.events.append(f"{self.name} waits for {event}")

            def synchronize(self):
                script.events.append("synchronize")

            def begin_capture(self):
                assert not self.blocks, "the default stream and those that wait for it can't be captured"
                script.events.append("begin")

            def end_capture(self):
                script.events.append("end")
                return SimpleNamespace(launch=lambda stream: script.events.append(f"launch on {stream.name}"))

        class Allocator:
            def __init__(self, malloc):
                self.malloc = malloc

            def __enter__(self):
                script.allocators.append(self.malloc)

            def __exit__(self, *error):
                script.allocators.pop()

        self.Stream, self.using_allocator = Stream, Allocator
        self.MemoryPool = lambda: SimpleNamespace(malloc="own pool")
        self.get_current_stream = lambda: Stream(self.current)


def scripted():
    runtime, script = object.__new__(cuda.CupyRuntime), Script()
    runtime.xp = SimpleNamespace(cuda=script)
    return runtime, script


def test_a_recording_has_its_own_stream_and_memory_and_waits_for_the_caller():
    runtime, script = scripted()

    def function():
        script.events.append(f"run on {script.current}, {script.allocators}")
        return 7

    replay, result = runtime.record(function, 2)
    run = "run on own, ['own pool']"
    assert result == 7
    assert script.events == ["own waits for event of caller", run, run, "synchronize", "begin", run, "end"]
    assert (script.current, script.allocators) == ("caller", [])
    script.events.clear()
    replay()
    assert script.events == ["own waits for event of caller", "launch on own", "caller waits for event of own"]


def test_a_failure_ends_the_recording_and_is_told():
    runtime, script = scripted()
    calls = iter([None, RuntimeError("reads a value")])

    def function():
        if error := next(calls):
            raise error

    with pytest.raises(RuntimeError, match="reads a value"):
        runtime.record(function, 1)
    assert script.events[-2:] == ["begin", "end"]
    assert (script.current, script.allocators) == ("caller", [])


def test_products_that_cupy_refuses_to_record_are_told(monkeypatch):
    def refuse(function, warmup):
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")

    monkeypatch.setattr(cuda, "_runtime", SimpleNamespace(record=refuse))
    with pytest.raises(RuntimeError, match="cuBLAS; use convolutions of one tap in place of `linear`"):
        ec.cuda_graph(lambda: None)
    with pytest.raises(ValueError, match="warmup must be an int of at least 1, not 0"):
        ec.cuda_graph(lambda: None, warmup=0)


@pytest.mark.parametrize(("function", "told"), [
    (lambda x: x + ec.asarray(np.ones(3)).to("cuda"), "an array of the CPU goes to the GPU"),
    (lambda x: x.to("cpu"), "an array of the GPU is read on the CPU"),
    (lambda x: x * 2 if x.sum() > 0 else x, "captur"),
    (lambda x: x[np.array([0, 2])], "operation not permitted when stream is capturing"),
])  # fmt: skip
def test_what_a_repetition_could_not_do_is_refused(place, function, told):
    """CUDA says the last two itself; a copy it would record, with a place on the host that is free by then."""
    if isinstance(place, fake_cuda.Card) and told.startswith("operation"):
        pytest.skip("what CuPy keeps of the copy of an index spoils this process")
    x = ec.asarray(place.put(np.arange(3.0)))
    with pytest.raises(Exception, match=told):
        ec.cuda_graph(lambda: function(x))
    assert ec.asarray(np.ones(3)).to("cuda").to("cpu").sum().item() == 3  # and all goes on


def test_a_training_step_trains_when_it_is_repeated(place):
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((2, 3, 6, 6)).astype("f"), rng.standard_normal((2, 4, 4, 4)).astype("f")

    def train(put, repeat):
        w = ec.asarray(put(rng_filters.copy()))
        w.requires_grad = True
        bias = ec.asarray(put(np.zeros(4, "f")))
        bias.requires_grad = True
        images, wanted = ec.asarray(put(x)), ec.asarray(put(target))
        optimizer = ec.optim.SGD([w, bias], lr=0.05)

        def step():
            optimizer.zero_grad()
            loss = ec.mean((ec.conv2d(images, w, bias=bias, activation="relu") - wanted) ** 2)
            loss.backward()
            optimizer.step()
            return loss

        return repeat(step)

    rng_filters = rng.standard_normal((4, 3, 3, 3)).astype("f")
    plain = train(np.array, lambda step: [float(step()) for _ in range(6)])

    def recorded(step):
        graph = ec.cuda_graph(step, warmup=2)
        first = float(graph.result)
        return [first, *(float(graph()) for _ in range(3))]

    np.testing.assert_allclose(train(place.put, recorded)[1:], plain[3:], rtol=1e-4)
