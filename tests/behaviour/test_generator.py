"""A Generator draws rows that could have been real, and says what it cannot draw."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from keyhole.autoencoder.estimator import Autoencoder
from keyhole.autoencoder.input_validation import open_rows
from keyhole.errors import DataError, KeyholeWarning, SettingError
from keyhole.model.bottlenecks import Plain, ResidualVQ, TopK, Variational
from keyhole.model.heads import Mixed
from keyhole.model.nets import LinearNet
from keyhole.model.priors import Diffusion, Mixture, Normal
from keyhole.tasks import AnomalyDetector, Generator
from keyhole.training import Masking, TrainingConfig

CITIES = ["Rome", "Bonn", "Oslo"]


def shop(rows=300):
    """Orders: whole numbers, prices in cents, levels, days, a gap in a quarter of `weight`."""
    rng = np.random.default_rng(0)
    city = rng.choice(CITIES, rows, p=[0.5, 0.3, 0.2])
    penalty = (rng.gamma(3.0, 10.0, rows) + 20 * (city == "Oslo")).round(2)
    weight = np.where(rng.random(rows) < 0.25, np.nan, penalty / 7 + rng.normal(size=rows))
    return pd.DataFrame(
        {
            "price": penalty,
            "items": rng.poisson(4.0, rows) + 1,
            "city": city,
            "paid": rng.random(rows) < 0.8,
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 90, rows), "D"),
            "weight": weight,
            "country": "IT",
        }
    )


def small(bottleneck=None, steps=150, **parts):
    bottleneck = Variational(3, beta=0.5) if bottleneck is None else bottleneck
    head = parts.pop("head", Mixed(continuous="binned"))
    return Autoencoder(
        bottleneck, head=head, training=TrainingConfig(steps, members=1), random_state=0, **parts
    )


@pytest.fixture(scope="module")
def generator():
    """Once for all: the number of normals is chosen on 20,000 codes, which takes seconds."""
    return Generator(small(), prior=Mixture(), random_state=0).fit(shop())


def emptied(table, row):
    """The table with a row of gaps."""
    table = table.astype(object)
    table.loc[row] = None
    return table


def again(generator, seed=0):
    return generator.set_params(random_state=seed)


# rows


def test_rows_are_legal(generator):
    known, drawn = shop(), generator.sample(400)
    assert len(drawn) == 400
    assert drawn.columns.tolist() == [c for c in known if c != "country"] or "country" in drawn
    for name in drawn:
        assert drawn[name].dtype == known[name].dtype, name
    assert set(drawn["city"]) <= set(CITIES)
    assert drawn["items"].between(known["items"].min(), known["items"].max()).all()
    assert drawn["price"].between(known["price"].min(), known["price"].max()).all()
    np.testing.assert_allclose(drawn["price"], drawn["price"].round(2), atol=1e-9)
    assert drawn["day"].between(known["day"].min(), known["day"].max()).all()
    assert (drawn["day"] == drawn["day"].dt.normalize()).all()
    observed = drawn["weight"].dropna()
    assert observed.between(known["weight"].min(), known["weight"].max()).all()


def test_rows_are_like_the_training_rows(generator):
    known, drawn = shop(), again(generator).sample(2_000)
    shares = drawn["city"].value_counts(normalize=True)
    for city, share in known["city"].value_counts(normalize=True).items():
        assert shares[city] == pytest.approx(share, abs=0.1)
    assert drawn["price"].median() == pytest.approx(known["price"].median(), rel=0.15)
    assert drawn["weight"].isna().mean() == pytest.approx(0.25, abs=0.1)


def test_gaps_can_be_left_out(generator):
    drawn = generator.sample(200, gaps=False)
    assert not drawn.isna().any().any()


def test_a_column_that_never_varies_is_drawn_as_it_is(generator):
    drawn = generator.sample(20)
    assert "country" not in drawn or set(drawn["country"]) == {"IT"}


def test_equal_seeds_draw_equal_rows_and_others_do_not(generator):
    one = again(generator, 3).sample(30)
    pd.testing.assert_frame_equal(again(generator, 3).sample(30), one)
    assert not again(generator, 4).sample(30).equals(one)


@pytest.mark.parametrize("n", [0, -1, 2.5, True, "many"])
def test_a_number_of_rows_that_is_none_is_refused(generator, n):
    with pytest.raises(SettingError, match="ask for a whole number of rows from 1 up"):
        generator.sample(n)


def test_one_row_is_a_frame_of_one_row(generator):
    assert generator.sample().shape[0] == 1


def test_an_array_comes_back_as_an_array():
    x = np.random.default_rng(0).normal(size=(60, 3))
    made = Generator(small(steps=5), prior=Normal(), random_state=0).fit(x)
    drawn = made.sample(7)
    assert isinstance(drawn, np.ndarray)
    assert drawn.shape == (7, 3)
    assert np.isfinite(drawn).all()


@pytest.mark.parametrize("bottleneck", [Plain(3), TopK(6, k=2), ResidualVQ(3, size=8)])
def test_any_bottleneck_can_draw_and_interpolate(bottleneck):
    known = shop(80)
    made = Generator(small(bottleneck, 5), prior=Mixture(2), random_state=0).fit(known)
    assert len(made.sample(9)) == 9
    path = made.interpolate(known.head(1), known.tail(1), steps=4)
    assert len(path) == 4
    assert set(path["city"]) <= set(CITIES)


# given


def test_what_is_given_is_kept_and_the_rest_goes_with_it(generator):
    drawn = again(generator).sample(200, {"city": "Oslo"})
    assert set(drawn["city"]) == {"Oslo"}
    free = again(generator).sample(1_000)
    assert drawn["price"].median() > free["price"].median() + 5
    pair = generator.sample(20, {"city": "Rome", "items": 4, "paid": True})
    assert set(pair["items"]) == {4}
    assert pair["paid"].all()


def test_a_price_that_is_given_is_kept_to_the_cent(generator):
    assert set(generator.sample(10, {"price": 31.25})["price"]) == {31.25}


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"citty": "Rome"}, DataError, "no such column; did you mean 'city'?"),
        (
            {"city": "Oslp"},
            SettingError,
            "not in the training data; did you mean 'Oslo'?",
        ),
        ({"price": 1e6}, SettingError, "the training data range from"),
        ({"price": "dear"}, SettingError, "given price='dear'"),
        ({"items": 2.5}, SettingError, "given items=2.5: the column has the type int64"),
    ],
)
def test_what_is_given_and_cannot_be_is_refused(generator, given, error, said):
    with pytest.raises(error) as fault:
        generator.sample(5, given)
    assert said in str(fault.value)


def test_what_is_given_and_is_rare_is_warned_of():
    """Many rows are asked for that all hold the least of 500 numbers."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=500)
    table = pd.DataFrame({"a": a, "b": a + 0.01 * rng.normal(size=500), "c": a - 1})
    head = Mixed(continuous="gaussian")
    made = Generator(small(Variational(1), 400, head=head), prior=Normal(), random_state=0)
    made.fit(table)
    with pytest.warns(KeyholeWarning, match="the given values are rare in this model"):
        drawn = made.sample(20_000, {"a": float(a.min())})
    assert len(drawn) == 20_000
    assert drawn["b"].mean() < -2


