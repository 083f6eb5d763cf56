"""Priors: a density over codes, fitted after training; one file each."""

from keyhole.priors.base import Prior
from keyhole.priors.diffusion import Diffusion
from keyhole.priors.mixture import Mixture
from keyhole.priors.neighbours import Neighbours
from keyhole.priors.normal import Normal

__all__ = ["Diffusion", "Mixture", "Neighbours", "Normal", "Prior"]
