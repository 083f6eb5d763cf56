"""A time budget is wall time from the start of a fit to its model, whatever the machine does."""

import math
import time

import numpy as np
import pytest

from keyhole import Autoencoder, Denoiser, Generator, TrainingConfig
from keyhole.cli import run
from keyhole.core.progress import Clock, clock, wall_clock, while_time_is_left
from keyhole.data.images import open_images
from keyhole.modalities.tiles.source import NoiseEstimates
from keyhole.model.nets.unet import UNet
from keyhole.report.images import render_denoising
from keyhole.training.config import PARTS, Pace, rate_at
from keyhole.training.loop import Run


def seconds_of(work):
    began = time.monotonic()
    result = work()
    return time.monotonic() - began, result


def test_without_a_budget_there_is_no_end_and_the_schedule_goes_by_steps():
    pace = Pace(Clock(time.monotonic()), most=7, judged=10)
    assert clock().left() == math.inf
    assert [pace.at(step) for step in range(8)] == list(range(8))
    assert (pace.parts, pace.planned(3)) == (7, 7)
    assert clock().passing()() == 0.0


def test_fits_inside_others_count_from_the_outer_start():
    with wall_clock(reserved=0.25) as outer:
        outer.allow(100.0)
        with wall_clock(reserved=0.5):
            assert clock() is outer
            assert clock().reserved_s() == pytest.approx(75.0)
        assert clock().reserved_s() == pytest.approx(25.0)
    assert clock().left() == math.inf


def paced(monkeypatch, seconds, most=10**6):
    """A pace whose steps take these seconds on a clock of our own, and its shares."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pace = Pace(Clock(0.0, budget_s=100.0), most, judged=0)
    pace.start()
    shares, step = [], 0
    while (not shares or shares[-1] < PARTS) and step < 10_000:
        now[0] += seconds(now[0])
        step += 1
        shares.append(pace.at(step))
    return now[0], shares


def test_a_machine_that_grows_slow_half_way_ends_on_time(monkeypatch):
    """Steps take ten times as long from second 30 on: the schedule goes on faster, never back."""
    ended, shares = paced(monkeypatch, lambda now: 0.1 if now < 30 else 1.0)
    assert 90 <= ended <= 96
    assert shares[-1] == PARTS
    assert (np.diff(shares) > 0).all()


def test_the_learning_rate_of_a_run_by_the_clock_comes_down_only_in_the_end():
    rates = [rate_at(step, 1_000, timed=True) for step in (0, 49, 50, 750, 800, 950, 999)]
    assert rates == pytest.approx([0.02, 1.0, 1.0, 1.0, 0.5, 0.02, 0.02])
    assert rate_at(0, 1, timed=True) == 1.0


@pytest.mark.parametrize("slow_from", [30, 70, 85, 999])
def test_the_learning_rate_has_come_down_whenever_the_machine_grows_slow(monkeypatch, slow_from):
    """Steps take forty times as long from that second on: four seconds of a hundred."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pace = Pace(Clock(0.0, budget_s=100.0), 10**6, judged=0)
    pace.start()
    rates, at, step = [], pace.at(0), 0
    while at < PARTS:
        rates.append(rate_at(pace.end_of_step(at), PARTS, timed=True))
        now[0] += 0.1 if now[0] < slow_from else 4.0
        step += 1
        at = pace.at(step)
    assert rates[-1] == pytest.approx(0.02)
    assert max(rates) == 1.0
    down = rates[rates.index(1.0) :]
    assert down == sorted(down, reverse=True)


def test_steps_that_are_done_sooner_than_the_budget_end_the_run(monkeypatch):
    ended, shares = paced(monkeypatch, lambda now: 0.1, most=50)
    assert ended == pytest.approx(5.0)
    assert len(shares) == 50


def test_a_slow_machine_does_not_make_a_fit_take_longer(rng, monkeypatch):
    """Takes four seconds: the budget. Every step takes a tenth of a second more than measured."""
    step = Run._step
    monkeypatch.setattr(Run, "_step", lambda *given: (time.sleep(0.1), step(*given))[1])
    model = Autoencoder(training=TrainingConfig(time_budget_s=4.0), random_state=0)
    taken, _ = seconds_of(lambda: model.fit(rng.normal(size=(1_500, 6))))
    assert taken < 1.3 * 4.0
    assert model.model_.history.ended == "the time budget was spent"
    assert 5 < model.model_.history.steps[-1] <= 40
    assert model.model_.history.rate[-1] < 0.1 * max(model.model_.history.rate)  # it has come down
    assert any("time budget ended training" in finding.text for finding in model.findings_)
    assert "was still learning" in model.verdict_


def test_a_budget_that_is_too_small_for_anything_ends_soon_with_a_finding(rng):
    model = Autoencoder(training=TrainingConfig(time_budget_s=0.001), random_state=0)
    taken, _ = seconds_of(lambda: model.fit(rng.normal(size=(200, 4))))
    assert taken < 5
    assert model.model_.history.steps[-1] == 1
    assert any(finding.code == "KH005" for finding in model.findings_)
    assert np.isfinite(model.score_samples(rng.normal(size=(5, 4)))).all()


