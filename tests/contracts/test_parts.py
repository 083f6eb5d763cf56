"""Every part of a network, corruption and check: described by its arguments, bound to shapes."""

import json
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import keyhole.model.priors  # noqa: F401  (registers its kinds, as the one above)
from keyhole.autoencoder.estimator import Autoencoder
from keyhole.checks import CHECKS
from keyhole.checks.evidence import check as register
from keyhole.core.layout import Layout, Shape, Slot, pixels
from keyhole.core.parts import Described, build, copy, kinds, parse
from keyhole.core.records import Batch
from keyhole.data.opening import random_access
from keyhole.errors import BundleError, SettingError
from keyhole.modalities import Schema
from keyhole.model.bottlenecks import Plain
from keyhole.model.heads import Mixed, Multinomial
from keyhole.model.heads.base import CONTINUOUS
from keyhole.model.network import Network
from keyhole.training import TrainingConfig
from keyhole.training.work import MultiplyAdds

pytestmark = pytest.mark.usefixtures("every_shape")
ROWS = 6
LAYOUT = Layout.of(
    [
        Slot("size", "number", "student_t"),
        Slot("observed", "boolean", "bernoulli", center=0.3, scale=0.46, nats_unobserved=4.0),
        Slot("visits", "count", "counts", center=1.0, nats_unobserved=4.0),
        Slot(
            "city",
            "category",
            "categorical",
            levels=3,
            nats_unobserved=4.0,
            shares=(0.6, 0.3, 0.1),
        ),
    ]
)
FRESH = [  # families whose kinds are made without arguments
    (family, kind)
    for family in (
        "bottleneck", "net", "head", "corruption", "training", "schema", "cells", "prior"
    )
    for kind in sorted(kinds(family))
]  # fmt: skip
BOTTLENECKS = pytest.mark.parametrize("kind", sorted(kinds("bottleneck")))
MEMBERS = pytest.mark.parametrize("members", [1, 3])


def windows(*slots):
    """The layout of a window: 5 steps of these slots, in patches of 2 steps."""
    steps = [
        replace(slot, column=f"{slot.column} {step // 2 * 2}", part=str(step))
        for step in range(5)
        for slot in slots
    ]
    return replace(Layout.of(steps), steps=5, patch=2)


PIXELS = pixels(Slot("", "pixel", "student_t", ends=(-2.0, 2.0)), (5, 7, 2), 2)
READINGS = windows(LAYOUT.slots[0], replace(LAYOUT.slots[0], column="heat", scale=2.0))
EVENTS = windows(*LAYOUT.slots)
NETS = sorted(kind for kind, net in kinds("net").items() if not net.skips)
SERIES_NETS = [kind for kind in NETS if kinds("net")[kind].series]
TABLE_NETS = [
    kind
    for kind, net in sorted(kinds("net").items())
    if not (net.skips or net.images or net.series or net.items)
]
HEADS = sorted(kind for kind, head in kinds("head").items() if not head.items)
LISTS = Layout((Slot("items", "items", "multinomial"),), items=9)
LAYOUTS = {
    "table": LAYOUT, "grid": PIXELS, "readings": READINGS, "events": EVENTS, "lists": LISTS,
}  # fmt: skip


def layouts_for(kind):
    """The names of the layouts that a net takes."""
    if kind in TABLE_NETS:
        return [name for name in LAYOUTS if name != "lists"]
    if kinds("net")[kind].items:
        return ["lists"]
    return ["readings", "events"] if kind in SERIES_NETS else ["grid"]


NET_ON_LAYOUT = pytest.mark.parametrize(
    ("kind", "layout"), [(kind, name) for kind in NETS for name in layouts_for(kind)]
)


def pixels_of(members=1):
    torch.manual_seed(0)
    lead = (members, ROWS)
    observed = torch.rand(*lead, len(PIXELS)) < 0.8
    numbers = torch.randn(*lead, len(PIXELS)) * observed
    return Batch(numbers, torch.zeros(*lead, 0, dtype=torch.int64), observed)


