"""
Find odd images, and where they are odd
=======================================

Each image is a row. A detector learns good images, and says of a new one how odd it is. An
anomaly map says which of its pixels are.
"""

import matplotlib.pyplot as plt
import numpy as np

from keyhole import AnomalyDetector, Autoencoder, TrainingConfig

# %%
# Small images of washers, which lie not always in the same place. Four of the new ones are
# broken: a piece is missing.

rng = np.random.default_rng(0)
row, column = np.mgrid[:16, :16]


def washers(number: int) -> np.ndarray:
    """Images (number, 16, 16) of rings."""
    y, x = rng.uniform(7, 8, (2, number, 1, 1))
    radius = np.hypot(row - y, column - x)
    return 50 + 150 * np.exp(-((radius - 5) ** 2)) + 5 * rng.normal(size=radius.shape)


good, new = washers(1_200), washers(40)
new[0, 1:5, 5:9] = new[1, 7:10, 10:15] = new[2, 10:14, 2:6] = new[3, 9:15, 6:10] = 50

# %%
# The default settings train for longer.

autoencoder = Autoencoder(training=TrainingConfig(steps=120, members=1))
detector = AnomalyDetector(autoencoder, false_alarm_rate=0.05, random_state=0).fit(good)
score = -detector.score_samples(new)
order = np.argsort(-score)
print("the four most anomalous images:", sorted(order[:4].tolist()))
maps = detector.anomaly_map(new)

# %%
# Above: three broken washers, and three good ones. Below: their anomaly maps. A value of 1
# is normal at that pixel.

fig, axes = plt.subplots(2, 6, figsize=(10, 3.8), layout="constrained")
for column, place in enumerate([0, 1, 2, 10, 20, 30]):
    axes[0, column].imshow(new[place], cmap="gray", vmin=0, vmax=255)
    axes[0, column].set_title(f"score {score[place]:.1f}", fontsize=9)
    shown = axes[1, column].imshow(maps[place], cmap="magma", vmin=0, vmax=10)
for ax in axes.flat:
    ax.set_axis_off()
fig.colorbar(shown, ax=axes[1], label="anomaly map")
plt.show()
