"""
Watch a machine
===============

Readings over time become a series where their time stamps are named. The detector then looks
at windows of time, and joins alarms to events.
"""

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa

from keyhole import AnomalyDetector, Autoencoder, Schema, TrainingConfig

# %%
# A pump: its current follows its flow. For 40 seconds of the second half it does not.

seconds, rng = np.arange(4_000), np.random.default_rng(0)
flow = 5 + np.sin(seconds / 16 * 2 * np.pi) + 0.1 * rng.normal(size=4_000)
current = 2 * flow + 0.2 * rng.normal(size=4_000)
current[3_200:3_240] = 10 + 1.4 * rng.normal(size=40)
clock = np.datetime64("2024-05-01T00:00:00") + seconds.astype("timedelta64[s]")
pump = pa.table({"time": clock, "flow": flow, "current": current})

# %%
# It learns from the first half, and is asked about the second.

autoencoder = Autoencoder(training=TrainingConfig(steps=150))
detector = AnomalyDetector(autoencoder, schema=Schema(time="time"), random_state=0)
detector.fit(pump[:2_000])
answer = detector.answer(pump[2_000:])
events = detector.events(pump[2_000:], false_events="1/hour").to_pylist()
for event in events:
    print(f"{event['channel']}: {event['start']:%H:%M:%S} to {event['end']:%H:%M:%S}")

# %%
# Above: the current. Below: the anomaly score, where 1 is normal. Events are shaded.

fig, axes = plt.subplots(2, 1, figsize=(9, 4.5), sharex=True, layout="constrained")
axes[0].plot(clock[2_000:], current[2_000:], linewidth=0.6)
axes[1].plot(clock[2_000:], answer.anomaly_score, linewidth=0.8, color="tab:red")
for ax in axes:
    for event in events:
        ax.axvspan(event["start"], event["end"], color="tab:red", alpha=0.2)
axes[0].set(ylabel="current in A")
axes[1].set(ylabel="anomaly score")
plt.show()
