"""pythae's VAE or IWAE on binary rows: the part of `likelihood` that runs in pythae's environment.

    .venv-peers/pythae/bin/python benchmarks/peer_pythae.py ROWS.npz '{"model": "iwae", ...}'

ROWS.npz holds `train`, `stop` and `test`, zeros and ones (rows, features) in float32. The other
argument changes SETTINGS. Models, losses, trainer and the choice of the best epoch (by the loss on
`stop`) are those of pythae; its progress bars are off. It trains to the end of the epoch in which
`seconds` pass. Likelihoods are computed here, from its encoder and decoder; a few also by its
get_nll from the same draws. The output is one line of JSON.
"""

import os

os.environ["TQDM_DISABLE"] = "1"

import json
import logging
import math
import sys
import tempfile
import time
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from pythae.data.datasets import BaseDataset
from pythae.models import IWAE, VAE, IWAEConfig, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor, nn

SETTINGS: dict[str, Any] = {
    "model": "vae",
    "importance": 50,  # IWAE's samples in training
    "latent": 32,
    "hidden": [256, 256],
    "activation": "relu",
    "init": "torch",  # or glorot, as in pythae's scripts
    "seconds": 120,
    "batch": 100,
    "rate": 1e-3,
    "trainer": {},  # more for BaseTrainerConfig
    "seed": 0,
    "threads": 1,
    "samples": 5_000,
    "checked": 5,
}


def stack(widths: list[int], activation: str, init: str) -> nn.Sequential:
    """Linear layers, each with its activation behind it."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [linear(before, after, init), {"relu": nn.ReLU, "tanh": nn.Tanh}[activation]()]
    return nn.Sequential(*layers)


def linear(before: int, after: int, init: str) -> nn.Linear:
    layer = nn.Linear(before, after)
    if init == "glorot":
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return layer


class Encoder(BaseEncoder):
    """Rows to means and logarithms of variances."""

    def __init__(self, features: int, settings: dict[str, Any]) -> None:
        super().__init__()
        latent, init = settings["latent"], settings["init"]
        self.body = stack([features, *settings["hidden"]], settings["activation"], init)
        self.mean = linear(settings["hidden"][-1], latent, init)
        self.log_variance = linear(settings["hidden"][-1], latent, init)

    def forward(self, x: Tensor) -> ModelOutput:
        """What pythae's VAE asks of an encoder."""
        hidden = self.body(x)
        return ModelOutput(embedding=self.mean(hidden), log_covariance=self.log_variance(hidden))


class Decoder(BaseDecoder):
    """Codes to probabilities."""

    def __init__(self, features: int, settings: dict[str, Any]) -> None:
        super().__init__()
        hidden = settings["hidden"][::-1]
        self.body = stack([settings["latent"], *hidden], settings["activation"], settings["init"])
        self.out = linear(hidden[-1], features, settings["init"])

    def logits(self, z: Tensor) -> Tensor:
        """Their logarithms of odds."""
        return self.out(self.body(z))

    def forward(self, z: Tensor) -> ModelOutput:
        """What pythae's VAE asks of a decoder."""
        return ModelOutput(reconstruction=self.logits(z).sigmoid())


class Spent(Exception):  # noqa: N818
    """The time is over."""


