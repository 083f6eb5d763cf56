"""Numbers that only name a row are set aside; measurements that differ in every row are not."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from keyhole.autoencoder.estimator import Autoencoder
from keyhole.modalities import Schema
from keyhole.modalities.profile import Profile
from keyhole.modalities.tabular.guess import guess
from keyhole.training import TrainingConfig

ROWS = 600


def rng():
    return np.random.default_rng(0)


def phones():
    area = rng().choice([212, 415, 617, 702, 808, 917], ROWS)
    return area * 10**7 + np.random.default_rng(1).integers(0, 10**7, ROWS)


NAMES = {
    "eight digits": rng().integers(10**7, 10**8, ROWS),
    "ten digits": rng().integers(10**9, 10**10, ROWS),
    "leading zeros lost": rng().integers(0, 10**9, ROWS),
    "one bank": 37_040_044 * 10**8 + rng().integers(0, 10**8, ROWS),
    "phones": phones(),
    "32 bits": rng().integers(0, 2**32, ROWS),
    "63 bits": rng().integers(0, 2**63 - 1, ROWS),
    "signed 64 bits": rng().integers(-(2**63), 2**63 - 1, ROWS),
    "shuffled sequence": rng().permutation(ROWS) + 10_000,
    "shuffled with holes": rng().permutation(2 * ROWS)[:ROWS] + 500,
    "rising with holes": np.sort(rng().permutation(ROWS + 200)[:ROWS]) + 10_000,
    "as floats": rng().integers(10**7, 10**8, ROWS).astype(float),
}
MEASURES = {
    "amounts in cents": (rng().lognormal(9, 1, ROWS) * 100).astype(int),
    "large amounts": (rng().lognormal(14, 0.4, ROWS) * 100).astype(int),
    "incomes": rng().lognormal(10.8, 0.5, ROWS).astype(int),
    "normal incomes": rng().normal(550_000, 120_000, ROWS).astype(int),
    "sensor": rng().normal(size=ROWS),
    "sensor counts": rng().normal(2_000_000, 30_000, ROWS).astype(int),
    "epoch seconds": rng().integers(1_600_000_000, 1_700_000_000, ROWS),
    "epoch milliseconds": rng().integers(1_600_000_000_000, 1_700_000_000_000, ROWS),
    "a time axis": np.arange(5_000) * 60,
    "a shuffled design": rng().permutation(ROWS) * 25,
    "sizes of files": rng().lognormal(13, 2, ROWS).astype(int),
    "two humps": np.where(rng().random(ROWS) < 0.5, 10**8, 9 * 10**8)
    + np.random.default_rng(1).normal(0, 10**6, ROWS).astype(int),
    "repeated ids": rng().choice(rng().integers(10**7, 10**8, 50), ROWS),
    "few rows": rng().integers(10**7, 10**8, 15),
}


def kind_of(values, name="x"):
    profile = Profile(name)
    array = pa.array(values)
    profile.add(array)
    profile.sample = array
    return guess(profile)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_that_name_rows_are_set_aside(name):
    guessed = kind_of(NAMES[name])
    assert guessed.kind == "ignored"
    assert "an identifier" in guessed.reason
    assert "--kind x=number" in guessed.caution


@pytest.mark.parametrize("name", MEASURES)
def test_measurements_are_learnt_though_none_repeats(name):
    assert kind_of(MEASURES[name]).kind in {"number", "count"}


@pytest.mark.parametrize("seed", range(20))
def test_measurements_of_other_draws_are_learnt_too(seed):
    draw = np.random.default_rng(seed)
    sigma, middle = draw.uniform(0.2, 2), draw.uniform(5, 15)
    for values in (draw.lognormal(middle, sigma, ROWS), draw.normal(0, 1e6, ROWS),
                   draw.gamma(3, 1e5, ROWS), 1e6 * draw.beta(2, 2, ROWS)):  # fmt: skip
        assert kind_of(values.astype(np.int64)).kind in {"number", "count"}


@pytest.mark.parametrize("seed", range(20))
def test_account_numbers_of_other_draws_are_set_aside_too(seed):
    draw = np.random.default_rng(seed)
    length = int(draw.integers(7, 16))
    assert kind_of(draw.integers(10 ** (length - 1), 10**length, ROWS)).kind == "ignored"


def test_a_name_helps_where_rows_are_few():
    values = NAMES["eight digits"][:30]
    assert kind_of(values).kind == "number"
    assert kind_of(values, "account").kind == "ignored"
    assert kind_of(MEASURES["incomes"], "account").kind == "number"


def test_account_numbers_are_set_aside_in_a_fit_unless_a_kind_is_told():
    frame = pd.DataFrame({"acct": NAMES["eight digits"], "x": MEASURES["sensor"], "y": 1.0})
    frame["y"] = frame["x"] * 2
    training = TrainingConfig(2, members=1)
    model = Autoencoder(training=training, random_state=0).fit(frame)
    assert model.model_.modality.by_name["acct"].kind == "ignored"
    assert "an identifier" in model.model_.modality.reasons["acct"]
    told = Autoencoder(
        training=training, schema=Schema(kinds={"acct": "number"}), random_state=0
    ).fit(frame)
    assert told.model_.modality.by_name["acct"].kind == "number"


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_handful_of_numbers_is_no_identifier(rows):
    if rows:
        assert kind_of(NAMES["ten digits"][:rows]).kind != "ignored" or rows == 0
    else:
        assert kind_of(pa.array([], pa.int64())).reason == "has no values"
