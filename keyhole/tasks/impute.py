"""Impute: gaps are filled with what is expected there; what was seen stays as it was."""

from typing import Any

import numpy as np

from keyhole.columns import cast
from keyhole.sources import Rows
from keyhole.tasks.base import Task


class Impute(Task):
    """All columns of the input, gaps of the columns that the net knows filled.

    A number's gap gets the mean on its original scale, a level's gap the likeliest level. A row
    without any seen cell is filled too, with what is typical.
    """

    verb = "impute"

    def reads(self) -> None:
        """All columns: what was seen goes out as it came in."""

    def table(self, rows: Rows, start: int) -> Any:
        """A block of rows without gaps."""
        table = rows.arrow()
        model = self.autoencoder
        batch, expected = model.expect(rows, start)
        if bool(batch.seen.all()):
            return table
        guessed = model.table_.guess(expected)
        for name in guessed.column_names:
            filled = fill(cast.plain(table.column(name)), cast.plain(guessed.column(name)))
            place = table.column_names.index(name)
            table = table.set_column(place, name, _like(filled, table.column(name).type))
        return table


def fill(values: Any, guessed: Any) -> Any:
    """The values, with null and NaN replaced by what was guessed, in the values' own type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    gaps = pc.is_null(values, nan_is_null=True)  # pyright: ignore
    if not pc.any(gaps).as_py():  # pyright: ignore
        return values
    if cast.is_text(values.type):
        guessed = _texts(guessed).cast(values.type)
    elif pa.types.is_null(values.type):
        return guessed
    return pc.if_else(gaps, guessed.cast(values.type, safe=False), values)  # pyright: ignore


def _texts(guessed: Any) -> Any:
    """Guesses as a text file would write them: numbers with six digits."""
    import pyarrow as pa

    if not pa.types.is_floating(guessed.type):
        return cast.texts(guessed)
    numbers = guessed.to_numpy(zero_copy_only=False)
    return pa.array([None if np.isnan(n) else f"{n:.6g}" for n in numbers], pa.string())


def _like(values: Any, wanted: Any) -> Any:
    import pyarrow as pa

    return values.dictionary_encode().cast(wanted) if pa.types.is_dictionary(wanted) else values
