"""Each bottleneck on digits and a table: codes, collapse, order of components, dead units.

    python -m benchmarks.bottlenecks

*Digits* (of scikit-learn, five splits of 1,297 and 500): test R2 of reconstructed rows, and the
accuracy of a five-nearest-neighbours classifier on the codes. They are compared with raw pixels,
PCA and a plain code.

*Collapse*: a decoder with the fixed scale 1 on digits scaled to [0, 1] collapses. A warning must
say so before training, and a check after it.

*Principal*: the linear net with ordered codes, trained by gradient, is compared with PCA: the
largest angle between their subspaces, and how well the order of the components agrees.

*Top-k* and *FSQ* on `30_satellite`: the share of dead units of a top-k code four times as wide as
the row, and the share of FSQ's codes that rows use (at most one code for 20 rows).
"""

import json
import warnings
from typing import Any

import numpy as np
import torch
from scipy.linalg import subspace_angles
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from benchmarks.common import RESULTS, data, emit
from keyhole import Autoencoder, KeyholeWarning, Schema, TrainingConfig
from keyhole.autoencoder.input_validation import blocks_of
from keyhole.bottlenecks import Variational
from keyhole.core.parts import kinds
from keyhole.model.bottlenecks import FSQ, Ordered, Plain, TopK
from keyhole.model.heads import Mixed
from keyhole.model.nets import LinearNet
from keyhole.training.corruptions import NoCorruption

SPLITS, TRAIN, WIDTH = 5, 1_297, 16
OWN: dict[str, dict[str, Any]] = {"top_k": {"width": 64, "k": 8}, "l1": {"width": 64}}
SHARED = {"corruption": NoCorruption(), "head": Mixed(continuous="gaussian")}


def quality(model: Autoencoder, parts: tuple[np.ndarray, ...]) -> dict[str, float]:
    """R2 of rebuilt test rows, and the accuracy of five neighbours on codes."""
    x, test, y, truth = parts
    codes, asked = model.transform(x), model.transform(test)
    left = ((model.inverse_transform(asked) - test) ** 2).sum()
    r2 = 1 - left / ((test - x.mean(0)) ** 2).sum()
    near = KNeighborsClassifier(5).fit(codes, y)
    return {"r2": float(r2), "knn": float(near.score(asked, truth))}


def halves(x: np.ndarray, y: np.ndarray, seed: int, train: int) -> tuple[np.ndarray, ...]:
    """Training and test rows, training and test labels."""
    order = np.random.default_rng(seed).permutation(len(x))
    known, asked = order[:train], order[train:]
    return x[known], x[asked], y[known], y[asked]


def digits() -> None:
    """The default variational model and its floors."""
    found: dict[str, list[float]] = {}
    for seed in range(SPLITS):
        parts = halves(*load_digits(return_X_y=True), seed, TRAIN)
        x, test, y, truth = parts
        model = Autoencoder(bottleneck=Variational(width=WIDTH), random_state=seed).fit(x)
        said = {"variational": quality(model, parts)}
        plain = Autoencoder(
            Plain(WIDTH), random_state=seed, schema=Schema(kinds="alike"), **SHARED
        )
        said["plain"] = quality(plain.fit(x), parts)
        pca = PCA(WIDTH, random_state=0).fit(x)
        for name, (a, b) in {
            "raw": (x, test), "pca": (pca.transform(x), pca.transform(test)),
        }.items():  # fmt: skip
            said[name] = {"knn": float(KNeighborsClassifier(5).fit(a, y).score(b, truth))}
        for name, figures in said.items():
            for key, value in figures.items():
                found.setdefault(f"{name} {key}", []).append(value)
        nats = model.model_.evidence["code_nats"]
        found.setdefault("active", []).append(sum(n > 0.05 for n in nats))
    mean, least = ({k: take(v) for k, v in found.items()} for take in (np.mean, min))
    bar = "variational r2 .89, knn .970"
    emit("bottlenecks", line="digits", splits=SPLITS, bar=bar, mean=mean, least=least)