# between rows, and gaps


def test_a_path_leads_from_one_row_to_the_other():
    table = shop()
    model = small(Plain(4), 400, head=Mixed()).fit(table)
    made = Generator.from_fitted(model, prior=Normal())
    a, b = table.nsmallest(1, "price"), table.nlargest(1, "price")
    path = made.interpolate(a, b, steps=5)
    assert len(path) == 5
    for end, row in ((path.iloc[0], a), (path.iloc[-1], b)):
        rebuilt = model.inverse_transform(model.transform(row)).iloc[0]
        assert end["price"] == pytest.approx(rebuilt["price"], rel=1e-3)
        assert end["city"] == rebuilt["city"]
    rises = np.diff(path["price"])
    assert (rises > 0).all()
    assert path["price"].iloc[-1] - path["price"].iloc[0] > 20


@pytest.mark.parametrize("steps", [1, 0, 2.5, True])
def test_a_path_has_two_rows_at_least(generator, steps):
    with pytest.raises(SettingError, match="give a whole number from 2 up"):
        generator.interpolate(shop(1), shop(1), steps)


def test_a_path_leads_between_one_row_each(generator):
    with pytest.raises(DataError, match=r"one row for each end, got \[2, 1\]"):
        generator.interpolate(shop(2), shop(1))


