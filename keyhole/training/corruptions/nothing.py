"""Nothing is changed: the row is given whole, and every seen cell counts one.

The question of a variational bound, whose noise is in the code; and of a net that shall be PCA.
"""

from torch import Generator

from keyhole.core.layout import Layout
from keyhole.core.records import Batch
from keyhole.training.corruptions.base import Corruption, Question


class Nothing(Corruption):
    """The plain reconstruction: nats of the seen cells, none weighed."""

    kind = "nothing"

    def ask(self, batch: Batch, layout: Layout, generator: Generator) -> Question:
        """The rows as they are."""
        return Question(batch, batch, batch.seen.to(batch.numbers.dtype))
