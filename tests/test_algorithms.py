"""The table of algorithms and the choice among them: select, using, explain, the environment."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

import eagerconv as ec
from eagerconv import algorithms, geometry
from eagerconv.record import FEATURES, Request


def chosen(*args, **kwargs):
    return [e.chosen for e in ec.explain(ec.conv2d, *args, **kwargs)]


X, W = np.ones((2, 16, 12, 12)), np.ones((16, 16, 2, 2))  # too small for what does not sum directly


@pytest.mark.plans
def test_the_cheapest_algorithm_runs():
    assert chosen(X, W) == ["gemm"]
    assert chosen(np.ones((1, 1, 5, 5)), np.ones((1, 1, 3, 3))) == ["direct"]


@pytest.mark.plans
def test_using_requires_excludes_and_nests():
    with ec.using("direct"):
        assert chosen(X, W) == ["direct"]
        with ec.using("gemm"):
            assert chosen(X, W) == ["gemm"]
        assert chosen(X, W) == ["direct"]
    with ec.using(exclude=set(algorithms.names()) - {"direct"}):
        assert chosen(X, W) == ["direct"]
    with ec.using(require="gemm"):
        assert chosen(np.ones((1, 1, 5, 5)), np.ones((1, 1, 3, 3))) == ["gemm"]
    assert chosen(X, W, algorithm="direct") == ["direct"]


@pytest.mark.plans
def test_using_limits_the_workspace():
    def told(**policy):
        with ec.using(**policy):
            (told,) = ec.explain(ec.conv2d, X, W)
        return told.chosen, {c.name: c for c in told.candidates}

    needed = told()[1]["gemm"].workspace
    assert told(workspace=needed)[1]["gemm"].refused is None
    name, candidates = told(workspace=needed - 1)
    assert candidates["gemm"].refused.endswith(f"more than the {needed - 1:,} allowed")
    assert candidates[name].workspace < needed


@pytest.mark.plans
def test_using_is_restored_after_an_exception_and_stays_in_its_thread():
    seen = []
    with ec.using("direct"):
        thread = threading.Thread(target=lambda: seen.append(chosen(X, W)))
        thread.start()
        thread.join()
    assert seen == [["gemm"]]
    with pytest.raises(ValueError, match="filters must have 4 axes"), ec.using("direct"):
        ec.conv2d(X, W[0])
    assert chosen(X, W) == ["gemm"]


def test_a_forced_algorithm_that_cannot_raises_with_its_reason():
    filters = np.ones((16, 11, 11, 16, 2, 2))
    with pytest.raises(ec.AlgorithmError, match=r"forward .*gemm does not know unshared convolutions"):
        ec.conv2d(X, filters, unshared=True, algorithm="gemm")
    with pytest.raises(ec.AlgorithmError, match="fft does not compute in int64"), ec.using("fft"):
        ec.conv2d(X.astype(int), W.astype(int))
    with (
        pytest.raises(ec.AlgorithmError, match=r"gemm is excluded; .*direct is excluded"),
        ec.using(exclude=algorithms.names()),
    ):
        ec.conv2d(X, W)


def test_unknown_names_raise_and_tell_the_known_ones():
    with pytest.raises(ValueError, match=r"'winograd9'; there are 'gemm', .*'direct'"):
        ec.conv2d(X, W, algorithm="winograd9")
    with pytest.raises(ValueError, match="winograd9"), ec.using("winograd9"):
        pass


@pytest.mark.plans
def test_explain_tells_every_candidate_with_its_reason_and_the_gradients_too():
    w = ec.tensor(W, requires_grad=True)
    with ec.using(exclude=set(algorithms.names()) - {"direct"}):
        told = ec.explain(lambda: ec.conv2d(X, w).sum().backward())
    assert [e.slot for e in told] == ["y", "w"]
    reasons = {c.name: c.refused for c in told[0].candidates}
    assert (reasons["gemm"], reasons["direct"]) == ("is excluded", None)
    assert reasons["winograd"] == "is for filters of 3x3 taps, or 2 to 7 on one axis alone, not 2x2"
    assert "-> direct" in str(told)
    assert "no: is excluded" in str(told)
    refused = ec.explain(ec.conv2d, X.astype(int), W.astype(int), algorithm="fft")
    assert refused[0].chosen is None
    assert str(ec.explain(lambda: None)) == "no convolution was computed"


def test_the_environment_speaks_for_the_whole_process():
    call = "ec.conv2d, np.ones((2, 16, 24, 24)), np.ones((16, 16, 2, 2))"
    code = f"import eagerconv as ec, numpy as np; print(ec.explain({call})[0].chosen)"
    for value, expected in (
        ("direct", "direct"),
        ("+gemm", "gemm"),
        ("-gemm,-fft,-rows,-winograd_dwm", "direct"),
        ("-cudnn, -direct, gemm", "gemm"),
    ):
        environment = {**os.environ, "EAGERCONV_ALGORITHMS": value}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert run.stdout.strip() == expected


def test_a_feature_nobody_has_learnt_is_refused_by_every_algorithm():
    spec = geometry.forward("conv2d", 2, X.shape, W.shape, None, None, "valid", 1, True, 1, 1, False)
    for algorithm in algorithms.TABLE["cpu"]:
        slot = "y" if "y" in algorithm.slots else "x"
        request = Request(spec, slot, np.dtype(float), ((1, 1, 1, 1), (1, 1, 1, 1)), 1)
        assert algorithm.features <= FEATURES
        blind = replace(algorithm, features=algorithm.features - {"flipped"})
        assert blind.reason_against(request) == "does not know flipped convolutions"


def test_features_of_a_spec():
    def features(mode="valid", x=(1, 4, 9, 9), w=(4, 4, 3, 3), s=1, flip=False, d=1, g=1):
        return geometry.forward("conv2d", 2, x, w, None, None, mode, s, flip, d, g, False).features - {"2d"}

    assert features() == set()
    assert features(mode=1) == {"padded"}
    assert features(mode=((1, 0), (0, 0))) == {"padded", "asymmetric"}
    assert features(s=2, d=2, flip=True) == {"strided", "dilated", "flipped"}
    assert features(w=(4, 1, 3, 3), g=4) == {"grouped", "depthwise"}


def test_operands_that_do_not_fit_the_spec_never_reach_a_kernel():
    spec = geometry.forward("conv2d", 2, X.shape, W.shape, None, None, "valid", 1, True, 1, 1, False)
    for a, b in ((X[:, :, 1:], W), (X, W[1:]), (X, W.astype(np.float32))):
        with pytest.raises(ValueError, match="do not fit"):
            algorithms.run(spec, "y", a, b)


@pytest.mark.plans
def test_an_algorithm_of_other_machines_can_be_excluded_and_says_so_when_required():
    with ec.using(exclude=("cudnn",)):
        assert chosen(X, W) == ["gemm"]
    with ec.using(require="cudnn"), pytest.raises(ec.AlgorithmError, match="this machine has no cudnn, only gemm"):
        ec.conv2d(X, W)