def test_draws_for_gaps_differ_there_and_keep_what_was_seen(generator):
    table = shop(40)
    table.loc[:9, "city"] = None
    copies = again(generator).impute(table, draws=4)
    assert len(copies) == 4
    gaps = table.isna()
    for copy in copies:
        assert not copy[["weight", "city"]].isna().any().any()
        assert set(copy["city"]) <= set(CITIES)
        for name in table:
            there = ~gaps[name]
            assert (copy.loc[there, name] == table.loc[there, name]).all(), name
    weights = np.stack([copy.loc[gaps["weight"], "weight"] for copy in copies])
    assert (weights.std(0) > 0).mean() > 0.9
    twice = again(generator).impute(table, draws=4)
    pd.testing.assert_frame_equal(twice[2], copies[2])


@pytest.mark.parametrize("draws", [0, 1_001, 2.5, True])
def test_a_number_of_draws_that_is_none_is_refused(generator, draws):
    with pytest.raises(SettingError, match="draws="):
        generator.impute(shop(5), draws=draws)


def test_a_row_without_any_cell_and_a_level_never_met_are_drawn_for_all_the_same(generator):
    table = emptied(shop(3), 0)
    table["city"] = [None, "Kyiv", None]
    copy = generator.impute(table, draws=1)[0]
    assert np.isfinite(copy["weight"].astype(float)).all()
    assert copy["city"].iloc[1] == "Kyiv"
    assert copy["city"].iloc[2] in CITIES


# keeping, and models that were fitted otherwise


def test_a_generator_that_was_kept_draws_the_same_again(generator, tmp_path):
    generator.save(tmp_path / "g.keyhole")
    loaded = again(Generator.load(tmp_path / "g.keyhole"), 5)
    wanted = again(generator, 5)
    pd.testing.assert_frame_equal(loaded.sample(50), wanted.sample(50))
    loaded, wanted = again(loaded, 6), again(wanted, 6)
    pd.testing.assert_frame_equal(
        loaded.sample(50, {"city": "Bonn"}), wanted.sample(50, {"city": "Bonn"})
    )


def test_a_diffusion_prior_is_kept_too(tmp_path):
    prior = Diffusion(hidden=32, rounds=100)
    made = Generator(small(steps=20), prior=prior, random_state=0).fit(shop())
    made.save(tmp_path / "g.keyhole")
    loaded = again(Generator.load(tmp_path / "g.keyhole"))
    pd.testing.assert_frame_equal(loaded.sample(20), again(made).sample(20))


def test_a_detectors_bundle_draws_from_a_prior_over_the_rows_it_remembers(tmp_path):
    detector = AnomalyDetector(small(Plain(3), 20, head=Mixed()), false_alarm_rate=0.1)
    detector.fit(shop())
    detector.save(tmp_path / "d.keyhole")
    model = Autoencoder.load(tmp_path / "d.keyhole")
    assert model.model_.prior is None
    made = Generator.from_fitted(model)
    assert made.autoencoder_.model_.prior is not None
    assert set(made.sample(50)["city"]) <= set(CITIES)


def test_a_model_without_prior_or_rows_says_what_to_do(tmp_path):
    small(Plain(3), 5).fit(shop(60)).save(tmp_path / "a.keyhole")
    model = Autoencoder.load(tmp_path / "a.keyhole")
    for ask in (lambda: Generator.from_fitted(model), lambda: model.sample(3)):
        with pytest.raises(SettingError, match=r"no prior.*no reference rows.*keyhole fit --for"):
            ask()


def test_a_generator_of_a_fitted_model_leaves_it_as_it_is():
    model = small(steps=20).fit(shop())
    generator = Generator.from_fitted(model, prior=Normal(), rows=shop())
    assert generator.autoencoder_.model_.network is model.model_.network
    assert model.model_.prior is None
    assert generator.autoencoder_.model_.prior.kind == "normal"
    assert len(generator.sample(5)) == 5


def test_standard_input_is_read_once_and_its_reference_rows_give_the_prior(tmp_path, monkeypatch):
    shop().to_csv(tmp_path / "shop.csv", index=False)
    with open(tmp_path / "shop.csv") as rows:
        monkeypatch.setattr("sys.stdin", rows)
        generator = Generator(small(steps=2), random_state=0).fit("-")
    assert len(generator.sample(5)) == 5


