"""The rows of a source as a fitted model reads them, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sklearn.utils.validation import check_is_fitted

from keyhole.autoencoder.input_validation import match_names
from keyhole.core.progress import advanced
from keyhole.data import Rows, Source
from keyhole.errors import DataError

CHUNK_ROWS = 16_384  # read and encoded together


def open_rows(model: Any, X: Any) -> Source:
    """The source of X, its columns named as in the fit of the model.

    Raises: DataError, FileError.
    """
    if hasattr(X, "blocks"):
        return X  # a source already
    check_is_fitted(model)
    return match_names(model, X)


def blocks_of(model: Any, X: Any) -> Iterator[tuple[int, Rows]]:
    """The rows of X a block at a time, each with the index of its first row.

    Raises: DataError for a source without rows.
    """
    check_is_fitted(model)
    source = open_rows(model, X)
    start = 0
    for rows in source.blocks(CHUNK_ROWS):
        yield start, rows
        start += len(rows)
        advanced(len(rows))
    if start == 0:
        raise DataError(f"{source.name} holds 0 sample(s): a minimum of 1 is required")


def id_column_of(model: Any) -> str | None:
    """The column that names rows: the schema's, or the files of images."""
    named = model.schema.id if model.schema is not None else None
    return named or model.model_.modality.id_column
