"""Priors: a density over codes, fitted after training; one file each."""

from keyhole.model.priors.base import Mixture, Neighbours, Normal, Prior
from keyhole.model.priors.diffusion import Diffusion

__all__ = ["Diffusion", "Mixture", "Neighbours", "Normal", "Prior"]
