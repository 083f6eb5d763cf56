"""Plots for notebooks and scripts, on matplotlib: each draws on Axes and returns them."""

from keyhole.plotting.plots import plot_codes, plot_history, plot_scores

__all__ = ["plot_codes", "plot_history", "plot_scores"]
