"""random_state, device, checkpoint and verbose mean the same on every estimator."""

import inspect

import numpy as np
import pytest

from keyhole import AnomalyDetector, Autoencoder, Denoiser, Generator, Imputer, TrainingConfig
from keyhole.bottlenecks import Variational
from keyhole.errors import SettingError
from keyhole.model.nets.unet import UNet
from keyhole.model.priors import Mixture

pytestmark = pytest.mark.filterwarnings("ignore::keyhole.errors.KeyholeWarning")
X = np.random.default_rng(0).normal(size=(60, 3))
GAPPY = np.where(X > 1, np.nan, X)
IMAGE = np.random.default_rng(0).normal(100, 5, (1, 16, 16)).astype(np.float32)
SMALL = UNet([4, 8])
PLAN = TrainingConfig(2, members=1, batch=8, device="cpu")


@pytest.fixture(autouse=True)
def _no_synthetic_images(monkeypatch):
    """Of so few pixels half the crops are drawn, which takes seconds and is not asked about."""
    monkeypatch.setattr("keyhole.modalities.tiles.tiles.MAX_SYNTHETIC", 0.0)


def inner(training):
    return Autoencoder(Variational(2), training=training)


# How each estimator is made with a plan, the rows it learns from, and what it then says of them.
ESTIMATORS = {
    "Autoencoder": (
        lambda training, **own: inner(training).set_params(**own),
        X,
        lambda fitted: fitted.score_samples(X),
    ),
    "AnomalyDetector": (
        lambda training, **own: AnomalyDetector(inner(training), false_alarm_rate=0.1, **own),
        X,
        lambda fitted: fitted.score_samples(X),
    ),
    "Generator": (
        lambda training, **own: Generator(inner(training), prior=Mixture(2), **own),
        X,
        lambda fitted: fitted.sample(5),
    ),
    "Imputer": (
        lambda training, **own: Imputer(inner(training), **own),
        X,
        lambda fitted: fitted.transform(GAPPY),
    ),
    "Denoiser": (
        lambda training, **own: Denoiser(
            net=SMALL, training=training, noise=5.0, fallback=False, **own
        ),
        IMAGE,
        lambda fitted: fitted.transform(IMAGE),
    ),
}
EVERY = pytest.mark.parametrize("name", ESTIMATORS)


@EVERY
def test_every_estimator_has_the_same_arguments(name):
    cls = type(ESTIMATORS[name][0](PLAN))
    own, fit = (inspect.signature(f).parameters for f in (cls.__init__, cls.fit))
    assert own["random_state"].default is None
    assert own["verbose"].default is False
    for argument in ("checkpoint", "on_evaluate", "on_data_ready"):
        assert fit[argument].default is None
        assert fit[argument].kind is inspect.Parameter.KEYWORD_ONLY


@EVERY
def test_equal_seeds_give_equal_answers_and_other_seeds_others(name):
    make, rows, answer = ESTIMATORS[name]
    first, again, other = (answer(make(PLAN, random_state=s).fit(rows)) for s in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@EVERY
def test_a_plans_device_is_used_and_one_that_is_absent_is_refused(name):
    make, rows, _ = ESTIMATORS[name]
    with pytest.raises(SettingError, match=r"device='warp' cannot be used here"):
        make(TrainingConfig(2, members=1, device="warp")).fit(rows)


@EVERY
def test_a_checkpoint_stands_until_the_model_is_saved(name, tmp_path):
    make, rows, answer = ESTIMATORS[name]
    path = tmp_path / "run.checkpoint"
    fitted = make(PLAN, random_state=0).fit(rows, checkpoint=str(path))
    assert path.is_file()
    again = make(PLAN, random_state=0).fit(rows, checkpoint=path)  # has nothing left to learn
    np.testing.assert_allclose(answer(again), answer(fitted), rtol=1e-6)
    again.save(tmp_path / "m.keyhole")
    assert not path.exists()


@pytest.mark.parametrize("name", ["Autoencoder", "AnomalyDetector", "Generator"])
def test_a_verbose_estimator_says_its_verdict_and_a_quiet_one_nothing(name, capfd):
    make, rows, _ = ESTIMATORS[name]
    make(PLAN).fit(rows)
    assert capfd.readouterr().err == ""
    estimator = make(PLAN, verbose=True)
    estimator.fit(rows)
    assert "verdict" in capfd.readouterr().err
    assert estimator.get_params()["verbose"] is True
