"""Impute: gaps are filled with what is expected there; what was seen stays as it was."""

from typing import Any

import numpy as np
import torch

from keyhole.columns import cast
from keyhole.core.records import Batch
from keyhole.errors import DataError, SettingError
from keyhole.estimator import Autoencoder
from keyhole.sampling import draw_gaps
from keyhole.sources import Rows
from keyhole.sources.frame import as_container
from keyhole.tasks.base import Task
from keyhole.training.feed import hash_of

MOST_DRAWS = 1_000


class Impute(Task):
    """All columns of the input, gaps of the columns that the net knows filled.

    A number's gap gets the mean on its original scale, a level's gap the likeliest level. A row
    without any seen cell is filled too, with what is typical. With `draws`, each row comes so many
    times, its gaps drawn anew in each: columns one group after the other, each given those before
    (Uria et al. 2014, section 3), nets in turn. So draws belong together, and differ by what the
    model does not know.
    """

    verb = "impute"

    def __init__(
        self, autoencoder: Autoencoder, *, draws: int | None = None, seed: int = 0
    ) -> None:
        super().__init__(autoencoder)
        if draws is not None and (isinstance(draws, bool) or not isinstance(draws, int)):
            raise SettingError(f"draws={draws!r:.40}: give a whole number from 1 up")
        if draws is not None and not 1 <= draws <= MOST_DRAWS:
            raise SettingError(f"draws={draws}: give from 1 to {MOST_DRAWS:,}")
        self.draws = draws
        self.seed = seed

    def reads(self) -> None:
        """All columns: what was seen goes out as it came in."""

    def table(self, rows: Rows, start: int) -> Any:
        """A block of rows without gaps; with draws, a first column tells which one a row is of."""
        if self.draws is None:
            batch, expected = self.autoencoder.expect(rows, start)
            return self._filled(rows, batch, self.autoencoder.table_.guess, expected)
        import pyarrow as pa

        if "draw" in rows.names:
            raise DataError(
                "the data has a column 'draw' already, where draws are counted; rename it"
            )
        copies = [self.copy(rows, start, draw) for draw in range(self.draws)]
        marked = [
            copy.add_column(0, "draw", pa.array([draw + 1] * len(copy), pa.int64()))
            for draw, copy in enumerate(copies)
        ]
        each = np.arange(self.draws * len(rows)).reshape(self.draws, -1).T.ravel()
        return pa.concat_tables(marked).take(each)  # a row's draws stand together

    def copy(self, rows: Rows, start: int, draw: int) -> Any:
        """A block of rows with one draw in each gap."""
        fitted = self.autoencoder
        batch = fitted.table_.encode(rows, start)
        noise = torch.Generator().manual_seed(hash_of(self.seed, draw * (1 << 40) + start))
        drawn = draw_gaps(fitted._fitted, batch, draw, noise)
        return self._filled(rows, batch, fitted.table_.drawn, drawn)

    def copies(self, X: Any) -> list[Any]:
        """X once for each draw, in its own kind of frame."""
        import pyarrow as pa

        chunks = list(self.autoencoder.numbered(X))
        found = [
            pa.concat_tables([self.copy(rows, start, draw) for start, rows in chunks])
            for draw in range(self.draws or 1)
        ]
        return [as_container(table, self.autoencoder.container_) for table in found]

    def _filled(self, rows: Rows, batch: Batch, decode: Any, cells: Batch) -> Any:
        """The rows, with what cells decode to where there was a gap."""
        table = rows.arrow()
        if bool(batch.seen.all()):
            return table
        guessed = decode(cells)
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
