"""Whole images: pneumonia without examples of it, and codes of 16 dimensions for digits.

    python -m benchmarks.images [--seeds 3] [--seconds 120] [--only pneumonia digits]

*Pneumonia* (PneumoniaMNIST, 28x28): fitted only on the 388 normal training images. The figure is
the AUROC of the 624 test images. The peers are the error of PCA (16 components), and PyOD's
AutoEncoder and KNN on the pixels, with their defaults.

*Digits*: the 10,000 test images of MNIST: 8,000 to train on, 1,000 to stop by, 1,000 to test. The
figures are the accuracy of a five-nearest-neighbours classifier on the training codes, and the
mean squared error of reconstructed images (pixels from 0 to 1). The peers are PCA and pythae's AE.
Each trains on one thread for the same time. pythae's own net for MNIST does not finish a second
epoch in four minutes on one core. So its default net is used, with the better of two learning
rates (on the images to stop by). keyhole gets the images to train and to stop by together, and
splits them itself.

Bars: better than each peer.
"""

import argparse
import gzip
import json
import os
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from benchmarks.anomaly import pyod
from benchmarks.common import data, emit
from benchmarks.peers import environment
from keyhole import AnomalyDetector, Autoencoder, TrainingConfig
from keyhole.model.bottlenecks import Plain
from keyhole.training.corruptions import NoCorruption

ROOT = Path(__file__).parents[1]
WIDTH = 16
PEER: dict[str, Any] = {"net": "mlp", "latent": WIDTH, "batch": 100, "rate": 3e-3}
CUTS = (8_000, 9_000)


def pneumonia(seeds: int) -> None:
    """AUROC of each method, seed by seed."""
    held = np.load(data("images") / "pneumoniamnist.npz")
    labels = {part: held[f"{part}_labels"].ravel() for part in ("train", "val", "test")}
    train = held["train_images"][labels["train"] == 0]
    flat = train.reshape(len(train), -1) / 255.0
    for seed in range(seeds):
        began = time.process_time()
        detector = AnomalyDetector(random_state=seed).fit(train)
        figures = {
            f"{part}_auroc": roc_auc_score(
                labels[part], -detector.score_samples(held[f"{part}_images"])
            )
            for part in ("val", "test")
        }
        took = time.process_time() - began
        normal = held["test_images"][labels["test"] == 0]
        alarms = float((detector.p_value(normal) <= 0.05).mean())
        emit("images", line="pneumonia", method="keyhole", seed=seed, **figures,
             alarms_at_5_percent=alarms, cpu_seconds=took)  # fmt: skip
        for name in ("PCA error", "AutoEncoder", "KNN"):
            figures = {
                f"{part}_auroc": roc_auc_score(
                    labels[part], peer(name, flat, held[f"{part}_images"], seed)
                )
                for part in ("val", "test")
            }
            emit("images", line="pneumonia", method=name, seed=seed, **figures)


def peer(name: str, train: np.ndarray, images: np.ndarray, seed: int) -> np.ndarray:
    """The scores of images by one of the others, higher = odder."""
    x = images.reshape(len(images), -1) / 255.0
    if name != "PCA error":
        return pyod(name)(train, x, seed)[0]
    pca = PCA(WIDTH, random_state=seed).fit(train)
    return ((x - pca.inverse_transform(pca.transform(x))) ** 2).mean(1)


def digits(seeds: int, seconds: float) -> None:
    """Five neighbours on codes, and the error of rebuilt images."""
    folder = data("images")
    raw = gzip.decompress((folder / "mnist-t10k-images-idx3-ubyte.gz").read_bytes())
    images = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)
    raw = gzip.decompress((folder / "mnist-t10k-labels-idx1-ubyte.gz").read_bytes())
    labels = np.frombuffer(raw, np.uint8, offset=8)
    order = np.random.default_rng(0).permutation(len(images))
    train, stop, test = np.split(order, CUTS)

    def said(codes: np.ndarray, asked: np.ndarray, rebuilt: np.ndarray) -> dict[str, float]:
        near = KNeighborsClassifier(5).fit(codes, labels[train])
        error = ((rebuilt - images[test] / 255.0) ** 2).mean()
        return {"knn": float(near.score(asked, labels[test])), "mse": float(error)}

    flat = images.reshape(len(images), -1) / 255.0
    pca = PCA(WIDTH, random_state=0).fit(flat[train])
    asked = pca.transform(flat[test])
    rebuilt = pca.inverse_transform(asked).reshape(-1, 28, 28)
    emit("images", line="digits", method="PCA", **said(pca.transform(flat[train]), asked, rebuilt))
    for seed in range(seeds):
        training = TrainingConfig(time_budget_s=0.75 * seconds, members=1, patience=None)
        model = Autoencoder(
            Plain(WIDTH), corruption=NoCorruption(), training=training, random_state=seed
        )
        began = time.monotonic()
        model.fit(images[np.concatenate([train, stop])])
        took = time.monotonic() - began
        codes, asked = model.transform(images[train]), model.transform(images[test])
        figures = said(codes, asked, model.inverse_transform(asked) / 255.0)
        emit("images", line="digits", method="keyhole", seed=seed, **figures, seconds=took,
             steps=model.model_.history.planned)  # fmt: skip
        parts = {"train": train, "stop": stop, "test": test}
        held = {name: images[part].astype(np.float32) / 255 for name, part in parts.items()}
        found, spent = pythae(held, seconds=seconds, seed=seed)
        emit("images", line="digits", method="pythae AE", seed=seed, **spent,
             **said(found["train"], found["test"], found["rebuilt"]))  # fmt: skip


def pythae(
    parts: dict[str, np.ndarray], **settings: Any
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What pythae makes of it, in a process of its own environment with one thread."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(given, **parts)
        command = [environment("pythae"), ROOT / "benchmarks" / "peer_pythae_ae.py", given, found,
                   json.dumps(PEER | settings)]  # fmt: skip
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True,
                              env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
        with np.load(found) as arrays:
            return dict(arrays), json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--only", nargs="+", default=["pneumonia", "digits"])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if "pneumonia" in asked.only:
        pneumonia(asked.seeds)
    if "digits" in asked.only:
        digits(asked.seeds, asked.seconds)


if __name__ == "__main__":
    main()
