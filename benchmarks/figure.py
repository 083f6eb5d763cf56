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
    methods = [x for x in lines if x["benchmark"] == "anomaly" and x["protocol"] == protocol]
    methods.sort(key=lambda line: line[measure])
    keyhole = next(line[measure] for line in methods if line["method"] == "keyhole")
    ax.axvline(keyhole, color="tab:red", linewidth=0.8, linestyle="--")
    intervals = differences(lines, protocol, measure)
    for place, line in enumerate(methods):
        color = "tab:red" if line["method"] == "keyhole" else "tab:gray"
        ax.plot(line[measure], place, "o", color=color)
        if line["method"] in intervals:
            low, high = intervals[line["method"]]
            ax.hlines(place, keyhole - high, keyhole - low, color=color, linewidth=2)
    ax.set_yticks(range(len(methods)), [line["method"] for line in methods])
    ax.grid(axis="x", alpha=0.3)


def differences(
    lines: list[dict[str, Any]], protocol: str, measure: str
) -> dict[str, list[float]]:
    """The interval of keyhole's mean minus that of each peer."""
    return {
        line["method"]: line[f"{measure}_95"]
        for line in lines
        if line["benchmark"] == "anomaly difference" and line["protocol"] == protocol
    }