def batch_of(members=1):
    torch.manual_seed(0)
    lead = (members, ROWS)
    observed = torch.rand(*lead, 4) < 0.8
    numbers = torch.stack(
        [torch.randn(lead), torch.randint(2, lead).float(), torch.randint(9, lead).log1p()], -1
    )
    codes = torch.randint(1, 4, (*lead, 1))
    return Batch(numbers * observed[..., :3], codes * observed[..., 3:], observed)


def windows_of(layout, members=1):
    """Random windows with gaps, their steps those of `batch_of` or of numbers alone."""
    torch.manual_seed(0)
    lead = (members, ROWS)
    observed = torch.rand(*lead, len(layout)) < 0.8
    numbers = torch.randint(2, (*lead, layout.numbers)).float()
    codes = torch.randint(1, 4, (*lead, layout.codes))
    wide = layout.numbers
    return Batch(numbers * observed[..., :wide], codes * observed[..., wide:], observed)


def lists_of(members=1):
    """Random lists of items, one of them empty."""
    torch.manual_seed(0)
    items = torch.randint(0, 10, (members, ROWS, 4))
    items[:, 0] = 0
    numbers = (items > 0).sum(-1, keepdim=True).float()
    return Batch(numbers, torch.zeros(members, ROWS, 0).long(), numbers > 0, items=items)


def rows_of(layout, members=1):
    """Random rows of a layout, with gaps."""
    if layout.items:
        return lists_of(members)
    if layout.steps:
        return windows_of(layout, members)
    return pixels_of(members) if layout is PIXELS else batch_of(members)


def embedded(net, layout, members):
    """A batch through the stem: what an encoder is given, and its shape."""
    stem = net.stem()
    shape = stem.bind(Shape(layout, members=members))
    return stem(rows_of(layout, members)), shape


def made(family, kind):
    return kinds(family)[kind]()


def test_the_families_of_the_house_are_registered():
    for family in (*dict(FRESH), "modality", "column"):
        assert kinds(family), family


@pytest.mark.parametrize(("family", "kind"), FRESH)
def test_a_recipe_survives_json_and_builds_the_same_part(family, kind):
    part = made(family, kind)
    recipe = json.loads(json.dumps(part.recipe(), allow_nan=False))
    again = build(family, recipe)
    assert type(again) is type(part)
    assert again.get_params() == part.get_params()
    assert repr(again) == repr(part)


@pytest.mark.parametrize(("family", "kind"), FRESH)
def test_a_clone_has_the_same_arguments_stored_as_they_were_given(family, kind):
    part = made(family, kind)
    for again in (clone(part), copy(part), parse(family, kind)):
        assert again is not part
        assert again.get_params() == part.get_params()


@pytest.mark.parametrize(("family", "kind"), FRESH)
def test_an_argument_that_a_part_does_not_have_is_refused(family, kind):
    part = made(family, kind)
    with pytest.raises(BundleError, match="does not know"):
        build(family, {**part.recipe(), "no_such_argument": 1})
    with pytest.raises(SettingError, match="no_such_argument"):
        part.set_params(no_such_argument=1)
    with pytest.raises(SettingError, match="no_such_argument"):
        parse(family, f"{kind}:no_such_argument=1")


@pytest.mark.parametrize("recipe", [None, [], {}, {"kind": 3}, {"kind": "os.system"}])
def test_a_recipe_names_registered_kinds_only(recipe):
    with pytest.raises(BundleError):
        build("bottleneck", recipe)


@pytest.mark.parametrize("family", ["bottleneck", "net", "corruption", "head", "prior"])
def test_a_kind_that_does_not_exist_is_answered_with_those_that_do(family):
    with pytest.raises(SettingError, match=rf"choose from \['{min(kinds(family))}'"):
        parse(family, "no_such_kind")


def test_two_classes_cannot_share_a_kind():
    with pytest.raises(TypeError, match="two classes have the same kind: training 'steps'"):
        type("Twin", (Described,), {"family": "training", "kind": "steps"})


