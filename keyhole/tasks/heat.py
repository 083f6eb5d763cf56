"""Heat maps: how surprising each pixel of a picture is, 1 where it is as usual."""

from __future__ import annotations

from typing import Any

import numpy as np

from keyhole.errors import SettingError
from keyhole.sources.resize import resized
from keyhole.surprise.heat import pixel_nats
from keyhole.tasks.gauge import Gauge


def heat_of(gauge: Gauge, blocks: Any) -> np.ndarray:
    """(picture, height, width) of all blocks, at the size that pictures came in.

    Raises: SettingError for the rows of a table.
    """
    grid = gauge.table.layout.grid
    if grid is None or gauge.usual is None:
        raise SettingError("a heat map is of pictures; answer() names the columns of a table")
    form, found = gauge.table.form, []  # pyright: ignore
    for start, rows in blocks:
        nats = pixel_nats(gauge.surprise.network, gauge.table.encode(rows, start)).mean(0).numpy()
        heat = (nats / gauge.usual).reshape(-1, *grid[:2])
        if form.resized:
            heat = resized(np.nan_to_num(heat, nan=1.0)[..., None], form.original)[..., 0]
        found.append(heat)
    return np.concatenate(found)
