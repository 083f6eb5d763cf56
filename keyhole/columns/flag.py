"""Two values, one cell: a Bernoulli likelihood through a sigmoid."""

from collections import Counter
from decimal import Decimal
from functools import cached_property
from typing import Any, Self

import numpy as np

from keyhole.columns import arrowtype, cast, levels, refuse
from keyhole.columns.base import Column, levels_text
from keyhole.columns.expected import Expected, Prediction, expected_levels
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
        counts = profile.levels
        kind = arrowtype.name(profile.arrow_type, levels=profile.dictionary)
        texts = kind == "string" and profile.numeric and not profile.not_numbers
        texts = texts and profile.plain
        if texts:  # "1" and "1.0" are one
            whole = profile.whole and max(abs(profile.least), abs(profile.most)) < 2**63
            counts, kind = Counter(), "int64" if whole else "double"
            for text, count in profile.levels.items():
                counts[int(Decimal(text)) if whole else float(text)] += count
        found = counts.most_common(2)
        pair = sorted((level for level, _ in found), key=lambda level: (str(type(level)), level))
        if len(pair) < 2:
            pair = [None, *pair][-2:]
        counted = max(sum(counts.values()), 1)
        return cls(
            profile.name,
            no=pair[0],
            yes=pair[1],
            type=kind,
            share=counts[pair[1]] / counted,
            rows=counted,
        )

    @cached_property
    def _texts(self) -> list[str]:
        texts = cast.texts(arrowtype.array([self.no, self.yes], self.type)).to_pylist()
        return ["" if text is None else text for text in texts]  # a constant has no second value

    def slots(self) -> list[Slot]:
        """One number cell: 0 for no, 1 for yes."""
        share = min(max(self.share, 0.5 / self.rows), 1 - 0.5 / self.rows)
        nats = float(np.log(self.rows + 2))
        spread = float(np.sqrt(share * (1 - share)))
        return [Slot(self.name, self.kind, "bernoulli", "", 0, share, spread, nats)]

    def encode(self, values: Any, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """0, 1, or 2 for a value never seen."""
        import pyarrow.types as pt

        if pt.is_floating(values.type):
            refuse.infinite(self.name, cast.floats(values)[0], start)
        places = levels.places(values, self._texts)  # NEITHER for a value never seen
        return places.clip(0).astype(np.float32)[:, None], (places >= 0)[:, None]

    def decode(self, cells: np.ndarray) -> Any:
        """The more probable value of each row."""
        import pyarrow as pa

        likely = (cells[:, 0] > 0.5).astype(np.int64)
        return arrowtype.picked([self.no, self.yes], pa.array(likely), self.type)

    def text(self, values: Any) -> list[str]:
        """Values as text."""
        return levels_text(values)

    def expected(self, cells: np.ndarray, predicted: Prediction) -> Expected:
        """The likelier value and its probability, or both values where neither is likely."""
        share = np.stack([1 - predicted.middle[:, 0], predicted.middle[:, 0]], 1)
        place = np.where(cells[:, 0] == NEITHER, 2, cells[:, 0] > 0.5)
        return expected_levels(share, place, self.text(self.decode(np.array([[0.0], [1.0]]))))