@MEMBERS
@NET_ON_LAYOUT
def test_a_net_turns_cells_into_a_state_and_codes_into_another(kind, layout, members):
    net, layout = made("net", kind), LAYOUTS[layout]
    x, shape = embedded(net, layout, members)
    encoder, decoder = net.encoder(layout), net.decoder(layout)
    wide = encoder.bind(shape)
    assert encoder(x).shape == (members, ROWS, wide.wide)
    after = decoder.bind(wide.widened(2))
    z = torch.randn(4, members, ROWS, 2)
    assert decoder(z).shape == (4, members, ROWS, after.wide)
    assert after.members == members
    if net.images:
        assert (after.site, after.wide) == ((5, 7), len(PIXELS))
    if net.series:
        assert (after.steps, after.wide % 5) == (5, 0)


@NET_ON_LAYOUT
def test_the_members_of_a_net_know_nothing_of_each_other(kind, layout):
    net, layout = made("net", kind), LAYOUTS[layout]
    x, shape = embedded(net, layout, 3)
    encoder, decoder = net.encoder(layout), net.decoder(layout)
    decoder.bind(encoder.bind(shape).widened(2))
    z = torch.randn(3, ROWS, 2)
    for part, given in ((encoder, x), (decoder, z)):
        asked = given.detach().requires_grad_()
        part(asked)[0].sum().backward()
        assert asked.grad[0].abs().sum() > 0
        assert (asked.grad[1:] == 0).all()


@NET_ON_LAYOUT
def test_a_member_is_the_net_that_it_would_be_alone(kind, layout):
    net, layout = made("net", kind), LAYOUTS[layout]
    x, shape = embedded(net, layout, 3)
    alone = replace(shape, members=1)
    z = torch.randn(3, ROWS, 2)
    for make, after, given in (
        (net.encoder, shape, x),
        (net.decoder, shape.widened(2), z),
    ):
        together, single = make(layout), make(layout)
        together.bind(after)
        single.bind(replace(alone, wide=after.wide))
        for member in range(3):
            weights = {n: w[member : member + 1] for n, w in together.named_parameters()}
            single.load_state_dict(weights)
            torch.testing.assert_close(
                single(given[member : member + 1])[0], together(given)[member], rtol=0, atol=1e-5
            )


@NET_ON_LAYOUT
def test_the_multiply_adds_of_a_net_are_half_of_torchs_count(kind, layout):
    net, layout = made("net", kind), LAYOUTS[layout]
    x, shape = embedded(net, layout, 3)
    encoder, decoder = net.encoder(layout), net.decoder(layout)
    decoder.bind(encoder.bind(shape).widened(2))
    z = torch.randn(3, ROWS, 2)
    # Torch counts the products of attention if they are products of its own alone.
    with (
        sdpa_kernel(SDPBackend.MATH),
        MultiplyAdds() as ours,
        FlopCounterMode(display=False) as theirs,
    ):
        encoder(x)
        decoder(z)
    assert ours.total == theirs.get_total_flops() / 2
    assert ours.total > 0 or kind == "linear"  # the rows themselves


@NET_ON_LAYOUT
def test_a_network_is_rebuilt_from_recipes_and_weights(kind, layout):
    """Its names and shapes are those of an empty copy, as loading a saved model needs them."""
    net, shape = made("net", kind), Shape(LAYOUTS[layout], members=3)
    batch, head = rows_of(LAYOUTS[layout], 3), Multinomial() if net.items else Mixed()
    network = Network(net, Plain(2), head, shape).eval()
    again = Network(build("net", net.recipe()), Plain(2), head, shape, seed=1).eval()
    again.load_state_dict(network.state_dict(), strict=True)
    log_prob = network(batch).likelihood.log_prob(batch)
    assert torch.equal(log_prob, again(batch).likelihood.log_prob(batch))
    assert torch.isfinite(log_prob[:, batch.observed]).all()
    with torch.device("meta"):
        empty = Network(net, Plain(2), head, shape)
    shapes = {name: weight.shape for name, weight in network.state_dict().items()}
    assert {name: weight.shape for name, weight in empty.state_dict().items()} == shapes


