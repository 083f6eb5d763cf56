"""
Draw new rows under a condition
===============================

A ``Generator`` draws new rows that look like the given ones. With ``given`` some of their
values are fixed, and all others follow from these.
"""

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa

from keyhole import Autoencoder, Generator, TrainingConfig
from keyhole.bottlenecks import Variational
from keyhole.heads import Mixed
from keyhole.priors import Mixture

# %%
# 1,500 flats in three towns. Rent grows with area, and each town has its own price.

rng = np.random.default_rng(0)
towns, prices = np.array(["Aville", "Bedford", "Coburg"]), np.array([9, 14, 22])
place = rng.choice(3, 1_500, p=[0.5, 0.3, 0.2])
rooms = rng.integers(1, 6, 1_500)
area = np.round(rooms * 20 + rng.normal(10, 5, 1_500))
rent = np.round(area * prices[place] * np.exp(0.1 * rng.normal(size=1_500)), -1)
flats = pa.table({"town": towns[place], "rooms": rooms, "area": area, "rent": rent})

# %%
# ``Generator().fit(flats)`` chooses all parts itself and trains for longer.

training = TrainingConfig(steps=700, members=1)
parts = {"bottleneck": Variational(beta=0.5), "head": Mixed(continuous="binned")}
autoencoder = Autoencoder(**parts, training=training)
generator = Generator(autoencoder, prior=Mixture(), random_state=0).fit(flats)
drawn = {town: generator.sample(200, given={"town": town}) for town in towns}

# %%
# Left: the real flats. Right: 200 new ones of each town, which was given.

fig, axes = plt.subplots(1, 2, figsize=(8, 4), sharex=True, sharey=True, layout="constrained")
for town in towns:
    real = flats.filter(pa.array(towns[place] == town))
    for ax, rows in zip(axes, (real, drawn[town])):
        ax.plot(rows["area"].to_numpy(), rows["rent"].to_numpy(), ".", markersize=4, label=town)
axes[0].set(title="real", xlabel="area in square metres", ylabel="rent")
axes[1].set(title="new, with the town given", xlabel="area in square metres")
axes[0].legend()
plt.show()
