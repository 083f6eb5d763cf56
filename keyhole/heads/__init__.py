"""Heads: a decoder's state becomes a likelihood; one file each."""

from keyhole.heads.base import CellHead, Cells, Head
from keyhole.heads.bernoulli import Bernoulli
from keyhole.heads.categorical import Categorical
from keyhole.heads.counts import Counts
from keyhole.heads.mixed import Mixed
from keyhole.heads.student_t import StudentT

__all__ = [
    "Bernoulli", "Categorical", "CellHead", "Cells", "Counts", "Head", "Mixed", "StudentT",
]  # fmt: skip
