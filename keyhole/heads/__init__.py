"""Heads: a decoder's state becomes a likelihood; one file each."""

from keyhole.heads.base import CellHead, Cells, Head
from keyhole.heads.bernoulli import Bernoulli
from keyhole.heads.binned import Binned
from keyhole.heads.categorical import Categorical
from keyhole.heads.counts import Counts
from keyhole.heads.gaussian import Gaussian
from keyhole.heads.logistic import Logistic
from keyhole.heads.mixed import Mixed
from keyhole.heads.poisson_gaussian import PoissonGaussian
from keyhole.heads.student_t import StudentT

__all__ = [
    "Bernoulli", "Binned", "Categorical", "CellHead", "Cells", "Counts", "Gaussian", "Head",
    "Logistic", "Mixed", "PoissonGaussian", "StudentT",
]  # fmt: skip
