"""Examples of the gallery run and draw, in a fast setting: 20 training steps.

`make docs` runs all of them in full. The slowest are left out here, unless KEYHOLE_GALLERY=all.
"""

import os
import runpy
from pathlib import Path

import matplotlib as mpl
import pytest

from keyhole.tasks import generator
from keyhole.training import TrainingConfig

mpl.use("Agg")
SLOWEST = {
    "plot_01_fraud", "plot_02_gaps", "plot_07_microscope", "plot_09_big_parquet",
    "plot_10_grid_search",
}  # fmt: skip
EXAMPLES = sorted((Path(__file__).parents[1] / "docs" / "gallery").glob("plot_*.py"))


@pytest.fixture
def few_steps(monkeypatch):
    """No run has more than 20 steps, whatever an example asks for."""
    monkeypatch.setattr(TrainingConfig, "steps_for", lambda config, rows, shared=0: 20)
    monkeypatch.setitem(generator.OWN_TRAINING, "steps", 20)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::keyhole.errors.KeyholeWarning")  # after 20 steps
def test_an_example_of_the_gallery_runs_and_draws(path, few_steps, monkeypatch):
    import matplotlib.pyplot as plt

    if path.stem in SLOWEST and os.environ.get("KEYHOLE_GALLERY") != "all":
        pytest.skip("slow; run by make docs, or with KEYHOLE_GALLERY=all")
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.get_fignums()))
    try:
        runpy.run_path(str(path))
    finally:
        plt.close("all")
    assert shown
    assert shown[-1]


def test_there_are_at_least_ten_short_examples():
    assert len(EXAMPLES) >= 10
    for path in EXAMPLES:
        assert len(path.read_text().splitlines()) < 60, path.name
