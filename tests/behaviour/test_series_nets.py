"""Nets of series: what they promise of windows of any length, with gaps, and with codes alone."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from keyhole.core.layout import Layout, Shape, Slot
from keyhole.core.parts import parse
from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.model.bottlenecks import Plain
from keyhole.model.heads import Mixed
from keyhole.model.layers import Linear, TimeConvolution
from keyhole.model.nets import TimeConv, TimePatches
from keyhole.model.nets.series import TimeCut
from keyhole.model.network import Network
from keyhole.training.corruptions import Masking
from keyhole.training.objective import objective

NETS = pytest.mark.parametrize("net", [TimeConv(), TimePatches()], ids=lambda net: net.kind)
SHARES = (0.4, 0.3, 0.2, 0.1)
CODE = Slot("c", "", "categorical", levels=4, nats_unobserved=4.0, shares=SHARES)
FLAG = Slot("flag", "", "bernoulli", center=0.5, nats_unobserved=8.0)


def windows(steps, numbers=1, codes=0, patch=4):
    """The layout of windows with so many channels of numbers and of codes."""
    channels = [Slot(f"n{i}", "", "student_t") for i in range(numbers)]
    channels += [replace(CODE, column=f"c{i}") for i in range(codes)]
    slots = [
        replace(slot, column=f"{slot.column} {step // patch}", part=str(step))
        for step in range(steps)
        for slot in channels
    ]
    return Layout(Layout.of(slots).slots, patch=patch, steps=steps)


def rows(layout, count=6, share=0.8):
    """Random windows, of which about this share is observed."""
    generator = torch.Generator().manual_seed(0)
    observed = torch.rand(count, len(layout), generator=generator) < share
    numbers = torch.randn(count, layout.numbers, generator=generator)
    codes = torch.randint(1, 4, (count, layout.codes), generator=generator)
    whole = Batch(numbers, codes, torch.ones_like(observed))
    return whole.hide(~observed)


def network_of(net, layout, width=None, members=1):
    return Network(net, Plain(width), Mixed(), Shape(layout, members=members)).eval()


@NETS
@pytest.mark.parametrize(
    ("steps", "numbers", "codes"),
    [(13, 1, 0), (32, 8, 0), (9, 2, 1), (7, 0, 2), (1, 1, 1), (2, 1, 0)],
)
@pytest.mark.parametrize("count", [0, 1, 6])
def test_windows_of_any_length_come_back_with_a_value_for_every_feature(
    net, steps, numbers, codes, count
):
    layout = windows(steps, numbers, codes)
    batch = rows(layout, count)
    likelihood = network_of(net, layout, members=3)(batch).likelihood
    assert likelihood.log_prob(batch).shape == (1, 3, count, steps * (numbers + codes))
    assert torch.isfinite(likelihood.log_prob(batch)[..., batch.observed]).all()
    assert likelihood.mean.numbers.shape == (1, 3, count, steps * numbers)
    assert likelihood.mean.codes.shape == (1, 3, count, steps * codes)


@NETS
def test_windows_without_any_value_are_answered_by_finite_numbers(net):
    layout = windows(13, 2, 1)
    likelihood = network_of(net, layout)(rows(layout, share=0.0)).likelihood
    assert torch.isfinite(likelihood.mean.numbers).all()


def sines(count, seed):
    """Waves of any phase, of 16 steps and two channels: the second lags by a quarter."""
    generator = torch.Generator().manual_seed(seed)
    phase = torch.rand(count, 1, 1, generator=generator) * 2 * math.pi
    angle = phase + torch.arange(16)[:, None] * 0.6 - torch.tensor([0.0, math.pi / 2])
    numbers = math.sqrt(2) * angle.sin().flatten(1)
    observed = torch.ones_like(numbers, dtype=torch.bool)
    return Batch(numbers, torch.zeros(count, 0, dtype=torch.int64), observed)


def trained(net, layout, batch_of, steps):
    """A network that has learned to predict masked values of such batches."""
    network = network_of(net, layout, width=4).train()
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        corrupted = Masking().corrupt(batch_of(64, step), layout, generator)
        optimiser.zero_grad()
        objective(network, corrupted).sum().backward()
        optimiser.step()
    return network.eval()


@NETS
def test_a_masked_value_of_a_sine_is_predicted_from_its_neighbours(net):
    """Takes two seconds: a short training."""
    network = trained(net, windows(16, 2), sines, 120)
    test = sines(100, seed=-1)
    masked = torch.zeros_like(test.observed)
    masked[:, 8:16] = True  # steps 4 to 7 of both channels
    predicted = network(test.hide(masked)).likelihood.mean.numbers[0, 0]
    error = (predicted - test.numbers)[masked].square().mean()
    assert error < 0.05  # of a variance of 1


@NETS
def test_the_order_of_the_members_does_not_matter(net):
    layout, order = windows(13, 2), torch.tensor([2, 0, 1])
    shape = Shape(layout, 2 * len(layout), members=3)
    for make, after, lead in ((net.encoder, shape, 1), (net.decoder, shape.widened(4), 3)):
        part = make(layout)
        part.bind(after)
        given = torch.randn(lead, 5, after.wide)  # an encoder's rows are those of all members
        before = part(given)
        for weight in part.parameters():
            weight.data = weight.data[order]
        expected = before[order]
        torch.testing.assert_close(part(given[order] if lead == 3 else given), expected)


def cycles(count, seed):
    """Windows of a machine with three states; the code of a step follows from the one before."""
    first = torch.randint(3, (count, 1), generator=torch.Generator().manual_seed(seed))
    codes = 1 + (first + torch.arange(8)) % 3
    return Batch(torch.zeros(count, 0), codes, torch.ones_like(codes, dtype=torch.bool))


@NETS
def test_codes_alone_are_learned(net):
    """Takes one or two seconds: a short training."""
    network = trained(net, windows(8, 0, 1, patch=1), cycles, 60)
    test = cycles(60, seed=-1)
    masked = torch.zeros_like(test.observed)
    masked[:, 3:5] = True
    predicted = network(test.hide(masked)).likelihood.mean.codes[0, 0]
    assert (predicted == test.codes).all()


@NETS
def test_a_row_has_the_same_results_alone_and_in_company(net):
    layout = windows(32, 8)
    network, batch = network_of(net, layout, members=3), rows(layout, 40)
    together = network(batch).likelihood.log_prob(batch)
    alone = batch.take(slice(7, 8))
    torch.testing.assert_close(
        network(alone).likelihood.log_prob(alone), together[:, :, 7:8], rtol=0, atol=1e-5
    )


@NETS
def test_a_net_sees_what_is_masked_and_not_the_value_behind_it(net):
    layout = windows(12, 2)
    network, batch = network_of(net, layout), rows(layout, share=1.0)
    masked = torch.zeros_like(batch.observed)
    masked[:, 3] = True
    other = Batch(batch.numbers + 3 * masked, batch.codes, batch.observed)
    code = network(batch.hide(masked)).code.mean
    assert torch.equal(code, network(other.hide(masked)).code.mean)
    assert not torch.allclose(code, network(batch).code.mean)


def test_a_patch_of_which_a_channel_is_masked_still_shows_the_others():
    net, layout = TimePatches(skip=False), windows(8, 2)
    network, batch = network_of(net, layout), rows(layout, share=1.0)
    masked = torch.zeros_like(batch.observed)
    masked[:, ::2] = True  # the first channel of all steps
    other = Batch(batch.numbers + 1.0, batch.codes, batch.observed)
    code, moved = (network(b.hide(masked)).code.mean for b in (batch, other))
    assert (code - moved).abs().max() > 1e-3


def test_patches_of_time_come_back_together_where_the_last_is_short():
    cut = TimeCut(windows(13, 3), 4)
    x = torch.randn(2, 5, 13 * 3)
    assert cut.apart(x).shape == (2, 5, 4, 4 * 3)
    assert torch.equal(cut.together(cut.apart(x)), x)
    assert TimeCut(windows(5), 100).patches == 1


@pytest.mark.parametrize("steps", [1, 2, 7, 8])
def test_a_convolution_over_time_is_that_of_torch(steps):
    torch.manual_seed(0)
    down, up = TimeConvolution(3, 5, 2), TimeConvolution(5, 3, 2, up=True)
    torch.nn.init.zeros_(up.map.bias)  # torch has one bias for all taps
    x = torch.randn(2, 4, steps, 3)
    half = -(-steps // 2)
    h = down(x, half)
    y = up(h, steps)
    assert y.shape == x.shape
    for member in range(2):
        weight = down.map.weight[member].unflatten(1, (3, 3)).transpose(1, 2)
        given, bias = x[member].transpose(1, 2), down.map.bias[member, 0]
        expected = functional.conv1d(given, weight, bias, stride=2, padding=1).transpose(1, 2)
        torch.testing.assert_close(h[member], expected)
        weight = up.map.weight[member].unflatten(0, (4, 3)).permute(2, 1, 0)
        expected = functional.conv_transpose1d(
            h[member].transpose(1, 2), weight, stride=2, padding=1
        )
        torch.testing.assert_close(y[member], expected.transpose(1, 2)[:, :steps])


@pytest.mark.parametrize("members", [1, 3])
def test_a_map_of_steps_reads_each_step_alone_and_by_the_same_weights(members):
    layer = Linear(4 * 5, 2 * 5, members, steps=5)
    assert layer.weight.shape == (members, 2, 4)
    x = torch.randn(members, 6, 20, requires_grad=True)
    layer(x)[..., 2:4].sum().backward()  # the numbers of step 1
    reached = x.grad.abs().sum((0, 1)) > 0
    assert reached.tolist() == [4 <= place < 8 for place in range(20)]
    torch.nn.init.zeros_(layer.bias)
    torch.testing.assert_close(
        layer(x.roll(4, -1)), layer(x).roll(2, -1)
    )  # a step later in, a step later out


@NETS
def test_a_head_that_needs_one_number_a_feature_has_no_map_of_its_own(net):
    network = network_of(net, windows(12, 2))
    names = [name for name, _ in network.head.named_parameters()]
    assert names == ["features.student_t.log_scale"]


def test_each_head_takes_the_numbers_of_its_own_features():
    """A step of two numbers and a flag between them, and a code with three numbers for it."""
    slots = [Slot("a", "", "student_t"), FLAG, Slot("b", "", "student_t"), CODE]
    layout = replace(Layout.of(slots * 4), steps=4)
    head = Mixed()
    head.bind(Shape(layout, wide=4 * 6, steps=4))
    state = torch.arange(24.0).reshape(1, 1, 24)
    likelihood = head(state, None)
    numbers = {
        name: head.get_buffer(f"own_{name}").tolist() for name in ("student_t", "bernoulli")
    }
    assert numbers == {
        "student_t": [0, 2, 6, 8, 12, 14, 18, 20],
        "bernoulli": [1, 7, 13, 19],
    }
    assert likelihood.mean.numbers[0, 0, ::3].tolist() == [0, 6, 12, 18]  # a of each step
    assert head.features["categorical"].to_logits.weight.shape == (1, 4, 6)  # of a step alone


@NETS
def test_a_net_without_skips_has_no_linear_map_past_its_layers(net):
    layout = windows(13, 2)
    plain = type(net)(skip=False)
    sizes = [sum(w.numel() for w in network_of(n, layout).parameters()) for n in (net, plain)]
    assert sizes[1] < sizes[0]
    assert not [n for n, _ in network_of(plain, layout).named_parameters() if "linear" in n]


def test_invalid_settings_are_refused_with_a_reason():
    with pytest.raises(SettingError, match="expected one to ten"):
        TimeConv([0]).encoder(windows(8))
    with pytest.raises(SettingError, match="activation='sine'"):
        TimeConv(activation="sine").decoder(windows(8))
    with pytest.raises(SettingError, match="multiple of heads"):
        TimePatches(10).encoder(windows(8))
    with pytest.raises(SettingError, match="must be at least 1"):
        TimePatches(patch=0).decoder(windows(8))


def test_nets_of_series_are_named_on_the_command_line():
    assert parse("net", "time_conv:channels=[8,16]").channels == [8, 16]
    assert parse("net", "time_patches:patch=8").patch == 8
