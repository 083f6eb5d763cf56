"""After every fit the model says how far to trust it."""

import numpy as np
import pandas as pd

from keyhole import Autoencoder, TrainingConfig
from keyhole.bottlenecks import Plain


def test_columns_that_tell_nothing_of_each_other_are_said_to(rng):
    model = Autoencoder(training=TrainingConfig(60), random_state=0).fit(rng.normal(size=(300, 4)))
    assert "KH001" in {finding.code for finding in model.findings_}
    assert model.verdict_.startswith("look again: no better than the mean")


def test_rows_that_are_all_equal_get_constant_scores_and_are_said_to():
    model = Autoencoder(training=TrainingConfig(20), random_state=0).fit(np.ones((60, 3)))
    assert "KH004" in {finding.code for finding in model.findings_}


def test_a_verbose_fit_tells_the_verdict_and_the_time_it_will_take(rng, capfd):
    causes = rng.normal(size=(400, 1))
    rows = np.hstack([causes + 0.1 * rng.normal(size=(400, 1)) for _ in range(5)])
    model = Autoencoder(training=TrainingConfig(60), random_state=0, verbose=True).fit(rows)
    said = capfd.readouterr().err
    assert "60 steps, about" in said
    assert f"verdict   {model.verdict_}" in said


def test_a_column_predicted_worse_than_its_mean_is_named_and_the_verdict_counts_it(rng):
    angle = rng.uniform(0, 2 * np.pi, 800)
    circle = {"cos": np.cos(angle), "sin": np.sin(angle), "cos2": np.cos(2 * angle)}
    circle |= {"sin2": np.sin(2 * angle), "half": (angle > 3) + 0.1 * rng.normal(size=800)}
    frame = pd.DataFrame({name: v + 0.05 * rng.normal(size=800) for name, v in circle.items()})
    frame["wild"] = np.exp(2 * rng.normal(size=800)).astype(int)  # counts, of nothing else here
    model = Autoencoder(Plain(2), training=TrainingConfig(300), random_state=0).fit(frame)
    texts = [finding.text for finding in model.findings_ if finding.code == "KH015"]
    assert len(texts) == 1
    assert texts[0].startswith("'wild' (")
    assert model.verdict_.startswith("learned except 1 of 6 columns: ")
    assert model.model_.evidence["masked_skill"]["wild"] < -0.05


def test_of_counts_that_nothing_tells_no_model_claims_a_skill_or_lacks_one(rng):
    counts = rng.negative_binomial(2, 0.3, size=(600, 4))
    model = Autoencoder(training=TrainingConfig(200), random_state=0).fit(
        pd.DataFrame(counts).add_prefix("n")
    )
    for kind in ("masked_skill", "pca_masked_skill"):
        assert all(-0.1 < skill < 0.05 for skill in model.model_.evidence[kind].values())
