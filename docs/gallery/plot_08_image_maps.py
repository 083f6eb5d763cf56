"""
Find odd images, and where they are odd
=======================================

Each image is a row. A detector learns good images, and says of a new one how odd it is. An
anomaly map says which of its pixels are.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage.data import brick

from keyhole import AnomalyDetector, Autoencoder, TrainingConfig

# %%
# Pieces of 16 x 16 pixels of a brick wall. Four of the new ones get a stain.

wall = brick()[::2, ::2].astype(np.float32)
corners = [(y, x) for y in range(0, 241, 6) for x in range(0, 241, 6)]
pieces = np.stack([wall[y : y + 16, x : x + 16] for y, x in corners])
pieces = pieces[np.random.default_rng(0).permutation(len(pieces))]
good, new = pieces[:-40], pieces[-40:].copy()
for place in range(4):
    new[place, 3 + 2 * place : 7 + 2 * place, 5:11] += 60

# %%
# The default settings train for longer.

autoencoder = Autoencoder(training=TrainingConfig(steps=150, members=1))
detector = AnomalyDetector(autoencoder, false_alarm_rate=0.05, random_state=0).fit(good)
score = -detector.score_samples(new)
order = np.argsort(-score)
print("the four most anomalous pieces:", sorted(order[:4].tolist()))
maps = detector.anomaly_map(new)

# %%
# Above: three pieces with a stain, and three without. Below: their anomaly maps. A value of 1
# is normal at that pixel.

fig, axes = plt.subplots(2, 6, figsize=(10, 3.8), layout="constrained")
for column, place in enumerate([0, 1, 2, 10, 20, 30]):
    axes[0, column].imshow(new[place], cmap="gray", vmin=0, vmax=255)
    axes[0, column].set_title(f"score {score[place]:.1f}", fontsize=9)
    shown = axes[1, column].imshow(maps[place], cmap="magma", vmin=0, vmax=8)
for ax in axes.flat:
    ax.set_axis_off()
fig.colorbar(shown, ax=axes[1], label="anomaly map")
plt.show()
