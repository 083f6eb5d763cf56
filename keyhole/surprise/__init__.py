"""How surprising is a row? One scale from four questions, in multiples of the usual."""

from keyhole.surprise.surprise import QUESTIONS, Asked, Surprise, Weighed

__all__ = ["QUESTIONS", "Asked", "Surprise", "Weighed"]
