"""Draws the pictures of the views of the anomaly score in docs/images/.

It takes less than half a minute: `python docs/write_views.py`. The table has two columns: two
groups of rows along one curve, and a small tight group of anomalies among the training rows.
"""

import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from PIL import Image

from keyhole import AnomalyDetector, Autoencoder, TrainingConfig
from keyhole.autoencoder.input_validation import blocks_of
from keyhole.errors import KeyholeWarning

IMAGES = Path(__file__).with_name("images")
ROWS, ANOMALIES = 400, 12  # of each normal group; of the tight group
STEPS = 600  # of training
LOW, HIGH, PIXELS = (-3.2, -3.2), (3.2, 3.2), 121  # corners of the map, and points a side
LEVELS = (2, 4, 8, 16, 32)  # of contour lines: multiples of the usual answer
CLOSE_LEVELS = (0.5, 1, 1.5, 2, 2.5, 3)  # of a view whose answers differ little
TITLES = {"trusted": "trusted", "core": "core", "values": "values", "masked": "masked",
          "score": "the score: weighted mean"}  # fmt: skip
EDGE = 0.2  # nearer to the edge of the map, a label would be cut off
COLOURS = 192  # of a picture


def training_rows(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The two groups of normal rows, and the tight group of anomalies."""
    rng = np.random.default_rng(seed)
    a = np.concatenate([rng.uniform(-2.2, -0.2, ROWS), rng.uniform(0.9, 2.2, ROWS)])
    b = 0.9 * a + 0.4 * np.sin(2 * a)
    normal = np.stack([a, b], 1) + 0.12 * rng.normal(size=(2 * ROWS, 2))
    anomalies = np.array([-1.2, 1.7]) + 0.05 * rng.normal(size=(ANOMALIES, 2))
    return pd.DataFrame(normal, columns=["a", "b"]), pd.DataFrame(anomalies, columns=["a", "b"])


def plane() -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """The positions of the map's columns and lines, and a row for each of its points."""
    a, b = np.linspace(LOW[0], HIGH[0], PIXELS), np.linspace(LOW[1], HIGH[1], PIXELS)
    points = np.stack(np.meshgrid(a, b), -1).reshape(-1, 2)
    return a, b, pd.DataFrame(points, columns=["a", "b"])


def draw(
    axes: Axes, a: np.ndarray, b: np.ndarray, answers: np.ndarray,
    normal: pd.DataFrame, anomalies: pd.DataFrame,
) -> None:  # fmt: skip
    """Contour lines of one view with their numbers, and the training rows."""
    heights = answers.reshape(len(b), len(a))
    every = LEVELS if heights.max() > LEVELS[1] else CLOSE_LEVELS
    levels = [level for level in every if heights.min() < level < heights.max()]
    bounds = [0, *levels, heights.max() + 1]
    shades = plt.get_cmap("Blues")(np.linspace(0.0, 0.55, len(bounds) - 1))
    axes.contourf(a, b, heights, bounds, colors=shades)
    lines = axes.contour(a, b, heights, levels, colors="#334155", linewidths=0.8)
    axes.scatter(normal.a, normal.b, s=3, color="black", alpha=0.4, linewidths=0)
    axes.scatter(anomalies.a, anomalies.b, s=26, color="#b91c1c", marker="x", linewidths=1)
    for label in axes.clabel(lines, fmt="%g", fontsize=10, colors="black"):
        a_of_label, b_of_label = label.get_position()
        inside = LOW[0] + EDGE < a_of_label < HIGH[0] - EDGE
        label.set_visible(inside and LOW[1] + EDGE < b_of_label < HIGH[1] - EDGE)
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85})
    axes.set(xlabel="a", ylabel="b", aspect="equal")


def save(name: str, answers: np.ndarray, a: np.ndarray, b: np.ndarray, rows: tuple) -> None:
    """One picture: the map of one view."""
    figure, axes = plt.subplots(figsize=(5.0, 4.8), layout="constrained", facecolor="white")
    draw(axes, a, b, answers, *rows)
    axes.set_title(TITLES[name], loc="left")
    path = IMAGES / f"view_{name}.png"
    figure.savefig(path, dpi=100)
    plt.close(figure)
    Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore", KeyholeWarning)
    normal, anomalies = training_rows(0)
    template = Autoencoder(training=TrainingConfig(steps=STEPS), random_state=0)
    detector = AnomalyDetector(template).fit(pd.concat([normal, anomalies], ignore_index=True))
    a, b, points = plane()
    blocks = list(detector.scorer_.scored_blocks(blocks_of(detector.autoencoder_, points)))
    answers = [detector.scorer_.anomaly_score.by_view(block.raw_scores) for block in blocks]
    for name in answers[0]:
        save(name, np.concatenate([answer[name] for answer in answers]), a, b, (normal, anomalies))
    score = np.concatenate([block.anomaly_score for block in blocks])
    save("score", score, a, b, (normal, anomalies))
