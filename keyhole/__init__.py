"""Autoencoders that people put to work: an autoencoder is a distribution p(x | code(x))."""

from keyhole.estimator import Autoencoder

__version__ = "0.1.0"
__all__ = ["Autoencoder"]
