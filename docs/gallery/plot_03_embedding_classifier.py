"""
Embed rows before a classifier
==============================

Labels are often few, while rows without labels are many. An autoencoder learns codes from all
rows. A simple classifier then learns from the codes of the few rows with a label.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from keyhole import Autoencoder, TrainingConfig

# %%
# 1,797 images of digits. The autoencoder sees no label.

images = load_digits().images.astype(np.float32)
labels = load_digits().target
training = TrainingConfig(steps=400, members=1)
encoder = Autoencoder("variational", width=12, training=training, random_state=0).fit(images)
features = {
    "64 pixels": images.reshape(len(images), -1),
    "PCA, 12 numbers": PCA(12, random_state=0).fit_transform(images.reshape(len(images), -1)),
    "keyhole, 12 numbers": encoder.transform(images),
}

# %%
# The classifier takes the label of the nearest labelled row. We repeat it with 20 random
# choices of labelled rows.

sizes, repeats = [20, 50, 100, 200], 20
accuracy = {name: np.zeros((len(sizes), repeats)) for name in features}
for repeat in range(repeats):
    order = np.random.default_rng(repeat).permutation(len(images))
    for place, size in enumerate(sizes):
        few, others = order[:size], order[size:]
        for name, rows in features.items():
            classifier = KNeighborsClassifier(1).fit(rows[few], labels[few])
            accuracy[name][place, repeat] = classifier.score(rows[others], labels[others])

# %%
# Twelve numbers are nearly as good as all 64 pixels. On these images PCA does as well, and it
# is faster: compare before you choose. (PCA reads no categories and no gaps; keyhole does.)
# The bars show the standard deviation between the choices.

fig, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
for name, values in accuracy.items():
    ax.errorbar(sizes, values.mean(1), values.std(1), marker="o", capsize=3, label=name)
ax.set(xscale="log", xlabel="labelled rows", ylabel="accuracy on all other rows")
ax.set_xticks(sizes, sizes)
ax.minorticks_off()
ax.legend()
plt.show()