def test_a_diffusion_prior_on_few_rows_is_refused():
    with pytest.raises(SettingError, match="a diffusion prior needs at least 200 rows, but there"):
        Generator(small(steps=2), prior=Diffusion(), random_state=0).fit(shop(150))


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_to_learn_from_are_refused(rows):
    with pytest.raises(DataError, match="a minimum of"):
        Generator(small(steps=2), random_state=0).fit(shop(rows))


def test_a_table_of_gaps_and_constants_can_be_drawn_from():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "gappy": np.where(rng.random(80) < 0.9, np.nan, rng.normal(size=80)),
            "same": 7.0,
            "free": rng.normal(size=80),
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KeyholeWarning)  # whether the code collapses is not asked
        made = Generator(small(steps=5), prior=Normal(), random_state=0).fit(table)
    drawn = made.sample(300)
    assert "same" not in drawn or set(drawn["same"]) == {7.0}
    assert drawn["gappy"].isna().mean() == pytest.approx(0.9, abs=0.1)
    assert drawn["free"].notna().all()


# likelihood


def test_a_code_without_noise_has_no_likelihood():
    model = small(Plain(2), 2).fit(shop(60))
    with pytest.raises(SettingError, match="a plain code has none: fit with Variational"):
        model.log_likelihood(shop(5))


@pytest.mark.parametrize("samples", [0, -1, 2.5])
def test_a_number_of_samples_that_is_none_is_refused(generator, samples):
    with pytest.raises(SettingError, match="samples="):
        generator.autoencoder_.log_likelihood(shop(5), samples=samples)


def test_a_row_of_gaps_has_no_likelihood(generator):
    table = emptied(shop(3), 1)
    found = generator.autoencoder_.log_likelihood(table, samples=20)
    assert np.isnan(found).tolist() == [False, True, False]


def test_the_likelihood_of_a_linear_gaussian_model_is_the_exact_one():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(500, 2)) @ rng.normal(size=(2, 5)) + 0.5 * rng.normal(size=(500, 5))
    model = Autoencoder(
        Variational(2), net=LinearNet(), training=TrainingConfig(600, members=1), random_state=0
    ).fit(values)
    head = model.model_.network.head.features["gaussian"]
    weight, bias = head.to_location.weight[0].detach(), head.to_location.bias[0, 0].detach()
    likelihood = model.model_.network.decode(torch.zeros(1, 1, 1, 2))
    scale = likelihood.groups[0].features.scale.detach().expand(1, 1, 5)[0, 0]
    exact = torch.distributions.MultivariateNormal(
        bias.double(), (weight @ weight.T + torch.diag(scale**2)).double()
    )
    cells = model.model_.modality.encode(open_rows(model, values).group(0)).numbers.double()
    found = model.log_likelihood(values[:50], samples=2_000)
    np.testing.assert_allclose(found, exact.log_prob(cells[:50]), atol=0.1)


def test_a_gap_leaves_the_marginal_of_the_other_cells():
    """Of a net that was trained to be given gaps: else its posterior there is far off."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=400)
    table = pd.DataFrame({"a": a, "b": a + 0.3 * rng.normal(size=400)})
    model = Autoencoder(
        Variational(1),
        training=TrainingConfig(400, members=1),
        random_state=0,
        corruption=Masking(),
    ).fit(table)
    gappy = table.head(50).assign(b=np.nan)
    found = model.log_likelihood(gappy, samples=500)
    cells = (gappy["a"] - table["a"].mean()) / table["a"].std()
    wanted = -0.5 * cells**2 - 0.5 * np.log(2 * np.pi)
    assert np.mean(np.abs(found - wanted)) < 0.4


def test_texts_of_moments_and_whole_numbers_are_written_and_given_as_they_were_read():
    rng = np.random.default_rng(0)
    moments = pd.Timestamp("2020-03-09 10:14:33") + pd.to_timedelta(np.arange(200), unit="s")
    frame = pd.DataFrame({"at": moments.strftime("%Y-%m-%d %H:%M:%S"), "x": rng.normal(size=200)})
    frame["on"] = rng.choice(["0.0", "1.0"], 200)
    model = Autoencoder(Variational(2), training=TrainingConfig(20, members=1), random_state=0)
    made = Generator(model, prior=Normal(), random_state=0).fit(frame)
    rows = made.sample(50, given={"on": "1.0"})
    assert rows["at"].str.fullmatch(r"2020-03-09 10:\d\d:\d\d").all()
    assert set(rows["on"].astype(float)) == {1.0}
