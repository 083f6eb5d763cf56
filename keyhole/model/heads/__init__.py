"""Heads: a decoder's state becomes a likelihood; one file each."""

from keyhole.model.heads.base import FeatureHead, FeatureLikelihood, Head, Mixed
from keyhole.model.heads.continuous import Binned, Gaussian, StudentT
from keyhole.model.heads.discrete import Bernoulli, Categorical, Counts
from keyhole.model.heads.items import Multinomial
from keyhole.model.heads.pixels import Logistic, PoissonGaussian

__all__ = [
    "Bernoulli", "Binned", "Categorical", "Counts", "FeatureHead", "FeatureLikelihood", "Gaussian",
    "Head", "Logistic", "Mixed", "Multinomial", "PoissonGaussian", "StudentT",
]  # fmt: skip
