"""Log-likelihood of binarised MNIST with a VAE and an IWAE of 50 samples, compared with pythae.

    python -m benchmarks.likelihood [--seconds 200] [--seeds 1] [--models vae iwae]

The data are the 10,000 test digits, white above 127: 8,000 to train on, 1,000 to stop by, 1,000 to
test. Both libraries train the same net (784-256-256-32 and back, ReLU) for the same wall time on
one thread. `nll` is in nats per image; lower is better. It is estimated by importance sampling
with 5,000 samples from the encoder.
"""

import argparse
import gzip
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import data, emit
from benchmarks.peers import environment
from keyhole import Autoencoder, TrainingConfig
from keyhole.bottlenecks import Variational
from keyhole.nets import MLP

ROOT = Path(__file__).parents[1]
ROWS = {"train": 8_000, "stop": 1_000, "test": 1_000}
IMPORTANCE = {"vae": 1, "iwae": 50}
NET = {"latent": 32, "hidden": [256, 256], "activation": "relu"}
PEER: dict[str, dict[str, Any]] = {  # the best for pythae of those tried
    "vae": {"batch": 100, "rate": 2e-4},
    "iwae": {"batch": 20, "rate": 2e-3},
}

OWN: dict[str, dict[str, Any]] = {
    "vae": {"batch": 128, "learning_rate": 1e-3, "weight_decay": 3e-2},
    "iwae": {"batch": 20, "learning_rate": 2e-3, "weight_decay": 3e-2},
}
DRAWS = 5_000


def split(seed: int = 0) -> dict[str, np.ndarray]:
    """Train, stop and test as zeros and ones (rows, 784)."""
    path = data("images") / "mnist-t10k-images-idx3-ubyte.gz"
    pixels = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16)
    images = (pixels.reshape(-1, 784) > 127).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(images))
    cuts = np.cumsum(list(ROWS.values()))
    return {name: images[part] for name, part in zip(ROWS, np.split(order, cuts[:-1]))}


def peer_nll(rows: Path, **settings: Any) -> dict[str, Any]:
    """What pythae reaches, in a process of its own environment with one thread."""
    command = [
        environment("pythae"),
        ROOT / "benchmarks" / "peer_pythae.py",
        rows,
        json.dumps(settings),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def keyhole_nll(train: np.ndarray, stop: np.ndarray, test: np.ndarray, samples: int,
                seconds: float, seed: int) -> dict[str, Any]:  # fmt: skip
    """What keyhole reaches; `samples` of importance in training, 1 for the VAE.

    It is given the 9,000 rows that pythae has, and holds out a tenth to stop by and another tenth
    to judge by: 7,200 train. The clock runs from the call of fit to its end.
    """
    rows = np.concatenate([train, stop])
    held = OWN["iwae" if samples > 1 else "vae"]
    model = Autoencoder(
        Variational(NET["latent"], samples=samples),
        net=MLP(NET["hidden"], activation=NET["activation"], skip=False),
        training=TrainingConfig(time_budget_s=0.85 * seconds, members=1, patience=None, **held),
        random_state=seed,
    )
    began = time.monotonic()
    model.fit(rows)
    took, began = time.monotonic() - began, time.monotonic()
    nll = -model.log_likelihood(test, samples=DRAWS)
    return {
        "nll": nll.mean(), "nll_error": nll.std() / len(nll) ** 0.5, "seconds": took,
        "nll_seconds": time.monotonic() - began, "steps": model.model_.history.planned,
        "best_step": model.model_.history.best_step,
        "stop_loss": min(model.model_.history.held_out),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=200)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--models", nargs="+", default=list(IMPORTANCE), choices=list(IMPORTANCE))
    parser.add_argument("--only", choices=["pythae", "keyhole"])
    asked = parser.parse_args()
    parts = split()
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.npz"
        np.savez(rows, **parts)
        for model in asked.models:
            for seed in range(asked.seeds):
                shared = {"model": model, "seed": seed, "allowed_seconds": asked.seconds}
                if asked.only != "keyhole":
                    found = peer_nll(rows, model=model, importance=IMPORTANCE[model], **NET,
                                     **PEER[model], seconds=asked.seconds, seed=seed)  # fmt: skip
                    emit("likelihood", library="pythae", **shared, **found)
                if asked.only != "pythae":
                    found = keyhole_nll(**parts, samples=IMPORTANCE[model],
                                        seconds=asked.seconds, seed=seed)  # fmt: skip
                    emit("likelihood", library="keyhole", **shared, **found)


if __name__ == "__main__":
    main()
