"""What all estimators share: how far to trust a fit, and saving it."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Self

from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from keyhole.autoencoder.fit import Model
from keyhole.autoencoder.state import Data, tensors_of, to_state
from keyhole.checks import Finding
from keyhole.core.progress import tell
from keyhole.store import Bundle, read_bundle, write_bundle
from keyhole.training.checkpoint import clear


class Estimator(BaseEstimator):
    """An estimator with a fitted model, its own or that of its `autoencoder_`."""

    verbose: bool
    _checkpoint: str | None = None
    _needs_reference = True  # where it is a task

    @property
    def verdict_(self) -> str:
        """One line on how far to trust the model."""
        return self._fitted().verdict

    @property
    def findings_(self) -> list[Finding]:
        """What the checks object to."""
        return self._fitted().findings

    @property
    def history_(self) -> Any:
        """The evaluations of the run as a frame: pandas where it is installed, else Arrow."""
        return self._fitted().history.frame()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the fitted estimator atomically as one file.

        Reference rows are saved only with a task that needs them.
        Raises: FileError, BundleError.
        """
        model, sections = self._fitted(), self._sections()
        holder: Any = getattr(self, "autoencoder_", self)
        saved = model if sections and self._needs_reference else replace(model, reference=None)
        names = [str(name) for name in getattr(holder, "feature_names_in_", ())]
        data = Data(model.rows, names, getattr(holder, "container_", "images"), model.fingerprint)
        sections = {"autoencoder": to_state(saved, holder.random_state, data), **sections}
        tensors = model.network.state_dict() | tensors_of(saved)
        save = write_bundle(path, sections, tensors, model.save)
        holder.model_ = replace(model, save=save)
        if holder._checkpoint is not None:
            clear(holder._checkpoint)

    @classmethod
    def load(cls, path: str | os.PathLike[str] | Bundle) -> Self:
        """The estimator saved in a file, or in a bundle that was read; runs no code from it.

        Raises: BundleError that says what is wrong with it.
        """
        return cls._of_bundle(path if isinstance(path, Bundle) else read_bundle(path))

    @classmethod
    def _of_bundle(cls, bundle: Bundle) -> Self:
        raise NotImplementedError

    def _sections(self) -> dict[str, Any]:
        """The sections of the manifest beside that of the fitted model."""
        return {}

    def _tell_verdict(self) -> None:
        if self.verbose:
            tell("verdict", self.verdict_)
            for finding in self.findings_:
                tell("warning", f"{finding.code} {finding.title}: {finding.text}")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.sparse = tags.input_tags.string = True
        return tags

    def _fitted(self) -> Model:
        check_is_fitted(self)
        return getattr(self, "autoencoder_", self).model_  # pyright: ignore
