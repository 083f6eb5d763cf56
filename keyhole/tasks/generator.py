"""The Generator: new rows that pass for real ones, and draws for what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from keyhole.autoencoder.base import Estimator
from keyhole.autoencoder.estimator import Autoencoder
from keyhole.autoencoder.input_validation import as_fitted, blocks_of, learn_names, without_weights
from keyhole.autoencoder.sampling import (
    MAX_CODES,
    NO_PRIOR,
    reference_rows,
    sampler_of,
    with_prior,
)
from keyhole.core.environment import seed_from
from keyhole.core.progress import EvaluateCallback, clock, heard_if_verbose, stage, wall_clock
from keyhole.core.records import Batch
from keyhole.data import Source
from keyhole.errors import DataError, SettingError
from keyhole.modalities import Modality
from keyhole.model.bottlenecks import Variational
from keyhole.model.heads import Mixed
from keyhole.model.nets import MLP
from keyhole.model.priors import Diffusion, Mixture, Prior
from keyhole.store import Bundle
from keyhole.tasks.base import an_autoencoder, seeded
from keyhole.tasks.impute import Impute
from keyhole.tasks.realism import Judgement, judge
from keyhole.training import TrainingConfig

DIFFUSION_ROWS = 1_000  # with fewer, a diffusion prior is not worth its seconds
DIFFUSION_S = 3.0  # with less of a time budget left, a mixture does better
LARGE_NET_ROWS = 5_000
OWN_TRAINING = {"steps": 5_000, "members": 1, "learning_rate": 1e-3, "weight_decay": 3e-2}
PRIOR_SHARE = 0.25  # of a time budget
SECTION = "generate"  # of a bundle; with it reference rows are saved, so draws can be judged


def generating(X: Any, training: TrainingConfig | None = None) -> Autoencoder:
    """The model that a Generator fits to X where none is given; default settings are replaced.

    Values in bins, so that heaps and gaps within a column are kept; one net, as nobody asks for
    the spread between ensemble members.
    """
    settings, defaults = (training or TrainingConfig()).get_params(), TrainingConfig().get_params()
    settings |= {k: value for k, value in OWN_TRAINING.items() if settings[k] == defaults[k]}
    return Autoencoder(
        Variational(beta=0.5),
        net=MLP([256, 256]) if _is_large(X) else None,
        head=Mixed(continuous="binned"),
        training=TrainingConfig(**settings),
    )


def forget_rules(model: Autoencoder) -> None:
    """Have a fitted model draw rows without regard to rules between columns, from now on."""
    model.model_ = replace(model.model_, modality=model.model_.modality.without_rules())


def _is_large(X: Any) -> bool:
    """True where there are rows enough for a large net to do better than a small one."""
    if isinstance(X, str) and X == "-":
        return True  # can be read once
    rows = 0
    for block in learn_names(Autoencoder(), X).blocks(LARGE_NET_ROWS):
        rows += len(block)
        if rows >= LARGE_NET_ROWS:
            return True
    return False


@heard_if_verbose("fit", "sample", "impute", "judge")
class Generator(Estimator):
    """Fits an Autoencoder and a prior over its codes; then rows can be drawn.

    Drawn rows are legal: types, ranges, levels and grids of the training data hold. No row is
    copied, but that is no promise of privacy.

    Parameters
    ----------
    autoencoder : Autoencoder, default=None
        The model to fit: a template, which is cloned. None: one made for generation.
    prior : Prior, default=None
        The distribution of codes, from `keyhole.priors`. None: `Diffusion()` from 1,000 rows up,
        `Mixture()` below.
    rules : bool, default=True
        Drawn rows keep the rules between columns that all training rows keep, such as
        `checkin <= checkout` or `net + tax = gross`.
    random_state : int, RandomState or None, default=None
        The seed of training and of draws; it replaces that of `autoencoder`.
    verbose : bool, default=False
        Show progress and the verdict on standard error.

    Attributes
    ----------
    autoencoder_ : Autoencoder
        The fitted model, with the prior.
    verdict_, findings_, history_
        How far to trust the model, what the checks object to, and the training run.

    Raises
    ------
    SettingError
        For an invalid argument, or given values that training never met.
    DataError
        For rows that cannot be read, and for given columns that are unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from keyhole import Autoencoder, Generator, TrainingConfig
    >>> from keyhole.priors import Normal
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) * [1.0, 2.0, 3.0]
    >>> model = Autoencoder("variational", width=1, training=TrainingConfig(steps=20))
    >>> generator = Generator(model, prior=Normal(), random_state=0).fit(X)
    >>> new = generator.sample(5)
    >>> new.shape, bool(new.max() <= X.max())
    ((5, 3), True)
    """

    autoencoder_: Autoencoder

    def __init__(
        self,
        autoencoder: Autoencoder | None = None,
        *,
        prior: Prior | None = None,
        rules: bool = True,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.autoencoder = autoencoder
        self.prior = prior
        self.rules = rules
        self.random_state = random_state
        self.verbose = verbose

    @without_weights
    @wall_clock()
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        checkpoint: str | None = None,
        on_evaluate: EvaluateCallback | None = None,
        on_data_ready: Callable[[Modality, Source, int], None] | None = None,
    ) -> Self:
        """Learn from the rows of a frame, an array or a path; `y` is ignored.

        The callbacks are those of `Autoencoder.fit`. Standard input can be read once, so the prior
        is then fitted to the reference rows. Raises: DataError, SettingError, FileError, FitError.
        """
        template = generating(X) if self.autoencoder is None else self.autoencoder
        model = seeded(template, "Generator", self.random_state, self.verbose)
        with wall_clock(reserved=PRIOR_SHARE):
            self.autoencoder_ = model.fit(
                X, checkpoint=checkpoint, on_evaluate=on_evaluate, on_data_ready=on_data_ready
            )
        if not self.rules:
            forget_rules(self.autoencoder_)
        return self._with_prior(None if isinstance(X, str) and X == "-" else X)

    @classmethod
    def from_fitted(
        cls,
        autoencoder: Autoencoder,
        *,
        prior: Prior | None = None,
        rows: Any = None,
        rules: bool = True,
        random_state: Any = 0,
    ) -> Self:
        """The generator of a fitted Autoencoder, without training; the Autoencoder stays as it is.

        It draws from `prior`, fitted to the codes of `rows` (those of the fit), else of the
        model's reference rows; without both, from the prior that the model has, else from a
        mixture. Raises: SettingError where there is neither a prior nor a row to fit one to.
        """
        check_is_fitted(an_autoencoder(autoencoder, "Generator.from_fitted"))
        generator = cls(autoencoder, prior=prior, rules=rules, random_state=random_state)
        generator.autoencoder_ = copy(autoencoder)
        if not rules:
            forget_rules(generator.autoencoder_)
        if prior is None and rows is None:
            sampler_of(generator.autoencoder_)  # has a prior, or fits a mixture
            return generator
        return generator._with_prior(rows)

    def sample(
        self, n: int = 1, given: Mapping[str, Any] | None = None, *, gaps: bool = True
    ) -> Any:
        """`n` new rows, in the kind that fit was given; all with the `given` values.

        `gaps`: cells are missing as in rows like them. Equal `random_state`, equal rows. Raises:
        DataError for a column, SettingError for a value that training never met.
        """
        check_is_fitted(self, "autoencoder_")
        model = self.autoencoder_
        table = sampler_of(model).rows(n, self._seed(), given, gaps=gaps, rules=self.rules)
        return as_fitted(model, table)

    def interpolate(self, a: Any, b: Any, steps: int = 8) -> Any:
        """`steps` rows that lead from row `a` to row `b`: what is expected of codes in between.

        `a` and `b` are frames or arrays of one row.
        """
        check_is_fitted(self, "autoencoder_")
        model = self.autoencoder_
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
            raise SettingError(f"steps={steps!r:.40}: give a whole number from 2 up")
        ends = [np.asarray(model.transform(row), np.float32) for row in (a, b)]
        if any(len(end) != 1 for end in ends):
            raise DataError(
                f"interpolate expects one row for each end, got {[len(end) for end in ends]}"
            )
        share = np.linspace(0, 1, steps, dtype=np.float32)[:, None]
        path = torch.from_numpy((1 - share) * ends[0] + share * ends[1])
        return model.inverse_transform(sampler_of(model).nearest(path).numpy())

    def impute(self, X: Any, draws: int = 5) -> list[Any]:
        """`draws` copies of X without gaps; what was missing is drawn anew in each.

        Columns are drawn one group after the other, each given those before, so that draws belong
        together; nets take turns, so that they differ by what the model does not know.
        """
        check_is_fitted(self, "autoencoder_")
        task = Impute(self.autoencoder_, draws=draws, seed=self._seed(), rules=self.rules)
        return task.copies(X)

    def judge(self, n: int | None = None, *, target: str | None = None) -> Judgement:
        """Five judgements of `n` drawn rows, beside reference rows that trained and that did not.

        None: as many as there are reference rows of training. Raises: SettingError for none.
        """
        check_is_fitted(self, "autoencoder_")
        fitted = self.autoencoder_.model_
        modality = fitted.modality
        if (why_not := modality.supports("judge")) is not None:
            raise SettingError(why_not)
        train = reference_rows(fitted.reference, held_out=False)
        held_out = reference_rows(fitted.reference, held_out=True)
        if train is None or held_out is None or not len(held_out):
            raise SettingError("this model has no reference rows: fit it again")
        stage("generating rows to compare")
        drawn = sampler_of(self.autoencoder_).rows(
            n or max(len(train), 1_000), self._seed(), rules=self.rules
        )
        tables = *map(modality.decode_observed, (train, held_out)), drawn
        return judge(*map(modality.comparable, tables), target=target)

    @classmethod
    def _of_bundle(cls, bundle: Bundle) -> Self:
        """The generator with the saved prior, or a mixture over the reference rows."""
        return cls.from_fitted(Autoencoder.load(bundle))

    def _sections(self) -> dict[str, Any]:
        return {SECTION: {}}

    def _with_prior(self, X: Any) -> Self:
        """Fit the prior to the codes of these rows; None: of the model's reference rows."""
        fitted = self.autoencoder_.model_
        if X is not None:
            batches = self._training_rows(X)
        elif (batch := reference_rows(fitted.reference, held_out=False)) is not None:
            batches = iter([batch])
        else:
            raise SettingError(NO_PRIOR)
        prior = self.prior
        if prior is None:
            many = fitted.rows >= DIFFUSION_ROWS and clock().left() > DIFFUSION_S
            prior = Diffusion() if many else Mixture()
        self.autoencoder_.model_ = with_prior(fitted, batches, prior, self._seed())
        return self

    def _training_rows(self, X: Any) -> Iterator[Batch]:
        """The rows that the first net trained on, or a fair share of them where they are many."""
        fitted = self.autoencoder_.model_
        share, rng = min(1.0, MAX_CODES / max(fitted.rows, 1)), np.random.default_rng(0)
        for start, rows in blocks_of(self.autoencoder_, X):
            trained = fitted.trained_on(rows, start)
            chosen = np.flatnonzero(trained & (rng.random(len(rows)) < share))
            yield fitted.modality.encode(rows, start).take(torch.from_numpy(chosen))

    def _seed(self) -> int:
        return seed_from(self.random_state)