def collapse() -> None:
    """A fixed scale of 1 on pixels in [0, 1], and what is said of it."""
    parts = halves(*load_digits(return_X_y=True), 0, TRAIN)
    parts = (parts[0] / 16, parts[1] / 16, *parts[2:])
    head = Mixed(continuous="gaussian", scale=1.0)
    model = Autoencoder(Variational(width=WIDTH), head=head, random_state=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", KeyholeWarning)
        observed: list[int] = []
        model.fit(parts[0], on_evaluate=lambda event: observed.append(len(caught)))
    before = bool(observed[0]) and "KH008" in str(caught[0].message)
    after = any(f.code == "KH008" for f in model.findings_)
    emit("bottlenecks", line="collapse", **quality(model, parts), said_before=before,
         said_after=after, text=str(caught[0].message))  # fmt: skip


def principal() -> None:
    """The linear net by gradient against PCA: of standardised columns, or of pixels."""
    sets = {
        "breast_cancer": (load_breast_cancer().data, None), "wine": (load_wine().data, None),
        "26_optdigits": (np.load(data("adbench") / "26_optdigits.npz")["X"], "alike"),
    }  # fmt: skip
    for name, (raw, told) in sets.items():
        x = StandardScaler().fit_transform(raw) if told is None else raw
        model = Autoencoder(
            Ordered(5), net=LinearNet(), schema=Schema(kinds="alike"), random_state=0,
            training=TrainingConfig(6_000, members=1, batch=512, patience=None,
            learning_rate=3e-3), **SHARED,
        )  # fmt: skip
        model.fit(x)
        head = model.model_.network.head.cells["gaussian"].to_location.weight[0].detach().numpy()
        scale = np.array([slot.unit for slot in model.model_.modality.layout.slots])
        loads = head * scale[:, None]
        rows = x[trained(model, x)]
        axes = PCA(5).fit(rows).components_.T
        angle = float(np.degrees(subspace_angles(loads, axes)).max())
        each = np.abs((loads / np.linalg.norm(loads, axis=0) * axes).sum(0))
        own = np.degrees(np.arccos(each.clip(0, 1))).tolist()
        emit("bottlenecks", line="principal", set=name, angle_degrees=angle,
             component_angles=own, bar="under 5, in order")  # fmt: skip


def trained(model: Autoencoder, x: np.ndarray) -> np.ndarray:
    """The rows that the net was trained on."""
    return np.concatenate([model.model_.trained_on(rows, s) for s, rows in blocks_of(model, x)])


def satellite() -> None:
    """Dead units of a wide top-k code, and how many of FSQ's codes are used."""
    x = np.load(data("adbench") / "30_satellite.npz")["X"]
    wide = 4 * x.shape[1]
    for k in (4, 8):
        codes = Autoencoder(TopK(wide, k=k), random_state=0).fit(x).transform(x)
        dead = float((codes.max(0) <= 0).mean())
        emit("bottlenecks", line="top_k", width=wide, k=k, dead=dead, bar="under .05")
    for levels in ([7, 6, 6], [8, 8, 5], [5, 4, 4, 4]):
        model = Autoencoder(FSQ(levels=levels), random_state=0).fit(x)
        used = len(np.unique(model.transform(x).round(4), axis=0)) / np.prod(levels)
        emit("bottlenecks", line="fsq", levels=levels, codes=int(np.prod(levels)),
             most_codes=len(x) // 20, used=used, bar="over .9")  # fmt: skip


def each() -> None:
    """Every bottleneck on digits and on satellite, as docs/bottlenecks.md shows them."""
    held = np.load(data("adbench") / "30_satellite.npz")
    tables = {"digits": load_digits(return_X_y=True), "satellite": (held["X"], held["y"])}
    found: dict[str, dict[str, Any]] = {}
    for kind, made in sorted(kinds("bottleneck").items()):
        for name, (x, y) in tables.items():
            parts = halves(x, y, 0, int(0.72 * len(x)))
            bottleneck = made(**OWN.get(kind, {"width": WIDTH}))
            model = Autoencoder(bottleneck, schema=Schema(kinds="alike"), random_state=0, **SHARED)
            figures = quality(model.fit(parts[0]), parts)
            found.setdefault(kind, {})[name] = {k: round(v, 3) for k, v in figures.items()}
        emit("bottlenecks", line="each", kind=kind, **found[kind])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "bottlenecks.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for ask in (digits, collapse, principal, satellite, each):
        ask()