class Clock(TrainingCallback):
    """Keeps each epoch's losses and ends the training: pythae has no other way to stop early."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.epochs: list[tuple[float, float, float]] = []

    def on_train_begin(self, training_config: BaseTrainerConfig, **_: Any) -> None:
        """Set the clock."""
        self.started = time.perf_counter()

    def on_log(self, training_config: BaseTrainerConfig, logs: dict[str, float], **_: Any) -> None:
        """The last thing that pythae does in an epoch, after it kept its best model."""
        elapsed = time.perf_counter() - self.started
        self.epochs.append((elapsed, logs["train_epoch_loss"], logs["eval_epoch_loss"]))
        if elapsed >= self.seconds:
            raise Spent


def build(features: int, settings: dict[str, Any]) -> VAE:
    options = {"input_dim": (features,), "latent_dim": settings["latent"],
               "reconstruction_loss": "bce"}  # fmt: skip
    nets = Encoder(features, settings), Decoder(features, settings)
    if settings["model"] == "vae":
        return VAE(VAEConfig(**options), *nets)
    config = IWAEConfig(**options, number_samples=settings["importance"])
    return IWAE(config, *nets)


def train(rows: dict[str, Tensor], settings: dict[str, Any], clock: Clock) -> VAE:
    """The best model by pythae's own account."""
    torch.manual_seed(settings["seed"])
    model = build(rows["train"].shape[1], settings)
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            per_device_train_batch_size=settings["batch"],
            per_device_eval_batch_size=settings["batch"],
            num_epochs=1_000_000,
            learning_rate=settings["rate"],
            seed=settings["seed"],
            no_cuda=True,
            **settings["trainer"],
        )
        sets = [BaseDataset(x, torch.zeros(len(x))) for x in (rows["train"], rows["stop"])]
        trainer = BaseTrainer(model, *sets, training_config=config, callbacks=[clock])
        try:
            trainer.train()
        except Spent:
            return trainer._best_model.eval()
    raise RuntimeError("pythae came to an end before the clock")


@torch.no_grad()
def log_weights(model: VAE, row: Tensor, samples: int) -> Tensor:
    """Log p(x|z) p(z) / q(z|x) of one row (1, features) at draws of z from q; (samples,)."""
    code = model.encoder(row)
    noise = torch.randn(samples, code.embedding.shape[1])
    z = code.embedding + noise * (0.5 * code.log_covariance).exp()
    logits = model.decoder.logits(z)
    given = logits @ row[0] - nn.functional.softplus(logits).sum(1)
    prior = -0.5 * z.square().sum(1)  # the 2 pi of prior and posterior cancel
    posterior = -0.5 * (code.log_covariance + noise.square()).sum(1)
    return (given + prior - posterior).double()


def likelihood(model: VAE, rows: Tensor, samples: int) -> tuple[float, float]:
    """Log-likelihood by importance sampling and evidence lower bound, both means over the rows."""
    log_p = bound = 0.0  # tensors kept here would cut the heap into gigabytes of holes
    for row in rows:
        weights = log_weights(model, row[None], samples)
        log_p += weights.logsumexp(0).item() - math.log(samples)
        bound += weights.mean().item()
    return log_p / len(rows), bound / len(rows)


@torch.no_grad()
def differs(model: VAE, rows: Tensor, samples: int) -> float:
    """How far, in nats a row, pythae's get_nll lies from the count here with the same draws."""
    torch.manual_seed(0)
    ours, _ = likelihood(model, rows, samples)
    torch.manual_seed(0)
    theirs = model.get_nll(rows, n_samples=samples, batch_size=samples)  # log p, for all its name
    return abs(ours - float(theirs))


def run(rows: dict[str, Tensor], settings: dict[str, Any]) -> dict[str, Any]:
    clock = Clock(settings["seconds"])
    model = train(rows, settings, clock)
    losses = [loss for _, _, loss in clock.epochs]
    best = min(range(len(losses)), key=losses.__getitem__)
    started = time.perf_counter()
    torch.manual_seed(settings["seed"])
    log_p, bound = likelihood(model, rows["test"], settings["samples"])
    nll_seconds = time.perf_counter() - started
    few = rows["test"][: settings["checked"]]
    return {
        "nll": -log_p,
        "elbo": bound,
        "epochs": len(losses),
        "best_epoch": best + 1,
        "best_at": clock.epochs[best][0],
        "best_loss": losses[best],
        "last_loss": losses[-1],
        "train_loss": clock.epochs[best][1],
        "seconds": clock.epochs[-1][0],
        "nll_seconds": nll_seconds,
        "get_nll_differs": differs(model, few, settings["samples"]),
    }


if __name__ == "__main__":
    logging.disable(logging.INFO)
    chosen = {**SETTINGS, **json.loads(sys.argv[2])}
    torch.set_num_threads(chosen["threads"])
    with np.load(sys.argv[1]) as arrays:
        given = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    print(json.dumps(run(given, chosen)))
