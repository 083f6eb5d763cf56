"""Sparse codes of item embeddings, compared with PCA and product quantisation of equal size.

    python -m benchmarks.sparse_codes [citeulike lastfm] [--ways top_k pursuit]

Embeddings: four fifths of each user's items are used; the last fifth is for testing. The user-item
matrix is divided by the square roots of both degrees; truncated SVD gives 256 dimensions (times
singular values). Items of fewer than three training users are left out. Rows have unit length. As
float32 a row takes 1,024 bytes. A code of k = 21 weights takes 84 bytes (2 for an index, 2 for a
value as float16), a twelfth.

`recall`: the share of the ten nearest items (cosine, on the embeddings) that are also among the
ten nearest by the stored data. `code` uses the cosine of sparse codes, `decoded` that of
reconstructed rows. `ndcg`: NDCG@100 of a user's test items, ranked by the cosine to the mean of
the training items, divided by that of the embeddings. `held_out`: the cosine of reconstructed rows
that the net was not trained on.

PCA and product quantisation (k-means in blocks of a random rotation) are fitted to all items. A
net stops and is calibrated by rows that it is not trained on.
"""

import argparse
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from scipy import sparse
from scipy.sparse.linalg import svds

from benchmarks.common import data, emit
from keyhole import Autoencoder, TrainingConfig
from keyhole.autoencoder.input_validation import blocks_of
from keyhole.bottlenecks import Pursuit, TopK
from keyhole.corruptions import NoCorruption
from keyhole.heads import Mixed
from keyhole.nets import LinearNet
from keyhole.tasks import sparse_codes

SETS = ("citeulike", "lastfm")
DIMENSIONS, LEAST_USERS, TEST_SHARE, NEIGHBOURS, DEPTH = 256, 3, 0.2, 10, 100
WIDTH, K = 1_024, 21
BYTES = 4 * K  # of a code: an index of 16 bits and a float16 for each weight
QUERIES, QUERY_ROWS, CENTROIDS, ROUNDS = 2_000, 1_000, 256, 8
EMBEDDINGS = {"net": LinearNet(), "head": Mixed(continuous="gaussian"),
              "corruption": NoCorruption()}  # fmt: skip


def interactions(name: str) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Training and test pairs of users and items, as matrices of ones."""
    files = [data(name) / f"{part}.txt" for part in ("train", "valid", "test")]
    pairs = np.concatenate([np.loadtxt(file, dtype=np.int64)[:, :2] for file in files])
    users, items = (np.unique(column, return_inverse=True)[1] for column in pairs.T)
    order = np.random.default_rng(0).permutation(len(users))
    order = order[np.argsort(users[order], kind="stable")]
    sorted_users = users[order]
    rank = np.arange(len(users)) - np.searchsorted(sorted_users, sorted_users)
    is_test = rank >= np.ceil((1 - TEST_SHARE) * np.bincount(users)[sorted_users])
    shape = (users.max() + 1, items.max() + 1)
    train, test = (
        sparse.csr_array((np.ones(len(part), np.float32), (users[part], items[part])), shape)
        for part in (order[~is_test], order[is_test])
    )
    common = np.flatnonzero(train.sum(0) >= LEAST_USERS)
    return train[:, common], test[:, common]


def embeddings(train: sparse.csr_array) -> np.ndarray:
    """Items by truncated SVD, of unit length."""
    users, items = (sparse.diags_array(train.sum(i).clip(1) ** -0.5) for i in (1, 0))
    _, sizes, factors = svds(users @ train @ items, k=DIMENSIONS, random_state=0)  # pyright: ignore
    return unit(factors.T * sizes)


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of unit length."""
    return (x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12)).astype(np.float32)


