"""Two values, one cell: a Bernoulli likelihood through a sigmoid."""

from collections import Counter
from typing import Any, Self

import numpy as np

from keyhole.columns import arrowtype, refuse
from keyhole.columns.base import Column, levels_text
from keyhole.columns.profile import Profile
from keyhole.core.layout import Slot

NEITHER = 2.0  # the cell of a value that is neither of the two


class Flag(Column):
    """A column with two values; a third one, met later, costs as much as a value never seen."""

    kind = "flag"

    def __init__(
        self, name: str, *, no: Any, yes: Any, type: str, share: float, rows: int
    ) -> None:
        self.name = name
        self.no = no
        self.yes = yes
        self.type = type
        self.share = share
        self.rows = rows

    @classmethod
    def learn(cls, profile: Profile) -> Self:
        """The two most frequent values, the smaller one as `no`."""
        levels, kind = (
            profile.levels,
            arrowtype.name(profile.arrow_type, levels=profile.dictionary),
        )
        if (
            kind == "string" and profile.numeric and not profile.not_numbers and profile.plain
        ):  # «1» and «1.0» are one
            levels, kind = Counter(), "int64" if profile.whole else "double"
            for text, count in profile.levels.items():
                levels[float(text)] += count
        found = levels.most_common(2)
        pair = sorted((level for level, _ in found), key=lambda level: (str(type(level)), level))
        if len(pair) < 2:
            pair = [None, *pair][-2:]
        counted = max(sum(levels.values()), 1)
        return cls(
            profile.name,
            no=pair[0],
            yes=pair[1],
            type=kind,
            share=levels[pair[1]] / counted,
            rows=counted,
        )

    def slots(self) -> list[Slot]:
        """One number cell: 0 for no, 1 for yes."""
        share = min(max(self.share, 0.5 / self.rows), 1 - 0.5 / self.rows)
        nats = float(np.log(self.rows + 2))
        spread = float(np.sqrt(share * (1 - share)))
        return [Slot(self.name, self.kind, "bernoulli", "", 0, share, spread, nats)]

    def encode(self, values: Any, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """0, 1, or 2 for a value never seen."""
        import pyarrow.compute as pc

        if isinstance(self.yes, float):
            numbers = refuse.numbers(self.name, values, start)
            seen = ~np.isnan(numbers)
            cells = np.where(numbers == self.yes, 1.0, np.where(numbers == self.no, 0.0, NEITHER))
        else:
            values = arrowtype.like(values, self.type)
            known = arrowtype.array([self.no, self.yes], self.type)
            cells = pc.index_in(values, value_set=known, skip_nulls=True)  # pyright: ignore
            cells = cells.fill_null(int(NEITHER)).to_numpy(zero_copy_only=False)
            seen = values.is_valid().to_numpy(zero_copy_only=False)
        cells = np.where(seen, cells, 0).astype(np.float32)
        return cells[:, None], seen[:, None]

    def decode(self, cells: np.ndarray) -> Any:
        """The more probable value of each row."""
        import pyarrow as pa

        likely = (cells[:, 0] > 0.5).astype(np.int64)
        return arrowtype.picked([self.no, self.yes], pa.array(likely), self.type)

    def text(self, values: Any) -> list[str]:
        """Values as text."""
        return levels_text(values.to_pylist())

    def expected(self, middle: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[str]:
        """The likelier value and its probability."""
        sure = np.maximum(middle[:, 0], 1 - middle[:, 0])
        said = self.text(self.decode(middle))
        return [f"{value} ({p:.0%})" for value, p in zip(said, sure, strict=True)]
