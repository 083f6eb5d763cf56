"""The Autoencoder: scikit-learn's front to one network, one loss, one fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, TypeVar

import numpy as np
import torch
from sklearn.base import TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from keyhole.autoencoder.base import Estimator
from keyhole.autoencoder.fit import Callbacks, Model, learn
from keyhole.autoencoder.input_validation import (
    PARTS,
    as_fitted,
    blocks_of,
    learn_names,
    parts_of,
    without_weights,
)
from keyhole.autoencoder.sampling import sampler_of
from keyhole.autoencoder.state import restore
from keyhole.core.environment import seed_from
from keyhole.core.outputs import Scratch
from keyhole.core.progress import EvaluateCallback, called_with_progress, heard_if_verbose
from keyhole.data import Source
from keyhole.data.frames import like_given
from keyhole.data.opening import numbers_of, random_access
from keyhole.data.source import weighted
from keyhole.errors import BundleError
from keyhole.modalities import Modality, Schema
from keyhole.modalities.prepared import FitOptions, Parts
from keyhole.model.bottlenecks import Bottleneck
from keyhole.model.heads import Head
from keyhole.model.nets import Net
from keyhole.store import Bundle, wrap_errors
from keyhole.training import Corruption, TrainingConfig
from keyhole.training.checkpoint import seed_for

A = TypeVar("A", bound="Autoencoder")


@heard_if_verbose("fit", "transform", "score_samples", "log_likelihood", "sample")
class Autoencoder(TransformerMixin, Estimator):
    """Learns a narrow code for each row of a table, and the distribution of rows given codes.

    Rows are those of a frame (pandas, polars, Arrow), an array, a CSV or Parquet path, or images.
    A part is given by its name or as an object with settings, such as `Variational(beta=2)`.

    Parameters
    ----------
    bottleneck : Bottleneck or str, default=None
        What makes the code, from `keyhole.bottlenecks`. None: "plain".
    width : int or "auto", default=None
        The number of code dimensions. "auto": chosen by held-out rows. None: that of the
        bottleneck.
    net : Net or str, default=None
        The layers, from `keyhole.nets`. None: "mlp" for tables, other nets for images and series.
    head : Head or str, default=None
        The likelihood of the values, from `keyhole.heads`. None: one that suits the bottleneck.
    corruption : Corruption or str, default=None
        What is done to rows before the net sees them, from `keyhole.corruptions`. None: masking,
        or what the bottleneck works best with.
    training : TrainingConfig, default=None
        Steps, learning rate, time budget, device. None: `TrainingConfig()`.
    schema : Schema, default=None
        What you say of the columns. None: all is guessed.
    random_state : int, RandomState or None, default=None
        The seed of all that is random. Equal seeds give equal models.
    verbose : bool, default=False
        Show progress and the verdict on standard error.

    Attributes
    ----------
    model_ : Model
        Network, learned columns, training history and checks in one frozen record.
    n_features_in_ : int
        The number of columns that `fit` saw.
    feature_names_in_ : ndarray of str
        The names of these columns.
    verdict_ : str
        One line on how far to trust the model.
    findings_ : list of Finding
        What the checks object to.
    history_ : frame
        Step, losses and learning rate of each evaluation.

    Raises
    ------
    SettingError
        In `fit`, for an invalid part, width, seed or training setting.
    DataError
        For rows that cannot be read, or that have other columns than those of `fit`.
    FitError
        Where training cannot go on.

    Examples
    --------
    >>> import numpy as np
    >>> from keyhole import Autoencoder, TrainingConfig
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) * [1.0, 2.0, 3.0]
    >>> model = Autoencoder(width=1, training=TrainingConfig(steps=20), random_state=0).fit(X)
    >>> codes = model.transform(X)
    >>> codes.shape, model.inverse_transform(codes).shape, model.score_samples(X).shape
    ((200, 1), (200, 3), (200,))
    """

    container_: str
    model_: Model
    modality_class_: type[Modality] | None = None  # of the rows that fit was given
    template_: Any = None
    n_features_in_: int
    feature_names_in_: np.ndarray

    def __init__(
        self,
        bottleneck: Bottleneck | str | None = None,
        *,
        width: int | str | None = None,
        net: Net | str | None = None,
        head: Head | str | None = None,
        corruption: Corruption | str | None = None,
        training: TrainingConfig | None = None,
        schema: Schema | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.bottleneck = bottleneck
        self.width = width
        self.net = net
        self.head = head
        self.corruption = corruption
        self.training = training
        self.schema = schema
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
        """Learn from the rows of a frame, an array, or a path; `y` is ignored.

        `checkpoint` is a file that survives a kill: the same call goes on from it; `save` removes
        it. `on_evaluate` is called at every evaluation with `step`, `steps`, `loss`, `held_out`,
        `rate` and `seconds`; where it returns True, training stops. What it raises ends `fit`.
        `on_data_ready` is called with table, source and rows before training.
        Raises: DataError, SettingError, FileError, FitError.
        """
        return fit_for(
            self, X, FitOptions(),
            checkpoint=checkpoint, on_evaluate=on_evaluate, on_data_ready=on_data_ready,
        )  # fmt: skip

    def transform(self, X: Any) -> Any:
        """Codes (row, code): an array for an array, else that kind of frame with `code_0`..."""
        codes = [self.model_.code(rows, start) for start, rows in blocks_of(self, X)]
        return like_given(np.concatenate(codes), self.get_feature_names_out(), X)

    def inverse_transform(self, codes: Any) -> Any:
        """The expected rows of these codes, in original units and in the kind fit was given.

        Ordered codes may be cut: their first dimensions are a code.
        """
        check_is_fitted(self)
        z = codes if isinstance(codes, np.ndarray) else numbers_of(codes)
        return as_fitted(self, self.model_.decode_codes(z))

    def score_samples(self, X: Any) -> np.ndarray:
        """Log p(x | code(x)) of each row in nats, higher = more normal; NaN where a row is empty.

        A gap counts as its column's typical value would, so it makes a row neither calm nor loud.
        """
        blocks = (self.model_.score_block(rows, start) for start, rows in blocks_of(self, X))
        return np.concatenate([-self.model_.row_nats(block).double().numpy() for block in blocks])

    def log_likelihood(self, X: Any, *, samples: int = 5_000) -> np.ndarray:
        """Log p(x) of each row in nats over its observed values, by importance sampling.

        For codes with noise. Raises: SettingError for others.
        """
        noise = torch.Generator().manual_seed(0)
        parts = [self.model_.marginal(*block, samples, noise) for block in blocks_of(self, X)]
        return np.concatenate(parts)

    def score(self, X: Any, y: Any = None) -> float:
        """The mean log-likelihood of the rows in nats."""
        return float(np.nanmean(self.score_samples(X)))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """`code_0`, `code_1`, ..."""
        check_is_fitted(self)
        return np.array([f"code_{i}" for i in range(self.model_.network.width)], dtype=object)

    def sample(self, n: int = 1) -> Any:
        """`n` new rows, in the kind that fit was given; `keyhole.Generator` has more to offer."""
        seed = seed_from(self.random_state)
        return as_fitted(self, sampler_of(self).rows(n, seed))

    @classmethod
    @wrap_errors("the manifest")
    def _of_bundle(cls, bundle: Bundle) -> Self:
        state, fitted = restore(bundle)
        reason = fitted.modality.supports("embed")
        if reason is not None:
            raise BundleError(f"{bundle.path}: {reason}")
        model = cls(**vars(fitted.parts), random_state=state.random_state)
        data = state.data
        model.container_, model.n_features_in_ = data.container, len(data.columns)
        model.feature_names_in_ = np.array(data.columns, dtype=object)
        model.model_ = fitted
        model.modality_class_ = type(fitted.modality)
        return model

    def _parts(self) -> Parts:
        """The parts as given, else those that the bottleneck works best with, else defaults."""
        given = {name: getattr(self, name) for name in PARTS}
        return parts_of(given, self.modality_class_, width=self.width)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags


def fit_for(
    model: A,
    X: Any,
    options: FitOptions,
    *,
    checkpoint: str | None,
    on_evaluate: EvaluateCallback | None,
    on_data_ready: Callable[[Modality, Source, int], None] | None,
) -> A:
    """Fit the Autoencoder as a task asks for; else as `Autoencoder.fit`."""
    source = X if hasattr(X, "blocks") else learn_names(model, X)
    parts = model._parts()
    parts.training.check()
    parts.schema.check()
    seed = seed_for(model.random_state, checkpoint)
    with Scratch() as scratch:
        source = weighted(random_access(source, scratch.folder), parts.schema.weight)
        on_evaluate = called_with_progress(on_evaluate, model.verbose)

        def with_rows(modality: Modality, source: Source, profile: Any) -> None:
            if on_data_ready is not None:
                on_data_ready(modality, source, profile.rows)

        callbacks = Callbacks(checkpoint, on_evaluate, with_rows)
        model.model_ = learn(source, parts, seed, callbacks, options)
    model._checkpoint = checkpoint
    model._tell_verdict()
    return model