@pytest.mark.parametrize("continuous", CONTINUOUS)
@pytest.mark.parametrize("layout", ["readings", "events"])
@pytest.mark.parametrize("kind", SERIES_NETS)
def test_every_weight_of_a_net_of_series_and_of_its_head_is_trained(kind, layout, continuous):
    batch, shape = rows_of(LAYOUTS[layout], 3), Shape(LAYOUTS[layout], members=3)
    network = Network(made("net", kind), Plain(2), Mixed(continuous=continuous), shape)
    log_prob = network(batch).likelihood.log_prob(batch)
    torch.where(batch.observed, log_prob, 0.0).sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert (weight.grad != 0).any(), name


@MEMBERS
@BOTTLENECKS
def test_a_bottleneck_gives_a_code_with_its_cost(kind, members):
    part = made("bottleneck", kind)
    after = part.bind(Shape(LAYOUT, 9, members))
    state = torch.randn(members, ROWS, 9)
    code = part.eval()(state)
    assert code.mean.shape == code.cost.shape == (members, ROWS, after.wide)
    assert code.z.shape[1:] == code.mean.shape
    assert torch.isfinite(code.cost).all()
    torch.testing.assert_close(part(state).mean, code.mean, atol=0, rtol=0)
    noisy = part(state, torch.Generator().manual_seed(0))
    assert noisy.z.shape[1:] == code.mean.shape
    if code.log_ratio is not None:
        assert noisy.log_ratio.shape == noisy.z.shape[:-1]


@BOTTLENECKS
def test_the_members_of_a_bottleneck_know_nothing_of_each_other(kind):
    part = made("bottleneck", kind)
    part.bind(Shape(LAYOUT, 9, 3))
    state = torch.randn(3, ROWS, 9, requires_grad=True)
    part.eval()(state).mean[0].sum().backward()
    assert state.grad[0].abs().sum() > 0
    assert (state.grad[1:] == 0).all()


@BOTTLENECKS
def test_a_bottleneck_has_the_width_it_was_asked_for(kind):
    part = kinds("bottleneck")[kind](width=2)
    assert part.bind(Shape(LAYOUT, 9, 1)).wide == 2


@BOTTLENECKS
def test_a_bottleneck_says_what_it_is_for_how_it_computes_and_where_that_is_from(kind):
    made_ = kinds("bottleneck")[kind]
    assert made_.purpose
    assert made_.formula
    assert made_.source


@BOTTLENECKS
def test_a_code_is_where_onto_leads_and_stays(kind):
    torch.manual_seed(0)
    part = made("bottleneck", kind)
    after = part.bind(Shape(LAYOUT, 9, 1)).wide
    code = part.eval()(torch.randn(1, ROWS, 9)).mean[0]
    torch.testing.assert_close(part.project(code), code, atol=1e-6, rtol=0)
    drawn = part.project(torch.randn(200, after))
    torch.testing.assert_close(part.project(drawn), drawn, atol=1e-6, rtol=0)


@MEMBERS
@BOTTLENECKS
def test_training_charges_a_finite_price_and_moves_every_weight_of_a_bottleneck(kind, members):
    part, noise = made("bottleneck", kind), torch.Generator().manual_seed(0)
    part.bind(Shape(LAYOUT, 9, members))
    state = torch.randn(members, ROWS, 9)

    def encode(embedded):
        return part(embedded, None).mean

    code = part.train().penalised(part(state, noise), encode, state, noise)
    assert code.cost.shape == code.mean.shape
    assert torch.isfinite(code.cost).all()
    ratio = 0.0 if code.log_ratio is None else code.log_ratio.sum()
    (code.cost.sum() + code.z.square().sum() + ratio).backward()
    for name, weight in part.named_parameters():
        assert weight.grad is not None, name
        assert torch.isfinite(weight.grad).all(), name


