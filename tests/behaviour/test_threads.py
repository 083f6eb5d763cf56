"""Small steps run on one thread, large ones on more; what the caller set is respected."""

import os
import subprocess
import sys
from threading import Barrier, Thread, get_ident

import numpy as np
import pytest
import scipy.linalg  # noqa: F401, whose library has threads of its own
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from keyhole import AnomalyDetector, Autoencoder, Denoiser, Generator, TrainingConfig
from keyhole.core.environment import PAYS, pass_work, side_by_side, tell_threads, threads_for
from keyhole.modalities.tiles import mixture
from keyhole.modalities.tiles.estimate import estimate
from keyhole.model.nets.unet import UNet
from keyhole.nets import MLP
from keyhole.training.loop import Run


@pytest.fixture
def four_threads(monkeypatch):
    """Torch with four threads, whatever this machine has, and no word from the user."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def threads_of_steps(monkeypatch):
    """The numbers of threads that training steps ran on."""
    met, step = [], Run._step
    monkeypatch.setattr(
        Run, "_step", lambda *given: (met.append(torch.get_num_threads()), step(*given))[1]
    )
    return met


@pytest.mark.usefixtures("four_threads")
def test_threads_follow_the_work_and_are_put_back():
    for work, count in ((0, 1), (1.9 * PAYS, 1), (2 * PAYS, 2), (1e15, 4)):
        with threads_for(work):
            assert torch.get_num_threads() == count
        assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
def test_large_work_inside_small_work_gets_its_threads_but_never_more_than_the_caller_had():
    torch.set_num_threads(3)
    with threads_for(0):
        assert torch.get_num_threads() == 1
        with threads_for(1e15):
            assert torch.get_num_threads() == 3
        assert torch.get_num_threads() == 1
    with pytest.raises(ZeroDivisionError), threads_for(0):
        raise ZeroDivisionError
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("four_threads")
def test_parts_are_done_side_by_side_in_order_each_on_one_thread():
    all_inside = Barrier(4, timeout=10)

    def work(part):
        all_inside.wait()
        return part, torch.get_num_threads()

    assert list(side_by_side(work, range(8))) == [(part, 1) for part in range(8)]
    assert torch.get_num_threads() == 4
    torch.set_num_threads(1)
    assert list(side_by_side(lambda part: get_ident(), range(3))) == [get_ident()] * 3


@pytest.mark.usefixtures("four_threads")
def test_a_detector_gives_the_same_scores_on_any_number_of_threads(rng):
    x = rng.normal(size=(40_000, 3))
    detector = AnomalyDetector(Autoencoder(training=TrainingConfig(3)), random_state=0).fit(
        x[:300]
    )
    scores = detector.score_samples(x)
    assert torch.get_num_threads() == 4
    torch.set_num_threads(1)
    np.testing.assert_array_equal(detector.score_samples(x), scores)


@pytest.mark.usefixtures("four_threads")
def test_what_the_user_said_is_taken_exactly(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    tell_threads(2)
    with threads_for(0):
        assert torch.get_num_threads() == 2
    assert os.environ["OMP_NUM_THREADS"] == "2"


@pytest.mark.usefixtures("four_threads")
def test_a_small_net_trains_on_one_thread(rng, threads_of_steps):
    model = Autoencoder(training=TrainingConfig(3), random_state=0)
    AnomalyDetector(model, false_alarm_rate=0.1).fit(rng.normal(size=(60, 4)))
    assert set(threads_of_steps) == {1}
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
def test_a_large_net_trains_on_as_many_threads_as_pay(rng, threads_of_steps, monkeypatch):
    """About 10^9 multiply-adds in a step of 128 rows, so three threads."""
    monkeypatch.setattr("keyhole.core.environment.PAYS", 3e8)
    training = TrainingConfig(1, batch=128, members=1)
    Autoencoder(net=MLP([1024, 1024]), training=training).fit(rng.normal(size=(1_000, 10)))
    assert set(threads_of_steps) <= {2, 3, 4}
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
def test_every_kind_of_fit_puts_the_callers_threads_back(rng):
    x = rng.normal(size=(60, 4))
    generator = Generator(Autoencoder(training=TrainingConfig(2)), random_state=0).fit(x)
    generator.sample(3)
    generator.autoencoder_.score_samples(x)
    pytest.importorskip("skimage")
    noisy = 10 * np.cumsum(rng.normal(size=(24, 24)), 0) + rng.normal(size=(24, 24))
    training = TrainingConfig(2, batch=2)
    denoiser = Denoiser(net=UNet([4]), training=training, noise=1.0, random_state=0)
    denoiser.fit(noisy).transform(noisy)
    assert torch.get_num_threads() == 4


def algebra_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture
def two_algebra_threads(monkeypatch):
    """NumPy and SciPy with two threads, and no word from the user."""
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with threadpool_limits(2, user_api="blas"):
        if algebra_threads() != {2}:
            pytest.skip("this linear algebra has no threads")
        yield


@pytest.mark.usefixtures("two_algebra_threads")
def test_linear_algebra_has_one_thread_meanwhile_unless_the_user_says_otherwise(monkeypatch):
    with threads_for(0):
        with threads_for(1e15):
            assert algebra_threads() == {1}
        assert algebra_threads() == {1}
    assert algebra_threads() == {2}
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    with threads_for(0):
        assert algebra_threads() == {2}


@pytest.mark.usefixtures("two_algebra_threads")
def test_work_that_overlaps_in_two_threads_leaves_linear_algebra_as_it_was():
    both_inside, first_left = Barrier(2, timeout=10), Barrier(2, timeout=10)

    def second():
        both_inside.wait()
        with threads_for(0):
            first_left.wait()

    thread = Thread(target=second)
    thread.start()
    with threads_for(0):
        both_inside.wait()
        assert algebra_threads() == {1}
    first_left.wait()
    thread.join()
    assert algebra_threads() == {2}


@pytest.mark.usefixtures("two_algebra_threads")
def test_noise_is_measured_on_one_thread(rng, monkeypatch):
    """On two it took 10 s instead of 0.4 s beside a busy process."""
    by_component, met = mixture._by_component, set()
    monkeypatch.setattr(
        mixture,
        "_by_component",
        lambda *given: (met.update(algebra_threads()), by_component(*given))[1],
    )
    estimate(rng.normal(size=(32, 32)))
    assert met == {1}


def test_work_grows_with_rows_and_weights():
    assert pass_work(torch.nn.Linear(3, 2), 5) == 5 * (3 * 2 + 2)


AFTER_A_FORK = """
import os, signal, sys
import numpy as np
import torch
from keyhole import Autoencoder, TrainingConfig

torch.set_num_threads(2)
x = np.random.default_rng(0).normal(size=(300, 4))
model = Autoencoder(training=TrainingConfig(2), random_state=0).fit(x)
large = torch.rand(1_500, 1_500)
large @ large  # starts the threads of OpenMP, which a forked child has not
child = os.fork()
if child == 0:
    signal.alarm(100)  # else a child that hangs outlives the test
    large @ large
    print(torch.get_num_threads(), np.isfinite(model.score_samples(x)).all(), flush=True)
    os._exit(0)
_, status = os.waitpid(child, 0)
print(status, torch.get_num_threads())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_worker_that_is_forked_after_a_fit_does_not_hang():
    """Takes some seconds: a process of its own imports torch."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_"))}
    done = subprocess.run(
        [sys.executable, "-c", AFTER_A_FORK],
        env=env, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["1 True", "0 2"]


@pytest.mark.parametrize(("told", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(told, expected):
    env = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    env |= {"OMP_WAIT_POLICY": told} if told else {}
    code = "import keyhole, os; print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected
