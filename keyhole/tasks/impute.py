"""Impute: gaps are filled with what is expected there; observed values stay as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from keyhole.errors import DataError, SettingError
from keyhole.tasks.base import Option, Task

if TYPE_CHECKING:
    import numpy as np

    from keyhole.autoencoder.estimator import Autoencoder
    from keyhole.core.records import Batch
    from keyhole.data import Rows
    from keyhole.modalities.tabular.lawful import Lawful

MAX_DRAWS = 1_000  # completed copies of the data


class Impute(Task):
    """All columns of the input, gaps of the columns that the net knows filled.

    A number's gap gets the mean on its original scale, a level's gap the likeliest level. A row
    without any observed value is filled too, with what is typical. With `draws`, each row is given
    that many times, its gaps drawn anew in each: columns one group after the other, each given
    those before (Uria et al. 2014, section 3), nets in turn. So draws belong together, and differ
    by what the model does not know. With `mark`, a suffix such as "_filled", each column that the
    model knows is followed by a truth value that says where it was filled. With `rules`, filled
    values keep the rules between columns that all training rows kept.
    """

    verb = "impute"
    summary = "Fill missing values; all others stay unchanged."
    help = "Fill the missing values of DATA; all other values stay as they were written."
    options = (
        Option("draws", int, "Write each row N times, with different random values in its "
                             "gaps.", metavar="N"),
        Option("mark", str,
               "For each filled column, add a column that marks filled values: COLUMN plus "
               "this suffix.",
               metavar="COLUMN_SUFFIX"),
        Option("seed", int, "Seed of the random values.", default=0),
    )  # fmt: skip

    def __init__(
        self,
        autoencoder: Autoencoder,
        *,
        draws: int | None = None,
        seed: int = 0,
        mark: str | None = None,
        rules: bool = True,
    ) -> None:
        super().__init__(autoencoder)
        if draws is not None and (isinstance(draws, bool) or not isinstance(draws, int)):
            raise SettingError(f"draws={draws!r:.40}: give a whole number from 1 up")
        if draws is not None and not 1 <= draws <= MAX_DRAWS:
            raise SettingError(f"draws={draws}: give from 1 to {MAX_DRAWS:,}")
        if mark is not None and (not isinstance(mark, str) or not mark.strip()):
            raise SettingError(f"mark={mark!r:.40}: expected a suffix, such as '_filled'")
        self.draws = draws
        self.seed = seed
        self.mark = mark
        self.counts: list[dict[str, int]] = []  # appended to by several threads
        self.rules = rules

    def reads(self) -> None:
        """All columns: observed values are written as they were read."""

    def accept(self, names: list[str]) -> None:
        """Raises: DataError where a column that this task adds has the name of another."""
        own = [] if self.draws is None else ["draw"]
        if self.mark is not None:
            own += [name + self.mark for name in self.autoencoder.model_.modality.needs()]
        clash = [name for name in own if name in names]
        if clash:
            raise DataError(
                f"the data already has a column {clash[0]!r}, which the answer adds; rename it"
                + ("" if clash == ["draw"] else ", or use another suffix")
            )

    def table(self, rows: Rows, start: int) -> Any:
        """A block of rows without gaps; with draws, a first column tells which one a row is of."""
        if self.draws is None:
            return self._filled(rows, *self._values(rows, start, None))
        import numpy as np
        import pyarrow as pa

        self.accept(rows.names)
        copies = []
        for draw in range(self.draws):
            copy = self._filled(rows, *self._values(rows, start, draw))
            numbers = pa.array([draw + 1] * len(copy), pa.int64())
            copies.append(copy.add_column(0, "draw", numbers))
        order = np.arange(self.draws * len(rows)).reshape(self.draws, -1).T.ravel()
        return pa.concat_tables(copies).take(order)  # a row's draws stand together

    def _values(self, rows: Rows, start: int, draw: int | None) -> tuple[Batch, Any]:
        """The encoded rows, and a table of values for the gaps: drawn, or expected for None.

        Rules between columns are kept.
        """
        if draw is not None:
            batch = self.autoencoder.model_.modality.encode(rows, start)
            return batch, self._drawn(rows, batch, start, draw)
        batch, expected = self.autoencoder.model_.expect(rows, start)
        table = self.autoencoder.model_.modality
        guessed, lawful = table.in_rows(table.guess(expected), rows), table.lawful
        if lawful is not None and self.rules and not bool(batch.observed.all()):
            free = self._free(batch, lawful)
            guessed = lawful.mended(lawful.overlaid(guessed, lawful.read(rows), free), free)
        return batch, guessed

    def _drawn(self, rows: Rows, batch: Batch, start: int, draw: int) -> Any:
        import torch

        from keyhole.autoencoder.sampling import draw_gaps
        from keyhole.core.environment import hash_of

        model = self.autoencoder.model_
        noise = torch.Generator().manual_seed(hash_of(self.seed, draw * (1 << 40) + start))
        lawful = model.modality.lawful if self.rules else None
        if lawful is None:
            drawn = model.modality.drawn(draw_gaps(model, batch, draw, noise))
            return model.modality.in_rows(drawn, rows)
        free, fixed = self._free(batch, lawful), lawful.read(rows)

        def drawn_at(index: np.ndarray) -> Any:
            chosen = batch.take(torch.from_numpy(index))
            table = model.modality.drawn(draw_gaps(model, chosen, draw, noise))
            chosen_free = {name: gaps[index] for name, gaps in free.items()}
            return lawful.overlaid(table, fixed.take(index), chosen_free)

        return lawful.rows(drawn_at, free, self.seed + draw)

    def _free(self, batch: Batch, lawful: Lawful) -> dict[str, np.ndarray]:
        """For each column of a rule the rows with a gap there."""
        layout, gaps = self.autoencoder.model_.modality.layout, ~batch.observed.cpu().numpy()
        return {c.name: gaps[:, layout.features(c.name)].all(1) for c in lawful.columns}  # pyright: ignore

    def answer(self, X: Any) -> Any:
        """X without gaps, in its own kind: types, labels and index of a frame stay as they are.

        A row's draws stand together, and share its label.
        """
        import numpy as np

        from keyhole.autoencoder.input_validation import open_rows
        from keyhole.data.frames import is_frame
        from keyhole.data.frames_out import interleaved, with_column
        from keyhole.data.source import check_columns

        if not is_frame(X):
            return super().answer(X)
        source = open_rows(self.autoencoder, X)
        check_columns(self.autoencoder.model_.modality.needs(), source.names, "this model")
        self.accept(source.names)
        if self.draws is None:
            return self._filled_frame(X)
        frames = [self._filled_frame(X, draw) for draw in range(self.draws)]
        return interleaved([
            with_column(frame, 0, "draw", np.full(len(frame), draw + 1))
            for draw, frame in enumerate(frames)
        ])  # fmt: skip

    def _filled_frame(self, X: Any, draw: int | None = None) -> Any:
        """A copy of the frame without gaps, marked and counted."""
        import numpy as np

        from keyhole.data.frames_out import filled_frame, with_column

        guessed, gaps = self._guesses(X, draw)
        self.counts.append({name: int(g.sum()) for name, g in gaps.items() if g.any()})
        frame = filled_frame(X, guessed)
        if self.mark is not None:
            for name in self.autoencoder.model_.modality.needs():
                marks = gaps.get(name, np.zeros(len(frame), bool))
                frame = with_column(frame, -1, name + self.mark, marks)
        return frame

    def _guesses(self, X: Any, draw: int | None = None) -> tuple[Any, dict[str, np.ndarray]]:
        """A value for each row and column that the net knows; and where such a value is a gap."""
        import numpy as np
        import pyarrow as pa

        from keyhole.autoencoder.input_validation import blocks_of
        from keyhole.data import cast

        tables, blocks = [], []
        for start, rows in blocks_of(self.autoencoder, X):
            table = self._values(rows, start, draw)[1]
            tables.append(table)
            blocks.append({
                name: _gaps(rows.column(name), cast.plain(table.column(name))).to_numpy(False)
                for name in table.column_names
            })  # fmt: skip
        gaps = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        return pa.concat_tables(tables), gaps

    def copies(self, X: Any, draws: Iterable[int | None] | None = None) -> list[Any]:
        """X once for each draw: an array for an array, else that kind of frame.

        `draws` are numbers of draws, from 0; None among them: expected values instead of drawn
        ones. Rows of a path come in the kind that fit was given.
        """
        import pyarrow as pa

        from keyhole.autoencoder.input_validation import blocks_of
        from keyhole.data.frames import as_container, is_array, is_frame

        draws = range(self.draws or 1) if draws is None else draws
        if is_frame(X):
            return [self._filled_frame(X, draw) for draw in draws]
        blocks = list(blocks_of(self.autoencoder, X))
        tables = [
            pa.concat_tables([
                self._filled(rows, *self._values(rows, start, draw)) for start, rows in blocks
            ])
            for draw in draws
        ]  # fmt: skip
        container = self.autoencoder.container_
        container = "array" if is_array(X) and container != "images" else container
        return [as_container(table, container) for table in tables]

    def _filled(self, rows: Rows, batch: Batch, guessed: Any) -> Any:
        """The rows with guessed values in the gaps, and marks where they are wanted.

        All other values stay as they were written.
        """
        from keyhole.data import cast
        from keyhole.data.csv_dialect import dialect_of
        from keyhole.data.frames_out import filled

        table = rows.arrow()
        if bool(batch.observed.all()):
            return self._marked(table, {})
        dialect, gaps = dialect_of(table.schema), {}
        sign = dialect.decimal if dialect is not None else ""
        for name in guessed.column_names:
            observed, guess = rows.column(name), cast.plain(guessed.column(name))
            if cast.is_text(observed.type):
                guess = self.autoencoder.model_.modality.cell_texts(name, guess, sign)
            gaps[name] = _gaps(observed, guess)
            values = filled(table.column(name), guess, gaps[name].to_numpy(zero_copy_only=False))
            index = table.column_names.index(name)
            field = table.schema.field(index).with_type(values.type)
            table = table.set_column(index, field, values)
        return self._marked(table, gaps)

    def _marked(self, table: Any, gaps: dict[str, Any]) -> Any:
        """Count the filled values; with `mark`, add a truth value for each column."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        filled = {name: pc.sum(gap).as_py() or 0 for name, gap in gaps.items()}  # pyright: ignore
        self.counts.append({name: count for name, count in filled.items() if count})
        if self.mark is not None:
            none = pa.array(np.zeros(table.num_rows, bool))
            for name in self.autoencoder.model_.modality.needs():
                table = table.append_column(name + self.mark, gaps.get(name, none))
        return table

    def answerer(self) -> Filling:
        """Fills blocks, and counts what was filled."""
        return Filling(self)

    def messages(self, rows: int) -> Iterator[tuple[str, str]]:
        """How many values were filled, and in which columns most."""
        filled = Counter(self.filled)
        columns = ", ".join(f"{name} {count:,}" for name, count in filled.most_common(5))
        more = f" and {len(filled) - 5} more columns" if len(filled) > 5 else ""
        message = f"{rows:,} rows, {filled.total():,} values filled"
        yield self.verb, message + (f": {columns}{more}" if filled else "")

    @property
    def filled(self) -> dict[str, int]:
        """How many values of each column were filled so far."""
        return _total(self.counts)


class Filling:
    """Fills blocks of rows by an imputation, and counts the filled cells part by part."""

    def __init__(self, task: Impute) -> None:
        self.task = task
        self.blocks = 0  # whose cells are counted in a part

    def __call__(self, rows: Rows, start: int) -> Any:
        """A block of rows whose first stands at `start`, without gaps."""
        return self.task.table(rows, start)

    def end_part(self) -> dict[str, Any]:
        """How many cells of each column were filled since the last part, as JSON."""
        counts = self.task.counts[self.blocks :]
        self.blocks += len(counts)
        return {"filled": _total(counts)}

    def add_part(self, counts: dict[str, Any]) -> None:
        """Count in a part that an earlier run has answered.

        Raises: KeyError, TypeError, ValueError for what `end_part` did not make.
        """
        filled = {str(name): int(count) for name, count in dict(counts["filled"]).items()}
        self.task.counts.append(filled)
        self.blocks += 1


def _total(counts: list[dict[str, int]]) -> dict[str, int]:
    total = Counter[str]()
    for block in counts:
        total.update(block)
    return dict(total)


def _gaps(observed: Any, guess: Any) -> Any:
    """True for a gap for which there is a guess."""
    import pyarrow.compute as pc

    return pc.and_(pc.is_null(observed, nan_is_null=True), pc.is_valid(guess))  # pyright: ignore
