"""AdamW over the weights of a network, by torch's functional step.

Torch's class does the same sums, but importing its compiler, as making one does, takes two
seconds of CPU in every process that fits.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

BETAS = (0.9, 0.99)
EPSILON = 1e-8


class AdamW:
    """The optimiser of a network: weights decay; biases, scales and embeddings do not.

    `state` has, for each place among the parameters that met a gradient, its moments `exp_avg` and
    `exp_avg_sq` and its number of steps. Source: Loshchilov and Hutter 2019, algorithm 2.
    """

    def __init__(self, network: nn.Module, learning_rate: float, weight_decay: float) -> None:
        self.learning_rate = learning_rate
        # Checkpoints depend on this order.
        named = sorted(network.named_parameters(), key=lambda item: not item[0].endswith("weight"))
        self.parameters = [parameter for _, parameter in named]
        self.decayed_count = sum(name.endswith("weight") for name, _ in named)
        self.weight_decay = weight_decay
        self.state: dict[int, dict[str, Tensor]] = {}

    def clear_gradients(self) -> None:
        """Forget the gradients of the last step."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change the weights by their gradients."""
        places = range(len(self.parameters))
        self._step([i for i in places if i < self.decayed_count], self.weight_decay)
        self._step([i for i in places if i >= self.decayed_count], 0.0)

    def _step(self, places: list[int], weight_decay: float) -> None:
        places = [i for i in places if self.parameters[i].grad is not None]
        gradients: list[Any] = [self.parameters[i].grad for i in places]
        for i in places:
            if i not in self.state:
                self.state[i] = _start(self.parameters[i])
        moments = {
            name: [self.state[i][name] for i in places]
            for name in ("exp_avg", "exp_avg_sq", "step")
        }
        adamw(
            [self.parameters[i] for i in places], gradients,
            moments["exp_avg"], moments["exp_avg_sq"], [], moments["step"],
            fused=True, amsgrad=False, maximize=False, lr=self.learning_rate, beta1=BETAS[0],
            beta2=BETAS[1], weight_decay=weight_decay, eps=EPSILON,
        )  # fmt: skip

    def state_dict(self) -> dict[int, dict[str, Tensor]]:
        """The moments and numbers of steps, of each place among the parameters."""
        return {i: dict(state) for i, state in self.state.items()}

    def load_state_dict(self, state: dict[int, dict[str, Tensor]]) -> None:
        """Go on from a state. Raises: ValueError or KeyError for that of another network."""
        loaded = {}
        for i, tensors in state.items():
            if not 0 <= i < len(self.parameters):
                raise ValueError(f"optimizer state {i} is of no parameter")
            start = _start(self.parameters[i])
            # A fused step takes a weight and its moments in one memory order.
            for name, moment in start.items():
                if moment.shape != tensors[name].shape:
                    raise ValueError(f"optimizer state {i}: {name} is of another shape")
                moment.copy_(tensors[name])
            loaded[i] = start
        self.state = loaded


def _start(parameter: Tensor) -> dict[str, Tensor]:
    step = torch.zeros((), dtype=torch.float32, device=parameter.device)
    moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
    return {"step": step} | moments
