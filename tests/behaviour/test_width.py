"""width="auto": an ordered code is trained once, and its held-out curve chooses the width."""

import numpy as np
import pandas as pd
import pytest

from keyhole.autoencoder.estimator import Autoencoder
from keyhole.core.robust import intrinsic_dimension
from keyhole.model.bottlenecks import Plain, Variational
from keyhole.training import TrainingConfig


def factors(rank=3, rows=1_200, wide=12, noise=0.2):
    """Twelve columns that come from three normal factors."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, wide))
    values += noise * rng.normal(size=(rows, wide))
    return pd.DataFrame(values, columns=[f"c{i}" for i in range(wide)])


@pytest.fixture(scope="module")
def model():
    return Autoencoder(Plain("auto"), training=TrainingConfig(600, members=1), random_state=0).fit(
        factors()
    )


def test_three_factors_behind_twelve_columns_are_found(model):
    assert 2 <= model.model_.width_choice.width <= 5
    assert model.model_.network.width == model.model_.width_choice.width
    assert model.transform(factors()).shape[1] == model.model_.width_choice.width


def test_a_choice_shows_the_curve_that_it_rests_on(model):
    choice = model.model_.width_choice
    nats = np.array(choice.nats)
    assert len(nats) == choice.start
    assert 4 <= choice.start <= 11
    assert nats[0] > nats[2] + 1  # three dimensions tell much more than one
    assert nats[choice.width - 1] <= nats.min() + choice.tolerance
    assert (nats[: choice.width - 1] > nats.min() + choice.tolerance).all()
    assert choice.why.startswith(f"width {choice.width}: held-out error ")
    assert 2 < choice.two_nn < 8  # noise fills all twelve
    assert 2 < choice.likelihood < 8


def test_the_setting_stays_auto_and_a_kept_model_has_the_width_and_why(model, tmp_path):
    assert model.bottleneck.width == "auto"
    model.save(tmp_path / "m.keyhole")
    again = Autoencoder.load(tmp_path / "m.keyhole")
    assert again.model_.width_choice == model.model_.width_choice
    assert again.bottleneck.width == "auto"
    pd.testing.assert_frame_equal(again.transform(factors()), model.transform(factors()))


def test_a_width_that_was_told_is_no_choice():
    model = Autoencoder(Plain(2), training=TrainingConfig(2, members=1), random_state=0).fit(
        factors(rows=60)
    )
    assert model.model_.width_choice is None


@pytest.mark.parametrize("wide", [2, 3])
def test_a_narrow_table_has_a_width_below_its_columns(wide):
    table = factors(1, 80, wide)
    part = Variational("auto")
    model = Autoencoder(part, training=TrainingConfig(20, members=1), random_state=0).fit(table)
    assert 1 <= model.model_.network.width < wide


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_the_dimension_of_points_is_estimated(rank):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(3_000, rank)) @ np.linalg.qr(rng.normal(size=(8, rank)))[0].T
    for found in intrinsic_dimension(points):
        assert found == pytest.approx(rank, rel=0.2)


@pytest.mark.parametrize("points", [np.zeros((0, 3)), np.ones((50, 3)), np.eye(3)])
def test_too_few_or_equal_points_have_no_dimension(points):
    assert np.isnan(intrinsic_dimension(points)).all()
