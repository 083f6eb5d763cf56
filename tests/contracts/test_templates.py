"""An autoencoder given to a task is a template: cloned, never changed, never reused."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from keyhole import AnomalyDetector, Autoencoder, Generator, Imputer, TrainingConfig
from keyhole.errors import SettingError
from keyhole.model.bottlenecks import Plain, Variational
from keyhole.model.priors import Normal

X = np.random.default_rng(0).normal(size=(120, 4)) @ np.ones((4, 4))
SHORT = TrainingConfig(2, members=1)
pytestmark = pytest.mark.filterwarnings("ignore::keyhole.errors.KeyholeWarning")
TASKS = {
    "detector": lambda model: AnomalyDetector(model, random_state=1),
    "generator": lambda model: Generator(model, prior=Normal(), random_state=1),
    "imputer": lambda model: Imputer(model, random_state=1),
}
FROM_FITTED = {
    "detector": AnomalyDetector.from_fitted,
    "generator": lambda model: Generator.from_fitted(model, prior=Normal(), rows=X),
    "imputer": Imputer.from_fitted,
}


def template(**arguments):
    return Autoencoder("variational", width=2, training=SHORT, random_state=0, **arguments)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("is_fitted", [False, True])
def test_a_task_fits_a_clone_and_leaves_its_template_alone(task, is_fitted):
    model = template()
    if is_fitted:
        model.fit(X)
    before = dict(vars(model))
    estimator = TASKS[task](model).fit(X)
    assert estimator.autoencoder_ is not model
    assert estimator.autoencoder_.random_state == 1  # the task's own, where it has one
    assert model.random_state == 0
    assert {name: vars(model)[name] is value for name, value in before.items()} == dict.fromkeys(
        before, True
    )
    assert hasattr(model, "model_") == is_fitted


@pytest.mark.parametrize("task", FROM_FITTED)
def test_a_task_on_a_fitted_model_trains_nothing_and_leaves_the_model_unchanged(task):
    model = template().fit(X)
    before, codes = dict(vars(model)), model.transform(X)
    estimator = FROM_FITTED[task](model)
    assert estimator.autoencoder_.model_.network is model.model_.network
    assert all(vars(model)[name] is value for name, value in before.items())
    np.testing.assert_array_equal(model.transform(X), codes)


def test_a_part_is_given_by_name_or_as_an_object():
    by_name, by_part = (
        Autoencoder(bottleneck, width=3, training=SHORT, random_state=0).fit(X).transform(X)
        for bottleneck in ("variational", Variational())
    )
    np.testing.assert_array_equal(by_name, by_part)
    assert by_name.shape == (120, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bottleneck": "variatonal"}, "there is no bottleneck 'variatonal'; choose from"),
        ({"net": "mpl"}, "there is no net 'mpl'; choose from"),
        ({"width": 0}, "width=0: expected a whole number from 1 up, or 'auto'"),
        ({"width": 2.5}, "width=2.5: expected a whole number"),
        ({"width": "wide"}, "width='wide': expected a whole number"),
        ({"head": 3}, "head=3: expected a Head or its name"),
    ],
)
def test_an_unknown_name_or_an_invalid_width_is_one_line(arguments, message):
    with pytest.raises(SettingError) as caught:
        Autoencoder(**arguments, training=SHORT).fit(X)
    assert message in str(caught.value)


def test_width_is_searched_on_a_bare_autoencoder():
    search = GridSearchCV(Autoencoder(training=SHORT, random_state=0), {"width": [1, 2]}, cv=2)
    assert search.fit(X).best_params_["width"] in {1, 2}
    assert search.best_estimator_.transform(X).shape[1] == search.best_params_["width"]


def test_width_is_set_and_cloned_as_any_argument_and_kept_with_the_model(tmp_path):
    model = clone(Autoencoder(Plain(), training=SHORT, random_state=0).set_params(width=3)).fit(X)
    assert model.bottleneck.width is None  # a part that was given is never changed
    model.save(tmp_path / "m.keyhole")
    loaded = Autoencoder.load(tmp_path / "m.keyhole")
    np.testing.assert_array_equal(loaded.transform(X), model.transform(X))
    assert loaded.transform(X).shape == (120, 3)


def test_a_fitted_model_keeps_the_parts_it_was_fitted_with(tmp_path):
    training = TrainingConfig(2, members=1)
    model = Autoencoder("plain", width=2, training=training, random_state=0).fit(X)
    training.steps = 900
    model.set_params(width=3)
    model.save(tmp_path / "m.keyhole")
    loaded = Autoencoder.load(tmp_path / "m.keyhole")
    assert loaded.training.steps == model.model_.parts.training.steps == 2
    assert loaded.bottleneck.width == 2
    np.testing.assert_array_equal(loaded.transform(X), model.transform(X))