def test_the_prior_of_a_generator_is_fitted_within_the_budget(rng):
    """Takes six seconds, the budget; a diffusion prior alone takes ten without one."""
    training = TrainingConfig(time_budget_s=6.0, members=1)
    generator = Generator(Autoencoder(training=training), random_state=0)
    taken, _ = seconds_of(lambda: generator.fit(rng.normal(size=(3_000, 5))))
    assert taken < 1.3 * 6.0
    assert generator.autoencoder_.model_.prior.kind in {"diffusion", "mixture"}
    assert len(generator.sample(7)) == 7


def test_a_denoiser_compares_with_filters_within_the_budget(rng):
    """Takes eight seconds, the budget: without one it takes minutes."""
    pytest.importorskip("skimage")
    pytest.importorskip("pywt")
    clean = np.cumsum(np.cumsum(rng.normal(size=(160, 160)), 0), 1) / 20
    denoiser = Denoiser(
        training=TrainingConfig(time_budget_s=8.0, batch=2), noise=1.0, random_state=0
    )
    taken, _ = seconds_of(lambda: denoiser.fit(clean + rng.normal(size=clean.shape)))
    assert taken < 2 * 8.0
    assert denoiser.comparison_.pixels > 0
    assert denoiser.verdict_


def test_as_much_is_done_as_there_is_time_for(monkeypatch):
    """Each item takes three seconds of a clock of our own; two are kept for what follows."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def done(budget_s, times=1.0):
        now[0] = 0.0
        with wall_clock(reserved=0.2) as here:
            here.allow(budget_s)
            return [(item, now.__setitem__(0, now[0] + 3.0))[0]
                    for item in while_time_is_left(range(9), times)]  # fmt: skip

    assert done(10.0) == [0, 1]
    assert done(15.0) == [0, 1, 2, 3]
    assert done(15.0, times=2.0) == [0, 1, 2]
    assert done(0.0) == [0]
    assert done(None) == list(range(9))


def test_images_that_there_is_no_time_to_measure_are_left_out_and_it_is_said(rng, monkeypatch):
    """Takes three seconds: an image takes .3 to measure, and .8 are there for all."""
    pytest.importorskip("skimage")
    pytest.importorskip("pywt")
    unit = NoiseEstimates.unit
    monkeypatch.setattr(NoiseEstimates, "unit", lambda *given: (time.sleep(0.3), unit(*given))[1])
    noisy = list(10 * np.cumsum(rng.normal(size=(12, 24, 24)), 1) + rng.normal(size=(12, 24, 24)))
    training = TrainingConfig(time_budget_s=2.0, batch=2)
    denoiser = Denoiser(net=UNet([4]), training=training, noise=1.0, random_state=0)
    denoiser.fit(noisy)
    left_out = 12 - denoiser.model_.rows
    assert left_out >= 9
    texts = [f.text for f in denoiser.findings_ if f.code == "KH016"]
    assert len(texts) == 1
    assert f"{left_out} more images" in texts[0]
    assert "images were left out" in denoiser.verdict_
    with wall_clock() as here:
        here.allow(0.0)
        page = render_denoising(denoiser, open_images(noisy))
    assert "0 of 12 images: the time budget was spent." in page
    assert "0 of 12" not in render_denoising(denoiser, open_images(noisy[:6]))


def test_a_run_with_a_budget_goes_on_from_its_checkpoint(rng, tmp_path):
    x, training = rng.normal(size=(300, 4)), TrainingConfig(time_budget_s=1.5)
    path = str(tmp_path / "run.part")

    def killed(event):
        if event.step > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Autoencoder(training=training, random_state=0).fit(x, checkpoint=path, on_evaluate=killed)
    notes = []
    model = Autoencoder(training=training, random_state=0)
    model.fit(x, checkpoint=path, on_evaluate=lambda event: notes.append(event.note))
    assert notes[0].startswith("resuming at step")
    assert model.model_.history.ended


def test_the_command_line_counts_from_its_start_to_the_written_page(tmp_path, capsys):
    """Takes five seconds: the budget."""
    rng = np.random.default_rng(0)
    lines = ["a,b,c", *(f"{a:.3f},{b:.3f},{a + b:.3f}" for a, b in rng.normal(size=(2_000, 2)))]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    out = str(tmp_path / "rows.keyhole")
    command = ["fit", str(tmp_path / "rows.csv"), "-o", out, "--time-budget", "5"]
    taken, code = seconds_of(lambda: run(command))
    assert code == 0
    assert taken < 3 * 5  # benchmarks.budget measures closer, on a machine of its own
    assert (tmp_path / "rows.report.html").exists()
    assert "wrote" in capsys.readouterr().err