@MEMBERS
@pytest.mark.parametrize("kind", HEADS)
def test_a_head_says_something_of_every_cell(kind, members):
    head, batch = made("head", kind), batch_of(members)
    head.bind(Shape(LAYOUT, 7, members))
    said = head(torch.randn(2, members, ROWS, 7), batch.observed)
    assert said.log_prob(batch).shape == (2, members, ROWS, 4)
    assert torch.isfinite(said.log_prob(batch)).all()
    for row in (said.mean, said.sample(torch.Generator().manual_seed(0))):
        assert row.numbers.shape == (2, members, ROWS, 3)
        assert row.codes.shape == (2, members, ROWS, 1)
        assert ((row.codes >= 1) & (row.codes <= 3)).all()
    low, high = said.interval(0.9)
    assert (low <= high).all()
    said.log_prob(batch).sum().backward()
    assert all(weight.grad is not None for weight in head.parameters())


@MEMBERS
@pytest.mark.parametrize("kind", sorted(kinds("corruption")))
def test_a_corruption_asks_the_same_of_the_same_seed_and_never_scores_a_gap(kind, members):
    part = made("corruption", kind)
    layout = PIXELS if part.images else LISTS if part.items else LAYOUT
    batch = rows_of(layout, members)
    batch = replace(batch, target=batch.numbers + 1) if part.images else batch
    asked = [part.corrupt(batch, layout, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    for corrupted in asked:
        assert corrupted.loss_weight.shape == batch.observed.shape
        assert (corrupted.loss_weight >= 0).all()
        assert (corrupted.loss_weight[~corrupted.target.observed] == 0).all()
        assert len(corrupted.input) == len(corrupted.target) == ROWS
    torch.testing.assert_close(asked[0].loss_weight, asked[1].loss_weight, atol=0, rtol=0)
    torch.testing.assert_close(asked[0].input.numbers, asked[1].input.numbers, atol=0, rtol=0)


@pytest.mark.parametrize(
    "kind", [kind for kind, part in sorted(kinds("corruption").items()) if part.images]
)
def test_a_corruption_of_images_is_refused_on_a_table_with_that_reason(kind):
    with pytest.raises(SettingError, match=r"images|partners"):
        made("corruption", kind).corrupt(batch_of(), LAYOUT, torch.Generator())


@pytest.mark.parametrize("code", sorted(CHECKS))
def test_a_check_has_a_code_a_title_and_a_docstring(code):
    check = CHECKS[code]
    assert check.code == code
    assert code.startswith("KH")
    assert len(code) == 5
    assert check.title
    assert check.ask.__doc__


def test_a_code_is_given_to_one_check():
    with pytest.raises(TypeError, match="two checks have the code 'KH001'"):
        register("KH001", "again", object)(lambda evidence: None)


def frame(rows=40):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "size": rng.normal(size=rows),
            "observed": rng.random(rows) < 0.4,
            "visits": rng.poisson(1.0, rows),
            "city": rng.choice(["Rome", "Bonn", "Oslo"], rows),
        }
    )


