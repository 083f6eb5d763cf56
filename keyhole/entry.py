"""How rows enter a model: what scikit-learn checks, and columns by the names that fit saw."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from keyhole.errors import DataError
from keyhole.sources import Source, open_source
from keyhole.sources.base import TableSource
from keyhole.sources.frame import array_names, container_of, is_frame, renamed


def learn_names(model: Any, X: Any) -> Source:
    """The source of X; its kind and its columns' names become the model's.

    Raises: DataError, FileError.
    """
    source = open_source(X)
    model.container_ = container_of(X, source)
    if not isinstance(X, str | os.PathLike):
        validate_data(model, X, reset=True, skip_check_array=True)
    model.n_features_in_ = len(source.names)
    model.feature_names_in_ = np.array(source.names, dtype=object)
    return source


def match_names(model: Any, X: Any) -> Source:
    """The source of X; columns of an array, which has no names, take those that fit saw.

    Raises: DataError where the array is too narrow or too wide, FileError.
    """
    source = open_source(X)
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
