"""
Fill gaps, and say how sure that is
===================================

A gap is filled with the value that the rest of the row lets expect. Several draws of the
same gap show how far the true value may lie from it.
"""

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
from sklearn.datasets import load_breast_cancer

from keyhole import Autoencoder, TrainingConfig
from keyhole.tasks import Impute

# %%
# We hide a third of one column, so that the truth is known. The model may learn from rows
# with gaps: what is missing there is left out.

data = load_breast_cancer()
columns = dict(zip(data.feature_names[:10].tolist(), data.data.T))
truth = columns["mean smoothness"]
hidden = np.random.default_rng(0).random(len(truth)) < 0.33
gappy = pa.table(columns | {"mean smoothness": pa.array(truth, mask=hidden)})

model = Autoencoder(training=TrainingConfig(steps=300), random_state=0).fit(gappy)

# %%
# ``Impute`` fills each gap with its expected value. With ``draws=30`` it gives each row 30
# times, each time with other values in the gaps.

filled = Impute(model).answer(gappy)["mean smoothness"].to_numpy()
draws = Impute(model, draws=30).answer(gappy)["mean smoothness"].to_numpy().reshape(-1, 30)
low, high = np.quantile(draws[hidden], [0.05, 0.95], axis=1)
inside = (low <= truth[hidden]) & (truth[hidden] <= high)
print(f"{inside.mean():.0%} of the true values lie in the range of 90 % of the draws")
print(f"mean error {np.abs(filled - truth)[hidden].mean():.4f}, by the column's mean "
      f"{np.abs(truth[~hidden].mean() - truth[hidden]).mean():.4f}")  # fmt: skip

# %%
# Each bar holds 90 % of the draws. Points on the diagonal are filled with their true value.

fig, ax = plt.subplots(figsize=(5.5, 5), layout="constrained")
ax.vlines(truth[hidden], low, high, color="tab:blue", alpha=0.3, label="90 % of draws")
ax.plot(truth[hidden], filled[hidden], ".", color="tab:blue", label="expected value")
ax.axline((truth.min(), truth.min()), slope=1, color="black", linewidth=1)
ax.set(xlabel="true value of mean smoothness", ylabel="filled value")
ax.legend()
plt.show()
