"""The estimator: one network, one loss, one fit."""

from keyhole.autoencoder.estimator import Autoencoder

__all__ = ["Autoencoder"]
