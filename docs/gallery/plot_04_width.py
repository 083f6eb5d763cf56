"""
Choose the width of the code
============================

A wide code keeps more of a row. A narrow one is shorter, and cannot copy noise. The
log-likelihood of rows that were left out shows where more width stops helping.
"""

import matplotlib.pyplot as plt
import numpy as np

from keyhole import Autoencoder, TrainingConfig

# %%
# 20 columns that follow from four causes that nobody measured, and some noise.

rng = np.random.default_rng(0)
causes, weights = rng.normal(size=(1_500, 4)), rng.normal(size=(4, 20))
rows = np.tanh(causes @ weights / 1.5) + 0.1 * rng.normal(size=(1_500, 20))
train, test = rows[:1_000], rows[1_000:]

# %%
# ``score`` is the mean log-likelihood of a row. Higher is better.

training = TrainingConfig(steps=150, members=1)
widths = [1, 2, 3, 4, 5, 6, 8, 12]
scores = [
    Autoencoder(width=width, training=training, random_state=0).fit(train).score(test)
    for width in widths
]

# %%
# ``width="auto"`` makes the choice for you. It trains one code whose dimensions are sorted by
# importance, and cuts it where the rest helps little.

chosen = Autoencoder(width="auto", training=training, random_state=0).fit(train)
width = chosen.transform(test).shape[1]
print("width chosen:", width)

# %%
# The curve rises up to the number of causes, and is flat from there on. "auto" stops where one
# more dimension adds little.

fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
ax.plot(widths, scores, marker="o")
ax.axvline(width, color="black", linestyle="--", label='chosen by width="auto"')
ax.set(xlabel="width of the code", ylabel="log-likelihood of a left-out row")
ax.legend()
plt.show()
