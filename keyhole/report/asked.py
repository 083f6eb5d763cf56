"""What a detector said of the rows that a page shows."""

from dataclasses import dataclass

import numpy as np

ALL_NAMED = 2_000  # rows; of more, the strongest have names and the others numbers
MOST_STRONGEST = 200  # rows of the map that carry their name and cells


@dataclass(frozen=True)
class Asked:
    """One entry a row, in the order asked.

    `surprise` is in nats, higher = stranger, NaN for an empty row; an alarm is raised above
    `threshold` (NaN or infinite where none is). `ids` name the rows, «row 17» counted from 1 where
    no column does; of more than `ALL_NAMED` rows only those of the strongest are read. `because`
    holds, by the row's place from 0, its strongest cells: column, value, what was expected, and
    the share of the row's excess, from 0 to 1. `remarks` are sentences on whether the rows look
    like those of training.
    """

    name: str
    surprise: np.ndarray
    p_value: np.ndarray
    alarm: np.ndarray
    threshold: float
    alarm_rate: float
    codes: np.ndarray  # (row, code)
    ids: list[str]
    because: dict[int, list[tuple[str, str, str, float]]]
    remarks: list[str]

    def __len__(self) -> int:
        return len(self.surprise)

    def strongest(self, most: int) -> np.ndarray:
        """The places of the most surprising rows, strongest first; empty ones left out."""
        order = np.argsort(-np.nan_to_num(self.surprise, nan=-np.inf), kind="stable")
        return order[:most][~np.isnan(self.surprise[order[:most]])]
