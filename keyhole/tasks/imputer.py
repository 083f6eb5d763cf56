"""The Imputer: scikit-learn's transformer that fills gaps and leaves observed values alone."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from keyhole.autoencoder.base import Estimator
from keyhole.autoencoder.estimator import Autoencoder
from keyhole.autoencoder.input_validation import without_weights
from keyhole.core.environment import seed_from
from keyhole.core.progress import EvaluateCallback, heard_if_verbose
from keyhole.data import Source
from keyhole.errors import SettingError
from keyhole.modalities import Modality
from keyhole.store import Bundle, record
from keyhole.tasks.base import an_autoencoder, seeded
from keyhole.tasks.impute import MAX_DRAWS, Impute

SECTION = "impute"  # of a bundle


@dataclass(frozen=True)
class ImputerState:
    """The section `impute` of a manifest: how gaps are filled."""

    sample_posterior: bool = False
    rules: bool = True
    random_state: int | None = 0


@heard_if_verbose("fit", "transform")
class Imputer(OneToOneFeatureMixin, TransformerMixin, Estimator):
    """Fills the gaps of a table by an Autoencoder; observed values stay as they are.

    Columns of all kinds may have gaps: numbers, levels, dates, truth values. A column that the
    model does not learn from (an identifier, a column without any value) keeps its gaps.

    Parameters
    ----------
    autoencoder : Autoencoder, default=None
        The model to fit: a template, which is cloned and never changed. None: `Autoencoder()`.
    sample_posterior : bool, default=False
        False: a number's gap gets the mean that is expected there, a level's gap the likeliest
        level. True: gaps are drawn, so that filled values vary as real ones do. Draws with other
        values of `random_state` are multiple imputations: change it by `set_params`; no refit.
    rules : bool, default=True
        Filled values keep the rules between columns that all training rows keep, such as
        `checkin <= checkout`.
    random_state : int, RandomState or None, default=None
        The seed of training and of draws; it replaces that of `autoencoder`.
    verbose : bool, default=False
        Show progress and the verdict on standard error.

    Attributes
    ----------
    autoencoder_ : Autoencoder
        The fitted model.
    n_features_in_ : int
        The number of columns that `fit` saw.
    feature_names_in_ : ndarray of str
        The names of these columns.
    verdict_, findings_, history_
        How far to trust the model, what the checks object to, and the training run.

    Raises
    ------
    SettingError
        In `fit`, for an invalid argument.
    DataError
        For rows that cannot be read, or that have other columns than those of `fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from keyhole import Autoencoder, Imputer, TrainingConfig
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) * [1.0, 2.0, 3.0]
    >>> X[::10, 1] = np.nan
    >>> model = Autoencoder(width=1, training=TrainingConfig(steps=20))
    >>> full = Imputer(model, random_state=0).fit_transform(X)
    >>> full.shape, bool(np.isnan(full).any()), bool((full[1] == X[1]).all())
    ((200, 3), False, True)
    """

    autoencoder_: Autoencoder
    _needs_reference = False

    def __init__(
        self,
        autoencoder: Autoencoder | None = None,
        *,
        sample_posterior: bool = False,
        rules: bool = True,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.autoencoder = autoencoder
        self.sample_posterior = sample_posterior
        self.rules = rules
        self.random_state = random_state
        self.verbose = verbose

    @without_weights
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        checkpoint: str | None = None,
        on_evaluate: EvaluateCallback | None = None,
        on_data_ready: Callable[[Modality, Source, int], None] | None = None,
    ) -> Self:
        """Learn from the rows of a frame, an array or a path, with their gaps; `y` is ignored.

        The callbacks are those of `Autoencoder.fit`. Raises: DataError, SettingError, FileError,
        FitError.
        """
        self._check()
        template = Autoencoder() if self.autoencoder is None else self.autoencoder
        model = seeded(template, "Imputer", self.random_state, self.verbose)
        model.fit(X, checkpoint=checkpoint, on_evaluate=on_evaluate, on_data_ready=on_data_ready)
        return self._over(model)

    @classmethod
    def from_fitted(
        cls,
        autoencoder: Autoencoder,
        *,
        sample_posterior: bool = False,
        rules: bool = True,
        random_state: Any = 0,
    ) -> Self:
        """The imputer of a fitted Autoencoder, without training; the Autoencoder is not changed.

        Raises: SettingError for an invalid argument.
        """
        check_is_fitted(an_autoencoder(autoencoder, "Imputer.from_fitted"))
        imputer = cls(
            autoencoder, sample_posterior=sample_posterior, rules=rules, random_state=random_state
        )
        imputer._check()
        return imputer._over(copy(autoencoder))

    def transform(self, X: Any) -> Any:
        """X without gaps, in its own kind: an array for an array, else the same kind of frame.

        Types, labels and index of a frame stay as they are. Rows of a path come in the kind that
        `fit` was given. Raises: DataError, FileError.
        """
        check_is_fitted(self)
        self._check()
        seed = seed_from(self.random_state) if self.sample_posterior else 0
        task = Impute(self.autoencoder_, seed=seed, rules=self.rules)
        # Which net draws depends on the seed, so that draws differ by what the nets do not know.
        return task.copies(X, [seed % MAX_DRAWS if self.sample_posterior else None])[0]

    @classmethod
    def _of_bundle(cls, bundle: Bundle) -> Self:
        """The imputer with its own settings, or with defaults for a model without any."""
        state = record(ImputerState, bundle.sections.get(SECTION, {}), f"section {SECTION!r}")
        model = Autoencoder.load(bundle)
        return cls.from_fitted(model, **asdict(state))

    def _sections(self) -> dict[str, Any]:
        seed = self.random_state
        number = int(seed) if isinstance(seed, int | np.integer) else None
        return {SECTION: asdict(ImputerState(self.sample_posterior, self.rules, number))}

    def _over(self, model: Autoencoder) -> Self:
        """The imputer, which fills gaps by this fitted model."""
        self.autoencoder_ = model
        self.n_features_in_, self.feature_names_in_ = model.n_features_in_, model.feature_names_in_
        return self

    def _check(self) -> None:
        """Raises: SettingError for a flag that is no truth value."""
        for name in ("sample_posterior", "rules"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise SettingError(f"{name}={value!r:.40}: expected True or False")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags
