"""How surprising is a row? One scale from four questions, in multiples of the usual."""

from keyhole.tasks.detect.views import QUESTIONS, Asked, Surprise, Weighed

__all__ = ["QUESTIONS", "Asked", "Surprise", "Weighed"]
