"""How rows enter a model: what scikit-learn checks, and columns by the names that fit saw."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from sklearn.utils.validation import validate_data

from keyhole.errors import DataError, SettingError
from keyhole.modalities import Hints
from keyhole.sources import Source, open_source
from keyhole.sources.base import TableSource
from keyhole.sources.frame import array_names, as_container, container_of, is_frame, renamed
from keyhole.sources.pictures import PictureSource
from keyhole.sources.restored import restored, template

Fit = TypeVar("Fit", bound=Callable[..., Any])
WEIGHTS = (
    "sample_weight is not taken as an array: rows are read in blocks, and their weights with "
    "them; make the weights a column of the rows and name it, "
    "Autoencoder(hints=Hints(weight='COLUMN')) or --weight COLUMN; pictures have no weights"
)


def without_weights(fit: Fit) -> Fit:
    """The method `fit`, which says how rows are weighted where it is given `sample_weight`.

    Its signature stays without it: scikit-learn would take it for an array that is learnt from.
    """

    @functools.wraps(fit)
    def checked(
        self: Any,
        X: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        checkpoint: str | None = None,
        watch: Any = None,
        learnt: Any = None,
    ) -> Any:
        if sample_weight is not None:
            raise SettingError(WEIGHTS)
        return fit(self, X, y, checkpoint=checkpoint, watch=watch, learnt=learnt)

    return cast(Fit, checked)


def learn_names(model: Any, X: Any) -> Source:
    """The source of X; its kind and its columns' names become the model's.

    Raises: DataError, FileError.
    """
    source = open_source(X)
    model.container_, model.template_ = container_of(X, source), template(X)
    if isinstance(source, PictureSource):
        hints = model.hints or Hints()
        hints.check()
        size = _size_of(hints)
        source = source.sized(size, any_size=size is not None)
    elif not isinstance(X, str | os.PathLike):
        validate_data(model, X, reset=True, skip_check_array=True)
    model.n_features_in_ = len(source.names)
    model.feature_names_in_ = np.array(source.names, dtype=object)
    return source


def match_names(model: Any, X: Any) -> Source:
    """The source of X; columns of an array, which has no names, take those that fit saw.

    Raises: DataError where the array is too narrow or too wide, or holds no rows of this kind;
    FileError.
    """
    source = open_source(X)
    form = getattr(model.table_, "form", None)
    if isinstance(source, PictureSource) != (form is not None):
        given, learnt = ("pictures", "a table") if form is None else ("a table", "pictures")
        raise DataError(f"{source.name} holds {given}, and this model was fitted on {learnt}")
    if isinstance(source, PictureSource) and form is not None:
        return source.like(form, any_size=_size_of(model.hints) is not None)
    if isinstance(X, str | os.PathLike) or is_frame(X) or not isinstance(source, TableSource):
        return source  # its columns have names of their own
    names, kind = model.feature_names_in_.tolist(), type(model).__name__
    if names != array_names(len(names)):
        validate_data(model, X, reset=False, skip_check_array=True)
    elif len(source.names) != len(names):
        raise DataError(
            f"X has {len(source.names)} features, but {kind} is expecting "
            f"{len(names)} features as input"
        )
    return renamed(source, names)


def as_fitted(model: Any, table: Any) -> Any:
    """Rows that a model made, in the kind, dtypes and labels of the frame that fit was given.

    A bundle does not hold the dtypes of pandas and polars: rows of a loaded model have those that
    Arrow gives.
    """
    table = model.table_.written(table)
    if model.template_ is not None:
        return restored(table, model.template_)
    return as_container(table, model.container_)


def _size_of(hints: Any) -> tuple[int, int] | None:
    """The size that pictures are brought to, where hints say one."""
    size = getattr(hints, "size", None)
    return None if size is None else (size[0], size[1])
