"""
Learn from a big Parquet file, and score it
===========================================

A path may stand wherever a table may. The file is read in blocks, so it may be larger than
the memory. So is the file that is scored.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
from pyarrow import parquet

from keyhole import AnomalyDetector, Autoencoder, TrainingConfig

# %%
# Readings of a machine, 10,000 rows in each of eight row groups. In the sixth group its pump
# wears out: pressure no longer follows speed. Each value alone stays within its range.

rng = np.random.default_rng(0)
path = Path(tempfile.mkdtemp()) / "readings.parquet"
names = ["speed", "pressure", "flow", "heat"]
with parquet.ParquetWriter(path, pa.schema([(name, pa.float64()) for name in names])) as writer:
    for group in range(8):
        speed = rng.normal(size=10_000)
        follows = 0.4 if group == 5 else 1.0
        pressure = follows * speed + np.sqrt(1.04 - follows**2) * rng.normal(size=10_000)
        flow, heat = speed**2 + 0.2 * rng.normal(size=10_000), rng.normal(size=10_000)
        writer.write_table(pa.table(dict(zip(names, (speed, pressure, flow, heat)))))

# %%
# The detector is fitted to the first groups. (Fit on a folder, a glob or the whole file is
# the same.) ``explain_rows="none"`` leaves out the reasons, which saves time.

first = path.with_name("first.parquet")
parquet.write_table(parquet.ParquetFile(path).read_row_groups([0, 1]), first)
autoencoder = Autoencoder(training=TrainingConfig(steps=300, members=1))
detector = AnomalyDetector(autoencoder, false_alarm_rate=0.01, random_state=0).fit(first)
answer = detector.answer(path, explain_rows="none")
print(f"{len(answer):,} rows scored, {answer.alarm.sum():,} alarms")

# %%
# On the command line, ``keyhole detect MODEL readings.parquet -o alarms.parquet`` writes the
# answers to a file block by block, and goes on from where it was if it is interrupted.

share = answer.alarm.reshape(-1, 1_000).mean(1)
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.bar(np.arange(len(share)), 100 * share, width=0.9)
ax.axhline(1, color="black", linestyle="--", label="promised for normal rows")
ax.set(xlabel="thousand rows of the file", ylabel="alarms in %")
ax.legend()
plt.show()
