"""What a detector said of the rows that a page shows."""

from dataclasses import dataclass

import numpy as np

from keyhole.tasks.patterns import Pattern

ALL_NAMED = 2_000  # rows; of more, the strongest have names and the others numbers
MOST_STRONGEST = 200  # rows of the map that carry their name and cells


@dataclass(frozen=True)
class Asked:
    """One entry a row, in the order asked.

    `surprise` is in multiples of the usual, NaN for an empty row; `doubt` is its standard
    deviation between nets, NaN where there is one net. An alarm is raised above `threshold` (NaN
    or infinite where none is); `contamination` is the share of training rows that stand apart.
    `ids` name the rows, «row 17» counted from 1 where no column does; of more than `ALL_NAMED`
    rows only those of the strongest are read. `because` holds, by the row's place from 0, its
    strongest cells: column, value, what was expected ("" where no value of the row stands out),
    and the share of the row's excess, from 0 to 1; `patterns` what groups of the strongest alarms
    share. `remarks` are sentences on whether the rows look like those of training.
    """

    name: str
    surprise: np.ndarray
    doubt: np.ndarray
    p_value: np.ndarray
    alarm: np.ndarray
    threshold: float
    alarm_rate: float
    contamination: float
    codes: np.ndarray  # (row, code)
    ids: list[str]
    because: dict[int, list[tuple[str, str, str, float]]]
    patterns: list[Pattern]
    remarks: list[str]
    calibrated_on: int = 0  # rows, 0 where it is not known

    def __len__(self) -> int:
        return len(self.surprise)

    def strongest(self, most: int) -> np.ndarray:
        """The places of the most surprising rows, strongest first; empty ones left out."""
        return strongest(self.surprise, most)


def strongest(surprise: np.ndarray, most: int) -> np.ndarray:
    """The places of so many of the highest surprises, the highest first; NaN left out."""
    order = np.argsort(-np.nan_to_num(surprise, nan=-np.inf), kind="stable")[:most]
    return order[~np.isnan(surprise[order])]
