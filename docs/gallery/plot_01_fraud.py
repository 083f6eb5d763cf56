"""
Find odd payments in a table
============================

A detector learns what payments usually look like. It needs no labels. Here we know which
payments are fraud, because we made them, so we can see how many it finds.
"""

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa

from keyhole import AnomalyDetector, Autoencoder, TrainingConfig

# %%
# A payment in a foreign country is in that country's currency. An honest customer pays
# larger amounts by day. Fraud breaks both rules, while each of its values looks normal alone.

rng = np.random.default_rng(0)
countries, currencies = np.array(["US", "FR", "JP"]), np.array(["USD", "EUR", "JPY"])


def payments(rows: int, fraud: bool) -> pa.Table:
    """Rows of a card: hour, amount, country and currency."""
    where = rng.choice(3, rows, p=[0.4, 0.35, 0.25])
    hour = rng.normal(14, 3, rows) if not fraud else rng.normal(3, 1, rows)
    amount = np.exp(rng.normal(2 + 0.1 * np.clip(hour, 0, 24), 0.4) + 1.5 * fraud)
    money = (where + rng.integers(1, 3, rows) * fraud) % 3
    return pa.table({"hour": hour % 24, "amount": amount, "country": countries[where],
                     "currency": currencies[money]})  # fmt: skip


past = payments(3_000, fraud=False)
today = pa.concat_tables([payments(1_000, fraud=False), payments(15, fraud=True)])
is_fraud = np.arange(len(today)) >= 1_000

# %%
# The false alarm rate is a promise: of normal rows, about 1 % alarm.

autoencoder = Autoencoder(training=TrainingConfig(steps=300))
detector = AnomalyDetector(autoencoder, false_alarm_rate=0.01, random_state=0).fit(past)
answer = detector.answer(today)
print(f"{answer.alarm[is_fraud].sum()} of 15 frauds found")
print(f"{answer.alarm[~is_fraud].sum()} of 1,000 normal payments alarm")
for row in answer.strongest(3):
    print(f"row {row}: {answer.reasons[row][0]}")

# %%
# An anomaly score of 1 is a normal row. The dashed line is the threshold of an alarm. The hill
# before it holds the payments in Japan, the smallest group: unusual, but no alarms.

fig, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
bins = np.geomspace(answer.anomaly_score.min(), answer.anomaly_score.max(), 40)
ax.hist(answer.anomaly_score[~is_fraud], bins, label="normal payments", color="tab:blue")
ax.hist(answer.anomaly_score[is_fraud], bins, label="fraud", color="tab:red")
ax.axvline(-detector.offset_, color="black", linestyle="--", label="alarm above")
ax.set(xscale="log", yscale="log", xlabel="anomaly score", ylabel="payments")
ax.legend()
plt.show()
