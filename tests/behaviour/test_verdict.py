"""After every fit the model says how far to trust it."""

import numpy as np

from keyhole import Autoencoder, Plan


def test_columns_that_tell_nothing_of_each_other_are_said_to(rng):
    model = Autoencoder(plan=Plan(60), random_state=0).fit(rng.normal(size=(300, 4)))
    assert "KH001" in {finding.code for finding in model.findings_}
    assert model.verdict_.startswith("look again: no better than the mean")


def test_rows_that_are_all_equal_get_constant_scores_and_are_said_to():
    model = Autoencoder(plan=Plan(20), random_state=0).fit(np.ones((60, 3)))
    assert "KH004" in {finding.code for finding in model.findings_}


def test_a_verbose_fit_tells_the_verdict_and_the_time_it_will_take(rng, capfd):
    causes = rng.normal(size=(400, 1))
    rows = np.hstack([causes + 0.1 * rng.normal(size=(400, 1)) for _ in range(5)])
    model = Autoencoder(plan=Plan(60), random_state=0, verbose=True).fit(rows)
    said = capfd.readouterr().err
    assert "60 steps, about" in said
    assert f"verdict   {model.verdict_}" in said