# Every bottleneck with every head; both also meet every net, and fits of one and of five members.
COMBINATIONS = [
    (kind, continuous, TABLE_NETS[(i + j) % len(TABLE_NETS)], 1 if (i + j) // 2 % 2 else None)
    for i, kind in enumerate(sorted(kinds("bottleneck")))
    for j, continuous in enumerate(CONTINUOUS)
]


def arguments_of(parts):
    """What a fit must not change: the attributes and the recipe of each part."""
    return {family: (dict(vars(part)), part.recipe()) for family, part in parts.items()}


def check_fit_and_bundle(model, parts, folder):
    """A fit leaves its parts alone, and save and load keep every bit of the answers."""
    before = arguments_of(parts)
    model.set_params(**parts).fit(frame())
    assert all(getattr(model, family) is part for family, part in parts.items())
    assert arguments_of(parts) == before
    scores, codes = model.score_samples(frame()), model.transform(frame())
    assert np.isfinite(scores).all()
    assert codes.shape == (len(frame()), 2)  # half the cells
    model.save(folder / "m.keyhole")
    assert os.listdir(folder) == ["m.keyhole"]
    again = Autoencoder.load(folder / "m.keyhole")
    loaded = again.get_params(deep=False)
    assert {family: loaded[family].recipe() for family in parts} == {
        family: part.recipe() for family, part in parts.items()
    }
    np.testing.assert_array_equal(again.score_samples(frame()), scores)
    pd.testing.assert_frame_equal(again.transform(frame()), codes)
    rows = model.inverse_transform(codes)
    pd.testing.assert_frame_equal(again.inverse_transform(codes), rows)
    assert repr(clone(model).get_params(deep=False)) == repr(model.get_params(deep=False))


@pytest.mark.parametrize(("kind", "continuous", "net", "members"), COMBINATIONS)
def test_every_bottleneck_goes_with_every_head_and_net(kind, continuous, net, members, tmp_path):
    parts = {
        "bottleneck": made("bottleneck", kind),
        "net": made("net", net),
        "head": Mixed(continuous=continuous),
    }
    training = TrainingConfig(2, members=members)
    check_fit_and_bundle(Autoencoder(training=training, random_state=0), parts, tmp_path)


SWAPPED = [
    *(("head", kind) for kind in HEADS),
    *(
        ("corruption", kind) for kind, part in sorted(kinds("corruption").items())
        if not part.images and not part.items
    ),
]  # fmt: skip


@pytest.mark.parametrize(("family", "kind"), SWAPPED)
def test_every_other_part_is_left_alone_by_a_fit_and_kept_in_a_bundle(family, kind, tmp_path):
    model = Autoencoder(training=TrainingConfig(steps=2), random_state=0)
    check_fit_and_bundle(model, {family: made(family, kind)}, tmp_path)


@pytest.mark.parametrize(
    "kind", [kind for kind, net in kinds("net").items() if net.images and not net.skips]
)
def test_a_net_for_images_is_refused_on_a_table_with_that_reason(kind):
    with pytest.raises(SettingError, match="is for images, but these rows are a table"):
        Autoencoder(net=made("net", kind)).fit(frame())


@pytest.mark.parametrize("kind", SERIES_NETS)
def test_a_net_for_series_is_refused_on_other_rows_with_that_reason(kind):
    with pytest.raises(SettingError, match="is for series, but these rows are not windows"):
        Autoencoder(net=made("net", kind)).fit(frame())
    with pytest.raises(SettingError, match="is for series, but these rows are images"):
        Autoencoder(net=made("net", kind)).fit(np.zeros((40, 8, 8)))
    with pytest.raises(SettingError, match="this net is for series"):
        embedded(made("net", kind), LAYOUT, 1)


@pytest.mark.parametrize("kind", [k for k, net in kinds("net").items() if net.skips])
def test_a_net_with_skip_connections_has_no_code(kind):
    with pytest.raises(SettingError, match="has skip connections, so there is no code; use Den"):
        Autoencoder(net=made("net", kind)).fit(np.zeros((4, 8, 8)))


WITH_ROWS = sorted(k for k, modality in kinds("modality").items() if modality.has_rows)


@pytest.mark.parametrize("kind", WITH_ROWS)
def test_a_modality_is_restored_from_its_recipe_and_encodes_the_same(kind):
    from keyhole.data import open_source

    held = np.random.default_rng(0).random((9, 5, 7)) if kind == "images" else frame()
    schema = Schema(time="time") if kind == "series" else Schema()
    if kind == "series":
        held = held.assign(time=pd.date_range("2024-01-01", periods=len(held), freq="s"))
    source = kinds("modality")[kind].for_fit(open_source(held), schema)
    source = random_access(source, str)
    modality, _ = kinds("modality")[kind].learn(source, schema)
    again = build("modality", json.loads(json.dumps(modality.recipe(), allow_nan=False)))
    assert again.layout == modality.layout
    rows = source.group(0)
    for a, b in zip(vars(again.encode(rows)).values(), vars(modality.encode(rows)).values()):
        assert (a is None and b is None) or torch.equal(a, b)
    empty = modality.encode(rows.take(slice(0, 0)))
    assert empty.observed.shape == (0, len(modality.layout))
