"""Will the code collapse? Told before training, from the data's eigenvalues.

In a linear variational autoencoder a direction of the data survives only where its variance is
above beta times the decoder's: below, the prior's price of it is more than it tells.
Source: Lucas et al. 2019, eq. 8 and section 4.3; Dai et al. 2018, section 3.
"""

import warnings
from typing import Any

import numpy as np

from keyhole.data.source import ArrowRows
from keyhole.errors import KeyholeWarning
from keyhole.modalities import Modality
from keyhole.model.bottlenecks import Bottleneck

MOST_ROWS = 20_000
LEAST_SHARE = 0.1  # of the code's dimensions


def predict_collapse(bottleneck: Bottleneck, head: Any, table: Modality, sample: Any) -> None:
    """Warn, before training, where hardly a direction is worth what the prior charges for it.

    Raises: SettingError for arguments without sense.
    """
    bottleneck.check()
    head.check()
    fixed: Any = getattr(head, "scale", None)
    beta: Any = getattr(bottleneck, "beta", None)
    gaussian = getattr(head, "continuous", None) == "gaussian"
    places = table.layout.with_head("student_t")
    if not bottleneck.stochastic or beta is None or not gaussian or not places:
        return
    units = np.array([table.layout.slots[i].unit for i in places])
    batch = table.encode(ArrowRows(sample.slice(0, MOST_ROWS)))
    held = batch.numbers[:, places].numpy()
    number = held * units if not isinstance(fixed, str) else held
    values = np.linalg.eigvalsh(np.atleast_2d(np.cov(number, rowvar=False)))[::-1]
    if isinstance(fixed, str) and len(places) == 1:
        return  # what is left out of one direction is nothing, so it is worth any price
    if isinstance(fixed, str):
        alive, variance = surviving(values, beta), None
    else:
        alive, variance = int((values > beta * float(fixed) ** 2).sum()), float(fixed) ** 2
    wide = bottleneck.width if isinstance(bottleneck.width, int) else len(places)
    if alive > LEAST_SHARE * min(wide, len(places)) and alive > 0:
        return
    said = "the best shared one" if variance is None else f"fixed at {variance:.3g}"
    warnings.warn(
        f"KH008 the code will collapse: {alive} of {len(places)} directions vary by more than "
        f"beta ({beta:g}) times the decoder's variance ({said}), the first by {values[0]:.3g}. "
        "Leave the scale to be learned (scale='shared'), or take a smaller beta",
        KeyholeWarning,
        stacklevel=6,
    )


def surviving(values: np.ndarray, beta: float) -> int:
    """How many directions survive where the decoder's variance is the best one.

    With m kept, that is the mean of what is left out (Lucas et al. 2019, eq. 7).
    """
    alive = 0
    for m in range(1, len(values)):
        if values[m - 1] > beta * max(float(values[m:].mean()), 1e-12):
            alive = m
    return alive
