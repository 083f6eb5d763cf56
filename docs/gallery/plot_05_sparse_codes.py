"""
Read a sparse code
==================

A sparse code uses only a few of many code dimensions for each row. So each dimension can be
looked at: it stands for one pattern, and a row is a sum of a few patterns.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from keyhole import Autoencoder, TrainingConfig
from keyhole.bottlenecks import Pursuit

# %%
# ``Pursuit`` chooses 6 of 64 patterns for each digit, and weighs them.

digits = load_digits().data
training = TrainingConfig(steps=400, members=1, batch=128, learning_rate=0.01)
model = Autoencoder(Pursuit(64, k=6), training=training, random_state=0).fit(digits)
codes = model.transform(digits)
print(f"{(codes != 0).sum(1).mean():.1f} of {codes.shape[1]} dimensions are used by a row")

# %%
# The decoder is linear. So the pattern of a dimension is what the row gains by it.

empty = model.inverse_transform(np.zeros((1, 64), np.float32))
patterns = model.inverse_transform(np.eye(64, dtype=np.float32)) - empty

# %%
# The first line shows a digit, the six patterns that its code uses, with their weights, and
# their sum. So do the other lines, for other digits. Red adds ink, and blue removes it.

fig, axes = plt.subplots(4, 8, figsize=(9, 5), layout="constrained")
for line, row in zip(axes, [0, 3, 5, 8]):
    used = np.argsort(-np.abs(codes[row]))[:6]
    line[0].imshow(digits[row].reshape(8, 8), cmap="gray_r")
    line[7].imshow(model.inverse_transform(codes[row : row + 1]).reshape(8, 8), cmap="gray_r")
    for ax, unit in zip(line[1:7], used):
        part = codes[row, unit] * patterns[unit].reshape(8, 8)
        ax.imshow(part, cmap="RdBu_r", vmin=-6, vmax=6)
        ax.set_title(f"{codes[row, unit]:+.1f}", fontsize=9)
axes[0, 0].set_title("digit", fontsize=9)
axes[0, 7].set_title("sum", fontsize=9)
for ax in axes.flat:
    ax.set_axis_off()
plt.show()
