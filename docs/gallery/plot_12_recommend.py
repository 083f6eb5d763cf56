"""
Recommend items
===============

A row says that a user touched an item. From such rows the recommender learns which items go
together, and ranks all items for a user.
"""

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa

from keyhole import Recommender

# %%
# 400 listeners like two of five genres each, and some songs are more popular than others.

rng = np.random.default_rng(0)
genres = np.array(["jazz", "rock", "folk", "soul", "punk"])
genre = np.arange(60) % 5  # of 60 songs
rows = []
for listener in range(400):
    liked = np.isin(genre, rng.choice(5, 2, replace=False))
    chance = np.where(liked, 1.0, 0.05) / np.arange(3, 63) ** 0.5
    songs = rng.choice(60, rng.integers(6, 14), replace=False, p=chance / chance.sum())
    rows += [(f"listener {listener}", f"song {song}") for song in songs.tolist()]
plays = pa.table(dict(zip(("user", "song"), zip(*rows))))

# %%
# "auto", the default, compares several kinds of models. "linear" is the fastest. On data as
# simple as these, counting which songs are played together (item-kNN) does as well, and the
# verdict says so.

recommender = Recommender("linear", random_state=0).fit(plays)
print(recommender.verdict_)
newcomer = pa.table({"user": ["you"] * 3, "song": ["song 0", "song 5", "song 10"]})  # all jazz
lists = recommender.recommend(newcomer, k=12)

# %%
# The newcomer played three jazz songs. The bars are the twelve songs recommended next.

songs = [int(name.split()[1]) for name in lists["item"].to_pylist()]
fig, ax = plt.subplots(figsize=(7, 3.8), layout="constrained")
colors = [f"C{genre[song]}" for song in songs]
ax.barh(range(12), lists["score"].to_numpy(), color=colors)
ax.set_yticks(range(12), [f"song {song} ({genres[genre[song]]})" for song in songs])
ax.invert_yaxis()
ax.set(xlabel="score")
plt.show()
