"""
Draw new rows under a condition
===============================

A ``Generator`` draws new rows that look like the given ones. With ``given`` some of their
values are fixed, and all others follow from these.
"""

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
from sklearn.datasets import load_iris

from keyhole import Autoencoder, Generator, TrainingConfig
from keyhole.bottlenecks import Variational
from keyhole.heads import Mixed

# %%
# 150 flowers of three species, and two of their measures.

iris = load_iris()
species = iris.target_names[iris.target]
columns = {"petal length": iris.data[:, 2], "petal width": iris.data[:, 3]}
flowers = pa.table(columns | {"sepal length": iris.data[:, 0], "species": species})

# %%
# ``Generator().fit(flowers)`` chooses all parts itself and trains for longer.

autoencoder = Autoencoder(
    Variational(beta=0.5), head=Mixed(continuous="binned"), training=TrainingConfig(steps=800)
)
generator = Generator(autoencoder, random_state=0).fit(flowers)
drawn = {name: generator.sample(100, given={"species": name}) for name in iris.target_names}

# %%
# Left: the real flowers. Right: 100 new ones of each species.

fig, axes = plt.subplots(1, 2, figsize=(8, 4), sharex=True, sharey=True, layout="constrained")
for name in iris.target_names:
    real = flowers.filter(pa.array(species == name))
    for ax, rows in zip(axes, (real, drawn[name])):
        x, y = rows["petal length"].to_numpy(), rows["petal width"].to_numpy()
        ax.plot(x, y + np.random.default_rng(0).normal(0, 0.015, len(y)), ".", label=name)
axes[0].set(title="real", xlabel="petal length in cm", ylabel="petal width in cm")
axes[1].set(title="new, with the species given", xlabel="petal length in cm")
axes[0].legend()
plt.show()
