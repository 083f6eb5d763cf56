"""pythae's AE on grey images: the part of `images` that runs in pythae's environment.

    .venv-peers/pythae/bin/python benchmarks/peer_pythae_ae.py IN.npz OUT.npz '{"net": "mlp", ...}'

IN.npz holds `train`, `stop` and `test`, (image, 28, 28) in float32 from 0 to 1. Model, loss,
trainer and the choice of the best epoch are those of pythae, and so are both nets: its default,
and the convolutional net that it offers for MNIST. It trains to the end of the epoch in which
`seconds` pass. OUT.npz gets the codes of all three, and the reconstructed test images.
"""

import os

os.environ["TQDM_DISABLE"] = "1"

import json
import logging
import sys
import tempfile
import time
from typing import Any

import numpy as np
import torch
from pythae.data.datasets import BaseDataset
from pythae.models import AE, AEConfig
from pythae.models.nn.benchmarks.mnist import Decoder_Conv_AE_MNIST, Encoder_Conv_AE_MNIST
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor

SETTINGS: dict[str, Any] = {
    "net": "mlp", "latent": 16, "seconds": 120, "batch": 100, "rate": 1e-3, "seed": 0,
}  # fmt: skip


class Spent(Exception):  # noqa: N818
    """The time is over."""


class Clock(TrainingCallback):
    """Ends the training: pythae has no other way to stop early."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.epochs = 0
        self.began = 0.0
        self.took = 0.0

    def on_train_begin(self, training_config: BaseTrainerConfig, **_: Any) -> None:
        """Set the clock."""
        self.began = time.perf_counter()

    def on_log(self, training_config: BaseTrainerConfig, logs: dict[str, float], **_: Any) -> None:
        """The last thing that pythae does in an epoch, after it kept its best model."""
        self.took, self.epochs = time.perf_counter() - self.began, self.epochs + 1
        if self.took >= self.seconds:
            raise Spent


def train(parts: dict[str, Tensor], settings: dict[str, Any], clock: Clock) -> AE:
    """The best model by pythae's own account."""
    torch.manual_seed(settings["seed"])
    config = AEConfig(input_dim=(1, 28, 28), latent_dim=settings["latent"])
    nets = {}
    if settings["net"] == "conv":
        nets = {"encoder": Encoder_Conv_AE_MNIST(config), "decoder": Decoder_Conv_AE_MNIST(config)}
    with tempfile.TemporaryDirectory() as folder:
        training = BaseTrainerConfig(
            output_dir=folder, per_device_train_batch_size=settings["batch"],
            per_device_eval_batch_size=settings["batch"], num_epochs=1_000_000,
            learning_rate=settings["rate"], seed=settings["seed"], no_cuda=True,
        )  # fmt: skip
        sets = [BaseDataset(x, torch.zeros(len(x))) for x in (parts["train"], parts["stop"])]
        trainer = BaseTrainer(
            AE(config, **nets), *sets, training_config=training, callbacks=[clock]
        )
        try:
            trainer.train()
        except Spent:
            return trainer._best_model.eval()
    raise RuntimeError("pythae came to an end before the clock")


@torch.no_grad()
def answers(model: AE, parts: dict[str, Tensor]) -> dict[str, np.ndarray]:
    found = {}
    for name, x in parts.items():
        codes = [model.encoder(some).embedding for some in x.split(500)]
        found[name] = torch.cat(codes).numpy()
    rebuilt = [model.decoder(z).reconstruction for z in torch.from_numpy(found["test"]).split(500)]
    return found | {"rebuilt": torch.cat(rebuilt).reshape(-1, 28, 28).numpy()}


if __name__ == "__main__":
    logging.disable(logging.INFO)
    chosen = {**SETTINGS, **json.loads(sys.argv[3])}
    torch.set_num_threads(1)
    with np.load(sys.argv[1]) as arrays:
        given = {name: torch.from_numpy(arrays[name])[:, None] for name in arrays.files}
    clock = Clock(chosen["seconds"])
    np.savez(sys.argv[2], **answers(train(given, chosen, clock), given))
    print(json.dumps({"seconds": clock.took, "epochs": clock.epochs}))
