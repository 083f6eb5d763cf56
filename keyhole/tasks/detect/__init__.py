"""How anomalous is a row? One scale from four questions, in multiples of the usual."""

from keyhole.tasks.detect.views import QUESTIONS, AnomalyScore, Asked, ScoredViews

__all__ = ["QUESTIONS", "AnomalyScore", "Asked", "ScoredViews"]