def nearest(x: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The nearest rows to these rows by cosine, without themselves."""
    x, parts = unit(x), []
    for rows in np.array_split(queries, -(-len(queries) // QUERY_ROWS)):
        cosines = x[rows] @ x.T
        cosines[np.arange(len(rows)), rows] = -2
        parts.append(np.argpartition(-cosines, NEIGHBOURS, axis=1)[:, :NEIGHBOURS])
    return np.concatenate(parts)


def ndcg(x: np.ndarray, train: sparse.csr_array, test: sparse.csr_array) -> float:
    """NDCG of test items by their cosine to the mean of a user's training items."""
    x, gains = unit(x), 1 / np.log2(np.arange(DEPTH) + 2)
    users = np.flatnonzero((test.sum(1) > 0) & (train.sum(1) > 0))
    parts = []
    for rows in np.array_split(users, -(-len(users) // QUERY_ROWS)):
        scores = (train[rows] @ x) @ x.T
        scores[train[rows].nonzero()] = -np.inf
        best = np.argpartition(-scores, DEPTH, axis=1)[:, :DEPTH]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
        hits = np.take_along_axis(test[rows].toarray(), np.take_along_axis(best, order, 1), 1)
        most = np.minimum(test[rows].sum(1).astype(int), DEPTH)
        parts.append((hits * gains).sum(1) / gains.cumsum()[most - 1])
    return float(np.concatenate(parts).mean())


def principal(x: np.ndarray, dimensions: int) -> np.ndarray:
    """Rows in their leading singular directions: the codes of an uncentered PCA."""
    return x @ np.linalg.eigh(x.T @ x)[1][:, -dimensions:]


def quantised(x: np.ndarray, blocks: int) -> np.ndarray:
    """Rows rebuilt from a byte for each block of a random rotation, by k-means in each."""
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(x.shape[1], x.shape[1])))[0].astype(np.float32)
    rotated = x @ rotation
    for columns in np.array_split(np.arange(x.shape[1]), blocks):
        part = rotated[:, columns]
        centroids = part[rng.choice(len(part), CENTROIDS, replace=False)]
        for _ in range(ROUNDS):
            nearest_one = ((centroids**2).sum(1) - 2 * part @ centroids.T).argmin(1)
            members = sparse.csr_array(
                (np.ones(len(part), np.float32), (nearest_one, np.arange(len(part)))),
                (CENTROIDS, len(part)),
            )
            counts = members.sum(1)[:, None]
            centroids = np.where(counts > 0, members @ part / counts.clip(1), centroids)
        rotated[:, columns] = centroids[((centroids**2).sum(1) - 2 * part @ centroids.T).argmin(1)]
    return rotated @ rotation.T


def coded(x: np.ndarray, bottleneck: Any, **parts: Any) -> dict[str, Any]:
    """Sparse codes with values as float16, the rows rebuilt from them, and how the fit went."""
    rows = pa.table({"vector": pa.FixedSizeListArray.from_arrays(x.ravel(), x.shape[1])})
    training = TrainingConfig(500, members=1, batch=256, learning_rate=1e-2, patience=None)
    model = Autoencoder(bottleneck, training=training, random_state=0, **parts).fit(rows)
    codes = sparse_codes(model, rows).toarray()
    codes = codes.astype(np.float16).astype(np.float32)
    table = model.inverse_transform(codes)
    decoded = np.stack([column.to_numpy() for column in table.columns], 1)
    trained = [model.model_.trained_on(block, start) for start, block in blocks_of(model, rows)]
    cosines = (unit(decoded) * x).sum(1)[~np.concatenate(trained)]
    assert (codes != 0).sum(1).max() <= K
    idle = float((codes == 0).all(0).mean())
    return {"code": codes, "decoded": decoded, "held_out": float(cosines.mean()), "idle": idle}


def ways() -> dict[str, tuple[Any, dict[str, Any]]]:
    """The bottlenecks that are compared, and their other parts."""
    return {
        "top_k": (TopK(WIDTH, k=K), EMBEDDINGS),
        "pursuit": (Pursuit(WIDTH, k=K), {}),
        "pursuit, twice as wide, 7 rounds": (Pursuit(2 * WIDTH, k=K, rounds=7), {}),
    }


def measured(name: str, only: list[str] | None) -> None:
    """A line for each way to store the embeddings of a data set; with `only`, for some nets."""
    train, test = interactions(name)
    x = embeddings(train)
    queries = np.random.default_rng(1).permutation(len(x))[:QUERIES]
    truth, whole = nearest(x, queries), ndcg(x, train, test)

    def quality(stored: np.ndarray) -> dict[str, float]:
        hits = (nearest(stored, queries)[:, :, None] == truth[:, None, :]).any(2)
        return {"recall": float(hits.mean()), "ndcg": ndcg(stored, train, test) / whole}

    if only is None:
        emit("sparse_codes", set=name, items=len(x), way="float32", bytes=4 * DIMENSIONS,
             ndcg=whole)  # fmt: skip
        emit("sparse_codes", set=name, way="pca, float16", bytes=BYTES,
             **quality(principal(x, BYTES // 2)))  # fmt: skip
        emit("sparse_codes", set=name, way="product quantisation", bytes=BYTES,
             **quality(quantised(x, BYTES)))  # fmt: skip
    for way in only or ways():
        bottleneck, parts = ways()[way]
        result = coded(x, bottleneck, **parts)
        emit("sparse_codes", set=name, way=way, bytes=BYTES, held_out=result["held_out"],
             idle=result["idle"], code=quality(result["code"]),
             decoded=quality(result["decoded"]), bar=0.98)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sets", nargs="*", default=SETS)
    parser.add_argument("--ways", nargs="+", choices=ways(), help="only these nets")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.sets:
        measured(name, options.ways)


if __name__ == "__main__":
    main()
