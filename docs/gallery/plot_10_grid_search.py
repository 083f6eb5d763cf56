"""
Choose settings by cross-validation
===================================

The estimators are scikit-learn estimators. So ``GridSearchCV`` can try their settings, and
those of their parts, such as ``bottleneck__width``.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV

from keyhole import Autoencoder, TrainingConfig
from keyhole.bottlenecks import Plain

# %%
# ``score`` is the mean log-likelihood of a row that was left out. ``GridSearchCV`` takes the
# settings whose score is highest.

grid = {
    "bottleneck__width": [1, 2, 4],
    "training__learning_rate": [1e-3, 1e-2],
}
model = Autoencoder(Plain(), training=TrainingConfig(steps=100, members=1), random_state=0)
search = GridSearchCV(model, grid, cv=3).fit(load_wine().data)
print(search.best_params_)

# %%
# Each field is the mean over three folds. The best one has a frame.

scores = search.cv_results_["mean_test_score"].reshape(3, 2)
fig, ax = plt.subplots(figsize=(4.5, 4), layout="constrained")
shown = ax.imshow(scores, cmap="viridis", aspect="auto")
for (line, column), score in np.ndenumerate(scores):
    color = "black" if score > scores.mean() else "white"
    ax.text(column, line, f"{score:.1f}", ha="center", va="center", color=color)
line, column = np.unravel_index(scores.argmax(), scores.shape)
frame = plt.Rectangle((column - 0.5, line - 0.5), 1, 1, fill=False, edgecolor="red", linewidth=3)
ax.add_patch(frame)
ax.set_xticks(range(2), grid["training__learning_rate"])
ax.set_yticks(range(3), grid["bottleneck__width"])
ax.set(xlabel="learning rate", ylabel="width of the code")
fig.colorbar(shown, label="log-likelihood of a left-out row")
plt.show()
