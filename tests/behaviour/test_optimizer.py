"""The optimiser, against torch's own."""

import pytest
import torch
from torch import nn

from keyhole.training.optimizer import AdamW


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 2))


def gradients(net, step):
    torch.manual_seed(step)
    net(torch.randn(7, 3)).square().sum().backward()


def their_optimizer(net):
    named = list(net.named_parameters())
    groups = [
        {"params": [p for n, p in named if n.endswith("weight")], "weight_decay": 0.1},
        {"params": [p for n, p in named if not n.endswith("weight")], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.99))


def test_steps_are_those_of_torchs_own_optimizer():
    ours, theirs = network(), network()
    optimizer, reference = AdamW(ours, 0.01, 0.1), their_optimizer(theirs)
    for step in range(20):
        for net, one in ((ours, optimizer), (theirs, reference)):
            gradients(net, step)
            one.step()
        optimizer.clear_gradients()
        reference.zero_grad()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_steps_go_on_from_a_saved_state_to_the_same_weights():
    whole, halves = network(), network()
    optimizer = AdamW(whole, 0.01, 0.1)
    second = AdamW(halves, 0.01, 0.1)
    for step in range(10):
        if step == 5:
            state = second.state_dict()
            second = AdamW(halves, 0.01, 0.1)
            second.load_state_dict(state)
        for net, one in ((whole, optimizer), (halves, second)):
            gradients(net, step)
            one.step()
            one.clear_gradients()
    for mine, other in zip(whole.parameters(), halves.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_the_state_of_another_network_is_refused():
    optimizer = AdamW(network(), 0.01, 0.1)
    other = nn.Linear(4, 4)
    second = AdamW(other, 0.01, 0.1)
    other(torch.randn(2, 4)).sum().backward()
    second.step()
    with pytest.raises(ValueError, match="is of another shape"):
        optimizer.load_state_dict(second.state_dict())


def test_a_parameter_without_a_gradient_stays():
    net = network()
    before = [p.detach().clone() for p in net.parameters()]
    AdamW(net, 0.01, 0.1).step()
    assert all(map(torch.equal, before, net.parameters()))


def test_a_fit_does_not_import_torchs_compiler(run_script, tmp_path):
    code = """
import sys
import numpy as np
from keyhole import Autoencoder, TrainingConfig
rows = np.random.default_rng(0).normal(size=(100, 3))
Autoencoder(training=TrainingConfig(steps=5), random_state=0).fit(rows)
print({"sympy", "torch._dynamo"} & set(sys.modules))
"""
    run = run_script(code, tmp_path)
    assert (run.stderr, run.stdout) == ("", "set()\n")


def test_a_model_of_a_table_is_loaded_without_torchs_compiler(run_script, tmp_path):
    """It takes a second to import, and so would every command that reads a model."""
    code = """
import sys
import numpy as np
import pyarrow as pa
from keyhole import AnomalyDetector, Autoencoder, TrainingConfig
rng = np.random.default_rng(0)
rows = pa.table({
    "number": rng.normal(size=150), "flag": rng.random(150) < 0.3,
    "visits": rng.poisson(3, 150), "city": rng.choice(["a", "b", "c"], 150),
})
model = Autoencoder(training=TrainingConfig(steps=5), random_state=0)
AnomalyDetector(model, false_alarm_rate=0.1).fit(rows).save("model.keyhole")
AnomalyDetector.load("model.keyhole").answer(rows)
print({"sympy", "torch._dynamo"} & set(sys.modules))
"""
    run = run_script(code, tmp_path)
    assert (run.stderr, run.stdout) == ("", "set()\n")
