"""The Autoencoder: scikit-learn's front to one network, one loss, one fit."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from keyhole.bottlenecks import Bottleneck, Plain
from keyhole.checks import examine, gather, verdict
from keyhole.core.layout import Shape
from keyhole.core.nats import column_nats, row_nats
from keyhole.core.records import Batch, Pass
from keyhole.errors import DataError, SettingError
from keyhole.heads import Head, Mixed
from keyhole.kept import restore
from keyhole.modalities import Hints, Tabular
from keyhole.nets import MLP, Net
from keyhole.network import Network
from keyhole.sources import ArrayRows, Rows, Source, open_source
from keyhole.sources.base import TableSource
from keyhole.sources.frame import array_names, is_frame, same_kind
from keyhole.sources.opening import random_access
from keyhole.sources.weighted import weighted
from keyhole.store import Bundle, blamed, read_bundle, write_bundle
from keyhole.training import Corruption, Masking, Plan
from keyhole.training.checkpoint import Checkpoint, seed_of
from keyhole.training.feed import Feed
from keyhole.training.heldout import HeldOut
from keyhole.training.loop import Run, Watcher, train
from keyhole.training.settle import held_out_nats, members_mean, settle_means
from keyhole.training.split import Split

CHUNK_ROWS = 16_384  # of a forward pass; larger ones fall out of the processor's cache
PARTS = {
    "bottleneck": (Bottleneck, Plain), "net": (Net, MLP), "head": (Head, Mixed),
    "corruption": (Corruption, Masking), "plan": (Plan, Plan), "hints": (Hints, Hints),
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """Some rows of a source, encoded and asked: what every task starts from.

    `nats` and `seen` are (row, column), averaged over the members.
    """

    start: int
    rows: Rows
    batch: Batch
    passed: Pass
    nats: torch.Tensor
    seen: torch.Tensor


@dataclass(frozen=True)
class Hooks:
    """What a caller of fit follows it by."""

    checkpoint: str | None
    watch: Watcher
    learnt: Callable[[Tabular, Source, int], None] | None


class Autoencoder(TransformerMixin, BaseEstimator):
    """Learns a narrow code for each row of a table, and the distribution of rows given codes.

    Every argument but `random_state` and `verbose` is a part with arguments of its own
    (`bottleneck=Plain(width=8)`, `plan=Plan(steps=2000)`); None means: chosen by the data.
    """

    _checkpoint: Checkpoint | None = None

    def __init__(
        self,
        bottleneck: Bottleneck | None = None,
        *,
        net: Net | None = None,
        head: Head | None = None,
        corruption: Corruption | None = None,
        plan: Plan | None = None,
        hints: Hints | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.bottleneck = bottleneck
        self.net = net
        self.head = head
        self.corruption = corruption
        self.plan = plan
        self.hints = hints
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        checkpoint: str | None = None,
        watch: Watcher | None = None,
        learnt: Callable[[Tabular, Source, int], None] | None = None,
    ) -> Self:
        """Learn from the rows of a frame, an array, or a path; `y` is ignored.

        `checkpoint` is a file that survives a kill: the same call goes on from it; `save` removes
        it. `learnt` is called with table, source and rows before training, `watch` at every
        evaluation. Raises: DataError, SettingError, FileError, FitError.
        """
        parts = self.parts()
        parts["plan"].check()
        seed = seed_of(checkpoint) if checkpoint and self.random_state is None else None
        if seed is None:  # nothing to go on from
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        source = self.open(X, learning=True)
        with tempfile.TemporaryDirectory(prefix="keyhole-") as folder:
            source = weighted(random_access(source, folder), parts["hints"].weight)
            hooks = Hooks(checkpoint, watch or self._watcher(), learnt)
            self._learn(source, parts, seed, hooks)
        return self

    def transform(self, X: Any) -> Any:
        """Codes (row, code): an array for an array, else the same kind of frame with `code_0`..."""
        codes = [block.passed.code.mean[0].cpu().numpy() for block in self.blocks(X)]
        return self.give(np.concatenate(codes), self.get_feature_names_out(), X)

    def inverse_transform(self, codes: Any) -> Any:
        """The expected rows of these codes, in original units and in the kind fit was given."""
        check_is_fitted(self)
        z = codes if isinstance(codes, np.ndarray) else _numbers_of(codes)
        if z.ndim != 2 or z.shape[1] != self.network_.width:
            raise DataError(f"codes have shape {z.shape}, expected (rows, {self.network_.width})")
        z = torch.from_numpy(np.ascontiguousarray(z, np.float32))
        z = z.expand(self.network_.shape.members, *z.shape)
        with torch.no_grad():
            mean = self.network_.decode(z[None].to(self._device)).mean
        table = self.table_.decode(members_mean(mean, first=True))
        return _as_fitted(table, self.container_)

    def score_samples(self, X: Any) -> np.ndarray:
        """Log p(x | code(x)) of each row in nats, higher = more normal; NaN where a row is empty.

        A gap counts as its column's typical value would, so it makes a row neither calm nor loud.
        """
        return np.concatenate([-self.row_nats(block).double().numpy() for block in self.blocks(X)])

    def score(self, X: Any, y: Any = None) -> float:
        """The mean log-likelihood of the rows in nats."""
        return float(np.nanmean(self.score_samples(X)))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """`code_0`, `code_1`, ..."""
        check_is_fitted(self)
        return np.array([f"code_{i}" for i in range(self.network_.width)], dtype=object)

    @property
    def history_(self) -> Any:
        """The evaluations of the run as a frame: pandas where it is installed, else Arrow."""
        check_is_fitted(self)
        try:
            import pandas
        except ImportError:
            import pyarrow

            return pyarrow.table(self.run_.columns())
        return pandas.DataFrame(self.run_.columns())

    def blocks(self, X: Any, chunk: int = CHUNK_ROWS) -> Iterator[Block]:
        """The rows of a source, encoded and asked, a chunk at a time: memory stays flat."""
        check_is_fitted(self)
        source = self.open(X)
        start = 0
        for rows in source.blocks(chunk):
            yield self.ask(rows, start)
            start += len(rows)
        if start == 0:
            raise DataError(f"{source.name} holds 0 sample(s): a minimum of 1 is required")

    @property
    def chunk_rows(self) -> int:
        """How many rows a forward pass takes."""
        return CHUNK_ROWS

    @property
    def id_column(self) -> str | None:
        """The column that names rows, where hints gave one."""
        return self.hints.id if self.hints is not None else None

    @torch.no_grad()
    def ask(self, rows: Rows, start: int = 0) -> Block:
        """One deterministic pass over some rows."""
        batch = self.table_.encode(rows, start)
        here = batch.to(self._device)
        passed = self.network_(here)
        log_prob = passed.likelihood.log_prob(here)[0]  # (M, B, cell)
        log_prob = log_prob[0] if log_prob.shape[0] == 1 else log_prob.mean(0)
        nats, seen = column_nats(log_prob.cpu(), batch.seen, self.table_.layout)
        return Block(start, rows, batch, passed, nats, seen)

    def row_nats(self, block: Block) -> torch.Tensor:
        """Each row's nats, gaps counted as typical columns."""
        return row_nats(block.nats, block.seen, self._typical)

    def save(self, path: str, sections: dict[str, Any] | None = None) -> None:
        """Keep the model in a folder, whole or not at all; `sections` are those of tasks."""
        check_is_fitted(self)
        state = {name: p for name, p in self.network_.state_dict().items()}
        write_bundle(str(path), {"autoencoder": self._section(), **(sections or {})}, state)
        if self._checkpoint is not None:
            self._checkpoint.clear()

    @classmethod
    def load(cls, path: str) -> Self:
        """The model kept in a folder; runs no code from it.

        Raises: BundleError that says what is wrong with it.
        """
        return cls.from_bundle(read_bundle(str(path)))

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Self:
        """The model of a bundle that was read.

        Raises: BundleError.
        """
        with blamed("the manifest"):
            return cls._restored(bundle)

    # How a fit goes, step by step.

    def _learn(self, source: Source, parts: dict[str, Any], seed: int, hooks: Hooks) -> None:
        hints = parts["hints"]
        self.table_, survey = Tabular.learn(source, hints)
        if survey.rows < 2:
            raise DataError(
                f"{source.name} holds 1 sample (n_samples=1); a minimum of 2 rows is required"
            )
        if hooks.learnt is not None:
            hooks.learnt(self.table_, source, survey.rows)
        split = Split.of(survey.rows, seed, hints.validation, survey.sample)
        held = HeldOut.gather(source, split)
        shape = Shape(self.table_.layout, members=split.members)
        network = Network(parts["net"], parts["bottleneck"], parts["head"], shape, seed=seed)
        self.fingerprint_ = fingerprint(survey.rows, self.table_, held, parts, seed)
        run = Run(
            network,
            Feed(source, self.table_, split, seed, survey.rows),
            held.stopping(self.table_),
            parts["corruption"],
            parts["plan"],
            seed,
            hooks.watch,
            Checkpoint(hooks.checkpoint, self.fingerprint_, seed) if hooks.checkpoint else None,
        )
        trained = train(run)
        self.network_, self.run_, self.rows_ = trained.network, trained.history, survey.rows
        self.seed_, self._checkpoint = seed, run.checkpoint
        self._judge(held)

    def _judge(self, held: HeldOut) -> None:
        """Ask the checks, and keep what held-out rows cost: the typical nats, the calibration."""
        rows, member = held.calibration()
        if not len(rows):
            rows, member = held.rows, np.zeros(len(held.rows), np.int64)
        settle_means(self.network_, self.table_, rows, member)
        nats, seen = held_out_nats(self.network_, self.table_, rows, member)
        counted = np.where(seen, nats, np.nan)
        typical = np.zeros(nats.shape[1])
        held_any = seen.any(0)
        typical[held_any] = np.nanmean(counted[:, held_any], 0)
        self.typical_nats_ = typical
        self._typical = torch.from_numpy(typical.astype(np.float32))
        total = row_nats(torch.from_numpy(nats), torch.from_numpy(seen), torch.from_numpy(typical))
        held_out = [float(f"{nats:.7g}") for nats in total[~torch.isnan(total)]]  # as kept
        self.held_out_nats_ = np.sort(np.array(held_out, dtype=float))
        evidence = gather(
            self.network_, self.table_.encode(rows), member, self.run_,
            rows=self.rows_, folds=held.split.folds,
        )  # fmt: skip
        self.evidence_: dict[str, Any] = evidence.to_json()
        self.findings_ = examine(evidence)
        self.verdict_ = verdict(evidence, self.findings_)

    # How a model is kept, and found again.

    def _section(self) -> dict[str, Any]:
        parts = {name: part.recipe() for name, part in self.parts().items()}
        return {
            "parts": parts,
            "modality": self.table_.recipe(),
            "members": self.network_.shape.members,
            "random_state": self.random_state if isinstance(self.random_state, int) else None,
            "data": {
                "rows": self.rows_,
                "columns": self.feature_names_in_.tolist(),
                "container": self.container_,
                "fingerprint": self.fingerprint_,
            },
            "typical_nats": self.typical_nats_.tolist(),
            "held_out_nats": self.held_out_nats_.tolist(),
            "history": asdict(self.run_),
            "evidence": self.evidence_,
            "findings": [asdict(finding) for finding in self.findings_],
            "verdict": self.verdict_,
        }

    @classmethod
    def _restored(cls, bundle: Bundle) -> Self:
        found = restore(bundle, list(PARTS))
        kept = found.kept
        model = cls(**found.parts, random_state=kept.random_state)
        model.network_, model.table_ = found.network, found.table
        model.rows_, model.container_ = kept.data.rows, kept.data.container
        model.fingerprint_ = kept.data.fingerprint
        model.feature_names_in_ = np.array(kept.data.columns, dtype=object)
        model.n_features_in_ = len(model.feature_names_in_)
        model.typical_nats_ = np.array(kept.typical_nats, dtype=float)
        model._typical = torch.from_numpy(model.typical_nats_.astype(np.float32))
        model.held_out_nats_ = np.sort(np.array(kept.held_out_nats, dtype=float))
        model.run_, model.evidence_ = kept.history, kept.evidence
        model.findings_, model.verdict_ = kept.findings, kept.verdict
        return model

    # What comes in and goes out.

    def open(self, X: Any, *, learning: bool = False) -> Source:
        """The source of X, its columns named as in fit; checks what scikit-learn checks."""
        if hasattr(X, "blocks"):
            return X  # a source already
        if not learning:
            check_is_fitted(self)
        source = open_source(X)
        array = isinstance(source, TableSource) and not is_frame(X)
        if learning:
            self.container_ = _container(X, source)
        if not array and not is_frame(X):
            if learning:
                self.feature_names_in_ = np.array(source.names, dtype=object)
                self.n_features_in_ = len(source.names)
            return source
        nameless = not learning and self.feature_names_in_.tolist() == array_names(
            self.n_features_in_
        )
        if array and nameless and len(source.names) != self.n_features_in_:
            raise DataError(
                f"X has {len(source.names)} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        if learning or (array and not nameless):
            validate_data(self, X, reset=learning, skip_check_array=True)
        if learning:
            self.n_features_in_ = len(source.names)
            self.feature_names_in_ = np.array(source.names, dtype=object)
        elif array:
            return _renamed(source, self.feature_names_in_.tolist())
        return source

    def give(self, values: np.ndarray, names: Any, like: Any) -> Any:
        """Values (row, column) as an array where `like` is one, else as its kind of frame."""
        if isinstance(like, np.ndarray | list) or (hasattr(like, "tocsr")):
            return values
        import pyarrow as pa

        return same_kind(pa.table(dict(zip(names, values.T, strict=True))), like)

    def parts(self) -> dict[str, Any]:
        """The parts as given, defaults where none was."""
        found = {}
        for name, (base, default) in PARTS.items():
            part = getattr(self, name)
            part = default() if part is None else part
            if not isinstance(part, base):
                raise SettingError(f"{name}={part!r:.80}: expected a {base.__name__}")
            found[name] = part
        return found

    @property
    def _device(self) -> torch.device:
        return next(self.network_.parameters()).device

    def _watcher(self) -> Watcher:
        if not self.verbose:
            return lambda event: None
        from keyhole.training.progress import progress

        return progress()

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def fingerprint(rows: int, table: Tabular, held: HeldOut, parts: dict[str, Any], seed: int) -> str:
    """A digest of data, settings and seed: equal ones make the same model."""
    sample = held.rows.take(slice(0, 1_000)).arrow()
    said = [rows, table.recipe(), {n: p.recipe() for n, p in parts.items()}, seed]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    digest.update(repr(sample.to_pylist()).encode())
    return digest.hexdigest()[:16]


def _renamed(source: Source, names: list[str]) -> Source:
    """An array's source under the names of the columns that fit saw."""
    rows = source.group(0)
    if isinstance(rows, ArrayRows):
        return TableSource(ArrayRows(rows.values, names), source.name)
    if hasattr(rows, "table"):
        return TableSource(type(rows)(rows.table.rename_columns(names)), source.name)  # pyright: ignore
    return TableSource(type(rows)(rows.values, names), source.name)  # pyright: ignore


def _container(X: Any, source: Source) -> str:
    """What fit was given: "array", "pandas", "polars", ... or "arrow"."""
    import narwhals as nw

    if not isinstance(source, TableSource):
        return "arrow"
    if not is_frame(X):
        return "array" if isinstance(source.held, ArrayRows) else "arrow"
    try:
        name = nw.from_native(X, eager_only=True).implementation.value
    except TypeError:
        return "arrow"
    return "arrow" if name == "pyarrow" else name


def _as_fitted(table: Any, container: str) -> Any:
    """A table as the kind of container that fit was given."""
    import narwhals as nw

    if container == "array":
        return np.stack([column.to_numpy() for column in table.columns], 1)
    if container == "arrow":
        return table
    return nw.from_arrow(table, backend=container).to_native()


def _numbers_of(codes: Any) -> np.ndarray:
    source = open_source(codes)
    return np.concatenate([b.matrix(source.names) for b in source.blocks(CHUNK_ROWS)])
