"""What happened while the network learnt."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """One evaluation: losses in nats per row, times in seconds."""

    step: int
    steps: int
    loss: float
    held_out: float
    rate: float
    seconds: float
    seconds_left: float
    note: str = ""


@dataclass
class History:
    """The evaluations of a run, and how it ended.

    `wanted` are the steps that the rows ask for, where a time budget may allow fewer; else 0.
    """

    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    best_step: int = 0
    planned: int = 0
    ended: str = ""
    wanted: int = 0

    def add(self, step: int, loss: float, held_out: float, rate: float) -> None:
        """Note one evaluation."""
        self.steps.append(step)
        self.loss.append(loss)
        self.held_out.append(held_out)
        self.rate.append(rate)

    def frame(self) -> Any:
        """The evaluations as a frame: pandas where it is installed, else Arrow."""
        try:
            import pandas
        except ImportError:
            import pyarrow

            return pyarrow.table(self.columns())
        return pandas.DataFrame(self.columns())

    def columns(self) -> dict[str, list[Any]]:
        """The evaluations as named columns, for a frame."""
        return {
            "step": self.steps, "loss": self.loss, "held_out": self.held_out, "rate": self.rate,
        }  # fmt: skip
