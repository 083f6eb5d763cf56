"""
Choose the width of the code
============================

A wide code keeps more of a row. A narrow one is shorter, and cannot copy noise. The
log-likelihood of rows that were left out shows where more width stops helping.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

from keyhole import Autoencoder, TrainingConfig

# %%
# ``score`` is the mean log-likelihood of a row. Higher is better.

train, test = train_test_split(load_wine().data, test_size=0.3, random_state=0)
training = TrainingConfig(steps=300)
widths = [1, 2, 3, 4, 6, 8, 12]
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
# The curve rises steeply at first, and then flattens.

fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
ax.plot(widths, scores, marker="o")
ax.axvline(width, color="black", linestyle="--", label='chosen by width="auto"')
ax.set(xlabel="width of the code", ylabel="log-likelihood of a left-out row")
ax.legend()
plt.show()
