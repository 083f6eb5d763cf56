"""Input: rows as scikit-learn checks them and a model reads them, columns by name, parts."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any, TypeVar, cast

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data

from keyhole.core.parts import build, parse
from keyhole.core.progress import advanced
from keyhole.data import Rows, Source, open_source
from keyhole.data.frames import array_names, as_container, container_of, is_frame, renamed
from keyhole.data.frames_out import restored, template
from keyhole.data.source import TableSource
from keyhole.errors import DataError, SettingError
from keyhole.modalities import Modality, Schema, modality_of
from keyhole.modalities.prepared import Parts
from keyhole.model.bottlenecks import Bottleneck, Plain
from keyhole.model.bottlenecks.base import AUTO, with_width
from keyhole.model.heads import Head, Mixed
from keyhole.model.nets import MLP, Net
from keyhole.training import Corruption, Masking, TrainingConfig

Fit = TypeVar("Fit", bound=Callable[..., Any])
CHUNK_ROWS = 16_384  # read and encoded together
WEIGHTS = (
    "sample_weight is not accepted as an array: rows are read in blocks together with their "
    "weights; put the weights into a column of the rows and name it, "
    "Autoencoder(schema=Schema(weight='COLUMN')) or --weight COLUMN; images have no weights"
)


def without_weights(fit: Fit) -> Fit:
    """The method `fit`, which says how rows are weighted where it is given `sample_weight`.

    Its signature stays without it: scikit-learn would take it for an array that is learned from.
    """

    @functools.wraps(fit)
    def checked(
        self: Any,
        X: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        checkpoint: str | None = None,
        on_evaluate: Any = None,
        on_data_ready: Any = None,
    ) -> Any:
        if sample_weight is not None:
            raise SettingError(WEIGHTS)
        return fit(
            self, X, y, checkpoint=checkpoint, on_evaluate=on_evaluate, on_data_ready=on_data_ready
        )

    return cast(Fit, checked)


def learn_names(model: Any, X: Any) -> Source:
    """The source of X; its modality and its columns' names become the model's.

    Raises: DataError, FileError.
    """
    source = open_source(X)
    model.container_, model.template_ = container_of(X, source), template(X)
    model.modality_class_ = modality_of(source, model.schema)
    source = model.modality_class_.for_fit(source, model.schema)
    if isinstance(source, TableSource) and not isinstance(X, str | os.PathLike):
        validate_data(model, X, reset=True, skip_check_array=True)
    model.n_features_in_ = len(source.names)
    model.feature_names_in_ = np.array(source.names, dtype=object)
    return source


def match_source(model: Any, source: Source) -> Source:
    """An open source as the fitted model reads it. Raises: DataError for rows of another kind."""
    modality, given = model.model_.modality, modality_of(source, model.schema)
    if given is not type(modality):
        raise DataError(
            f"{source.name} holds {given.noun}, but this model was fitted on {modality.noun}"
        )
    return modality.match(source, model.schema)


def match_names(model: Any, X: Any) -> Source:
    """The source of X; columns of an array, which has no names, take those that fit saw.

    Raises: DataError where the array is too narrow or too wide, or holds no rows of this kind;
    FileError.
    """
    source = match_source(model, open_source(X))
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


def open_rows(model: Any, X: Any) -> Source:
    """The source of X, its columns named as in the fit. Raises: DataError, FileError."""
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
    id_column = model.schema.id if model.schema is not None else None
    return id_column or model.model_.modality.id_column


def as_fitted(model: Any, table: Any) -> Any:
    """Rows that a model made, in the kind, dtypes and labels of the frame that fit was given.

    A bundle does not hold the dtypes of pandas and polars: rows of a loaded model have those that
    Arrow gives.
    """
    table = model.model_.modality.written(table)
    if model.template_ is not None:
        return restored(table, model.template_)
    return as_container(table, model.container_)


PARTS = {
    "bottleneck": (Bottleneck, Plain), "net": (Net, MLP), "head": (Head, Mixed),
    "corruption": (Corruption, Masking), "training": (TrainingConfig, TrainingConfig),
    "schema": (Schema, Schema),
}  # fmt: skip


def parts_of(
    given: dict[str, Any],
    modality_class: type[Modality] | None = None,
    *,
    width: int | str | None = None,
) -> Parts:
    """All parts by family: a part, its name, or None for what suits the bottleneck and the rows.

    `modality_class` is that of the rows, where it is known; `width` is that of the code, None: the
    bottleneck's own. Raises: SettingError for an invalid part or width, or a part that does not
    suit such rows.
    """
    parts: dict[str, Any] = {}
    defaults = {} if modality_class is None else modality_class.default_parts()
    for name, (base, default) in PARTS.items():
        part = given[name]
        if isinstance(part, str) and name not in {"training", "schema"}:
            part = parse(name, part)
        if part is None:
            recommended = parts["bottleneck"].recommended_parts.get(name) if parts else None
            if recommended is not None:
                part = build(name, recommended)
            else:
                part = defaults[name] if name in defaults else default()
        if not isinstance(part, base):
            by_name = "" if name in {"training", "schema"} else " or its name"
            raise SettingError(f"{name}={part!r:.80}: expected a {base.__name__}{by_name}")
        parts[name] = part
    if width is not None:
        parts["bottleneck"] = with_width(parts["bottleneck"], _checked_width(width))
    if parts["net"].skips:
        raise SettingError(
            f"{parts['net']!r} has skip connections, so there is no code; use Denoiser"
        )
    if modality_class is not None:
        modality_class.check_net(parts["net"])
    return Parts(**parts)


def _checked_width(width: Any) -> int | str:
    """A width of the code. Raises: SettingError."""
    if width == AUTO:
        return width
    if isinstance(width, bool) or not isinstance(width, Integral) or width < 1:
        raise SettingError(f"width={width!r:.40}: expected a whole number from 1 up, or 'auto'")
    return int(width)
