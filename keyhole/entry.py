"""How rows enter a model: what scikit-learn checks, and columns by the names that fit saw."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from keyhole.errors import DataError
from keyhole.modalities import Hints
from keyhole.sources import Source, open_source
from keyhole.sources.base import TableSource
from keyhole.sources.frame import array_names, container_of, is_frame, renamed
from keyhole.sources.pictures import PictureSource


def learn_names(model: Any, X: Any) -> Source:
    """The source of X; its kind and its columns' names become the model's.

    Raises: DataError, FileError.
    """
    source = open_source(X)
    model.container_ = container_of(X, source)
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


def _size_of(hints: Any) -> tuple[int, int] | None:
    """The size that pictures are brought to, where hints say one."""
    size = getattr(hints, "size", None)
    return None if size is None else (size[0], size[1])
