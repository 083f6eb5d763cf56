"""The Autoencoder: scikit-learn's front to one network, one loss, one fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from keyhole.autoencoder.fit import Block, Callbacks, Model, learn
from keyhole.autoencoder.input_validation import (
    PARTS,
    as_fitted,
    learn_names,
    match_names,
    parts_of,
    without_weights,
)
from keyhole.autoencoder.sampling import Sampler, with_prior
from keyhole.autoencoder.state import Data, restore, tensors_of, to_state
from keyhole.checks import Finding
from keyhole.core.environment import seed_from
from keyhole.core.outputs import Scratch
from keyhole.core.progress import EvaluateCallback, advanced, heard_if_verbose, progress, tell
from keyhole.core.records import Batch
from keyhole.data import Rows, Source
from keyhole.data.frames import like_given
from keyhole.data.opening import numbers_of, random_access
from keyhole.data.source import weighted
from keyhole.errors import BundleError, DataError
from keyhole.modalities import Modality, Schema
from keyhole.modalities.prepared import Parts
from keyhole.modalities.rows.reference import ReferenceSet
from keyhole.model.bottlenecks import Bottleneck
from keyhole.model.heads import Head
from keyhole.model.nets import Net
from keyhole.model.priors import Prior
from keyhole.store import Bundle, read_bundle, wrap_errors, write_bundle
from keyhole.training import Corruption, TrainingConfig
from keyhole.training.checkpoint import clear, seed_for

CHUNK_ROWS = 16_384  # read and encoded together


@heard_if_verbose("fit", "transform", "score_samples", "log_likelihood", "sample")
class Autoencoder(TransformerMixin, BaseEstimator):
    """Learns a narrow code for each row of a table, and the distribution of rows given codes.

    A part is given by name or as an object with settings of its own (`"variational"`,
    `Variational(beta=2)`, `training=TrainingConfig(steps=2000)`); None: chosen by the data.
    `width` is the number of code dimensions, "auto" or None: the bottleneck's own. After a fit,
    `verdict_` and `findings_` say how far to trust it; `verbose` shows progress and both.
    """

    container_: str
    model_: Model
    modality_class_: type[Modality] | None = None  # of the rows that fit was given
    template_: Any = None
    n_features_in_: int
    feature_names_in_: np.ndarray
    _checkpoint: str | None = None

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
        it. `on_data_ready` is called with table, source and rows before training, `on_evaluate`
        at every evaluation. Raises: DataError, SettingError, FileError, FitError.
        """
        source = self.open(X, learning=True)
        parts = self.parts()
        parts.training.check()
        parts.schema.check()
        seed = seed_for(self.random_state, checkpoint)
        with Scratch() as scratch:
            source = weighted(random_access(source, scratch.folder), parts.schema.weight)
            on_evaluate = on_evaluate or (progress() if self.verbose else lambda event: None)
            callbacks = Callbacks(checkpoint, on_evaluate, _with_rows(on_data_ready))
            self.model_ = learn(source, parts, seed, callbacks)
        self._checkpoint = checkpoint
        if self.verbose:
            tell("verdict", self.verdict_)
            for finding in self.findings_:
                tell("warning", f"{finding.code} {finding.title}: {finding.text}")
        return self

    def transform(self, X: Any) -> Any:
        """Codes (row, code): an array for an array, else that kind of frame with `code_0`..."""
        codes = [self.code(rows, start) for start, rows in self.iter_blocks(X)]
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
        blocks = (self.score_block(rows, start) for start, rows in self.iter_blocks(X))
        return np.concatenate([-self.row_nats(block).double().numpy() for block in blocks])

    def log_likelihood(self, X: Any, *, samples: int = 5_000) -> np.ndarray:
        """Log p(x) of each row's seen cells in nats, by importance sampling with so many draws.

        For codes with noise. Raises: SettingError for others.
        """
        noise = torch.Generator().manual_seed(0)
        found = [self.model_.marginal(*block, samples, noise) for block in self.iter_blocks(X)]
        return np.concatenate(found)

    def score(self, X: Any, y: Any = None) -> float:
        """The mean log-likelihood of the rows in nats."""
        return float(np.nanmean(self.score_samples(X)))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """`code_0`, `code_1`, ..."""
        check_is_fitted(self)
        return np.array([f"code_{i}" for i in range(self.model_.network.width)], dtype=object)

    @property
    def verdict_(self) -> str:
        """One line on how far to trust the model."""
        return self.model_.verdict

    @property
    def findings_(self) -> list[Finding]:
        """What the checks object to."""
        return self.model_.findings

    @property
    def history_(self) -> Any:
        """The evaluations of the run as a frame: pandas where it is installed, else Arrow."""
        check_is_fitted(self)
        return self.model_.history.frame()

    def iter_blocks(self, X: Any) -> Iterator[tuple[int, Rows]]:
        """The rows of a source a chunk at a time, each with the place of its first.

        Raises: DataError for a source without rows.
        """
        check_is_fitted(self)
        source = self.open(X)
        start = 0
        for rows in source.blocks(CHUNK_ROWS):
            yield start, rows
            start += len(rows)
            advanced(len(rows))
        if start == 0:
            raise DataError(f"{source.name} holds 0 sample(s): a minimum of 1 is required")

    @property
    def chunk_rows(self) -> int:
        """How many rows a forward pass takes."""
        return CHUNK_ROWS

    @property
    def id_column(self) -> str | None:
        """The column that names rows: as hints say, or the files of images."""
        told = self.schema.id if self.schema is not None else None
        return told or self.model_.modality.id_column

    def score_block(self, rows: Rows, start: int = 0) -> Block:
        """What some rows cost; `start` is the place of the first, for messages."""
        return self.model_.score_block(rows, start)

    def expect(self, rows: Rows, start: int = 0) -> tuple[Batch, Batch]:
        """Some rows as the net is given them, and as it expects them, averaged over members."""
        return self.model_.expect(rows, start)

    def code(self, rows: Rows, start: int = 0) -> np.ndarray:
        """The codes (row, code) of some rows, by the first member."""
        return self.model_.code(rows, start)

    def remember(self, reference: ReferenceSet) -> None:
        """Have these rows be the ones that new ones are compared with."""
        self.model_ = replace(self.model_, reference=reference)

    def sampler(self) -> Sampler:
        """What draws rows: the model with its prior, or a mixture over the rows it remembers.

        Raises: SettingError where it has neither.
        """
        check_is_fitted(self)
        sampler = Sampler.of(self.model_)
        self.model_ = sampler.fitted
        return sampler

    def sample(self, n: int = 1) -> Any:
        """`n` new rows, in the kind that fit was given; `keyhole.Generator` has more to offer."""
        seed = seed_from(self.random_state)
        return as_fitted(self, self.sampler().rows(n, seed))

    def fit_prior(self, batches: Iterator[Batch], prior: Prior, *, seed: int = 0) -> None:
        """Fit a copy of this prior to the codes of encoded rows, and hold it as `prior_`."""
        self.model_ = with_prior(self.model_, batches, prior, seed)

    def row_nats(self, block: Block) -> torch.Tensor:
        """Each row's nats, gaps counted as typical columns."""
        return self.model_.row_nats(block)

    def save(self, path: str | os.PathLike[str], sections: dict[str, Any] | None = None) -> None:
        """Save the model atomically as one file; `sections` are those of tasks.

        The rows that a detector compares with are kept only where a task has a section.
        """
        check_is_fitted(self)
        fitted = self.model_ if sections else replace(self.model_, reference=None)
        names = self.feature_names_in_.tolist()
        data = Data(self.model_.rows, names, self.container_, self.model_.fingerprint)
        section = to_state(fitted, self.random_state, data)
        tensors = self.model_.network.state_dict() | tensors_of(fitted)
        sections = {"autoencoder": section, **(sections or {})}
        save = write_bundle(path, sections, tensors, fitted.save)
        self.model_ = replace(self.model_, save=save)
        if self._checkpoint is not None:
            clear(self._checkpoint)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The model saved in a file; runs no code from it.

        Raises: BundleError that says what is wrong with it.
        """
        return cls.from_bundle(read_bundle(path))

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Self:
        """The model of a bundle that was read.

        Raises: BundleError.
        """
        with wrap_errors("the manifest"):
            return cls._restored(bundle)

    @classmethod
    def _restored(cls, bundle: Bundle) -> Self:
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

    def open(self, X: Any, *, learning: bool = False) -> Source:
        """The source of X, its columns named as in fit; checks what scikit-learn checks."""
        if hasattr(X, "blocks"):
            return X  # a source already
        if learning:
            return learn_names(self, X)
        check_is_fitted(self)
        return match_names(self, X)

    def parts(self) -> Parts:
        """The parts as given, else those that the bottleneck works best with, else defaults."""
        given = {name: getattr(self, name) for name in PARTS}
        return parts_of(given, self.modality_class_, width=self.width)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _with_rows(
    on_data_ready: Callable[[Modality, Source, int], None] | None,
) -> Callable[[Any, Any, Any], None] | None:
    """The user's callback, called with the number of rows of a profile."""
    if on_data_ready is None:
        return None
    return lambda modality, source, profile: on_data_ready(modality, source, profile.rows)
