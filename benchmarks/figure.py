"""The figure of docs/benchmarks.md: AUROC and AP of keyhole beside its peers, with intervals."""

from pathlib import Path
from typing import Any

from benchmarks.page import ROOT, lines_of

PATH = ROOT / "docs" / "images" / "benchmarks.svg"
PROTOCOLS = {"clean": "trained on normal rows", "contaminated": "trained on all rows"}
MEASURES = {"auroc": "mean AUROC", "ap": "mean AP"}


def draw(path: Path = PATH) -> None:
    """Write the figure from the lines of `anomaly`."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "keyhole", "font.size": 9}
    import matplotlib.pyplot as plt

    lines = lines_of("anomaly")
    figure, grid = plt.subplots(2, 2, figsize=(8, 6.4), layout="constrained")
    for axes, (protocol, title) in zip(grid, PROTOCOLS.items()):
        for ax, (measure, label) in zip(axes, MEASURES.items()):
            panel(ax, lines, protocol, measure)
            ax.set(title=title, xlabel=label)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def panel(ax: Any, lines: list[dict[str, Any]], protocol: str, measure: str) -> None:
    """One measure of all methods, best above, under one protocol."""
    own = [x for x in lines if x["benchmark"] == "anomaly" and x["protocol"] == protocol]
    own.sort(key=lambda line: line[measure])
    for place, line in enumerate(own):
        first = line["method"] == "keyhole"
        ax.plot(line[measure], place, "o", color="tab:red" if first else "tab:gray")
        if first:
            low, high = interval(lines, protocol, measure, line[measure])
            ax.hlines(place, low, high, color="tab:red", linewidth=2)
    ax.set_yticks(range(len(own)), [line["method"] for line in own])
    ax.grid(axis="x", alpha=0.3)


def interval(
    lines: list[dict[str, Any]], protocol: str, measure: str, value: float
) -> tuple[float, float]:
    """Where keyhole's figure would lie for leads at the ends of the interval of its lead."""
    spreads = [
        line[measure]
        for line in lines
        if line["benchmark"] == "anomaly spread" and line["protocol"] == protocol
    ]
    if not spreads:
        return value, value
    low, high = spreads[0]["lead_5_95"]
    return value - spreads[0]["lead"] + low, value - spreads[0]["lead"] + high
