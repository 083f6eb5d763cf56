"""The interface of a task of rows, the registry of tasks, and the tasks of one forward pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from keyhole.core.progress import advanced, heard_if_verbose
from keyhole.errors import DataError, SettingError
from keyhole.tasks.sparse import check_sparse, listed

if TYPE_CHECKING:
    import pyarrow as pa

    from keyhole.autoencoder.estimator import Autoencoder
    from keyhole.data import Rows, Source


def an_autoencoder(given: Any, taker: str) -> Autoencoder:
    """The given Autoencoder. Raises: SettingError if it is something else."""
    from keyhole.autoencoder.estimator import Autoencoder

    if isinstance(given, Autoencoder):
        return given
    own = "; use the one inside, .autoencoder_" if hasattr(given, "autoencoder_") else ""
    raise SettingError(f"{taker} takes an Autoencoder, got {type(given).__name__:.40}{own}")


def seeded(template: Any, taker: str, random_state: Any, verbose: bool) -> Autoencoder:
    """A clone of a task's template; the task's own `random_state` decides where it has one.

    It is verbose where the template or the task is. Raises: SettingError for no Autoencoder.
    """
    from sklearn.base import clone

    model: Any = clone(an_autoencoder(template, taker))
    if random_state is not None:
        model.set_params(random_state=random_state)
    if verbose:
        model.set_params(verbose=True)
    return model


@dataclass(frozen=True)
class Option:
    """An argument of a task's constructor that its command offers as `--name`."""

    name: str
    type: type[int] | type[float] | type[str] | type[bool]  # bool: a flag, False by default
    help: str
    default: Any = None
    metavar: str | None = None


class Task(ABC):
    """A question put to a fitted Autoencoder, answered with one or more lines a row.

    A class that sets `verb` is registered, and `keyhole VERB MODEL DATA` runs it. Its module is
    imported by `keyhole --help`: import torch, numpy and pyarrow inside its methods.
    """

    verb: ClassVar[str]
    summary: ClassVar[str]  # its line in `keyhole --help`
    help: ClassVar[str]  # the text of `keyhole VERB --help`
    options: ClassVar[tuple[Option, ...]] = ()
    registry: ClassVar[dict[str, type[Task]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "verb" in cls.__dict__:
            Task.registry[cls.verb] = heard_if_verbose("answer")(cls)

    def __init__(self, autoencoder: Autoencoder) -> None:
        self.autoencoder = an_autoencoder(autoencoder, type(self).__name__)

    @classmethod
    def load(cls, path: str, options: Mapping[str, Any]) -> Self:
        """The task on the model of a bundle; `options` are arguments of the constructor.

        Raises: BundleError, SettingError.
        """
        from keyhole.autoencoder.estimator import Autoencoder

        return cls(Autoencoder.load(path), **options)

    @abstractmethod
    def table(self, rows: Rows, start: int) -> pa.Table:
        """The answer for a block of rows; the first row has the index `start`."""

    def accept(self, names: list[str]) -> None:  # noqa: B027
        """Raises: DataError if the answer cannot be added to data with these columns."""

    def answerer(self) -> Callable[[Rows, int], pa.Table]:
        """The function that answers a block; a `Counting` if `messages` needs counts."""
        return self.table

    def messages(self, rows: int) -> Iterator[tuple[str, str]]:
        """What the command line prints once `rows` rows are answered: a label and a text each."""
        yield self.verb, f"{rows:,} rows"

    def settings(self) -> list[Any]:
        """What the answers depend on, as JSON: parts of an interrupted run are reused if equal."""
        options = {option.name: getattr(self, option.name) for option in self.options}
        return [self.autoencoder.model_.fingerprint, self.verb, options]

    def reads(self) -> list[str] | None:
        """The columns that this task reads; None: all, because the answer contains them."""
        return self.autoencoder.model_.modality.needs()

    def tables(self, source: Source, chunk: int) -> Iterator[pa.Table]:
        """The answers for a source, `chunk` rows at a time, in its order."""
        from keyhole.data.source import check_columns

        check_columns(self.autoencoder.model_.modality.needs(), source.names, "this model")
        self.accept(source.names)
        start = 0
        for rows in source.blocks(chunk):
            yield self.table(rows, start)
            start += len(rows)
            advanced(len(rows))
        if start == 0:
            raise DataError(f"{source.name} holds no rows")

    def answer(self, X: Any) -> Any:
        """The answers for a frame, an array or a path, as the same kind of frame."""
        import pyarrow as pa

        from keyhole.autoencoder import input_validation
        from keyhole.data.frames import is_frame

        source = input_validation.open_rows(self.autoencoder, X)
        table = pa.concat_tables(list(self.tables(source, input_validation.CHUNK_ROWS)))
        images = self.autoencoder.model_.modality.images(table)
        if images is not None:
            return images
        return self.back(table, X) if is_frame(X) else table

    def back(self, table: pa.Table, X: Any) -> Any:
        """A table of answers as the kind of frame that was given."""
        from keyhole.data.frames import same_kind

        return same_kind(table, X)


class Embed(Task):
    """Codes named `code_0`, `code_1`, ...; deterministic, one line a row.

    `sparse`: lists of `indices` (rising) and `values` of the dimensions that are not zero.
    """

    verb = "embed"
    summary = "Compute the code of every row."
    help = "The code of every row of DATA: code_0, code_1, ..."
    options = (
        Option("sparse", bool, "Write only nonzero dimensions: indices and values.", False),
    )

    def __init__(self, autoencoder: Autoencoder, *, sparse: bool = False) -> None:
        super().__init__(autoencoder)
        self.sparse = sparse
        if sparse:
            check_sparse(self.autoencoder)

    def table(self, rows: Rows, start: int) -> pa.Table:
        """The codes of a block of rows, after the id column if there is one."""
        import pyarrow as pa

        model = self.autoencoder
        codes = model.model_.code(rows, start)
        if self.sparse:
            lists, metadata = listed(codes)
            table = pa.table({**model.model_.modality.labels(rows), **lists})
            return table.replace_schema_metadata(metadata)
        columns = dict(zip(model.get_feature_names_out(), codes.T, strict=True))
        return pa.table({**model.model_.modality.labels(rows), **columns})


class Score(Task):
    """log p(x | code(x)) in nats, higher = more normal; null for a row with no observed value."""

    verb = "score"
    summary = "Compute the log-likelihood of every row."
    help = "The log-likelihood of every row of DATA, in nats; one forward pass."

    def table(self, rows: Rows, start: int) -> pa.Table:
        """The log-likelihood of each row of a block."""
        import pyarrow as pa

        model = self.autoencoder.model_
        nats = -model.row_nats(model.score_block(rows, start)).numpy()
        return pa.table({"log_likelihood": pa.array(nats, from_pandas=True)})


class Reconstruct(Task):
    """Expected rows in original units and types, with the columns that the model learned."""

    verb = "reconstruct"
    summary = "Reconstruct every row."
    help = "The row that the model expects, for every row of DATA."

    def table(self, rows: Rows, start: int) -> pa.Table:
        """The expected rows of a block."""
        model = self.autoencoder.model_
        table = model.modality.in_rows(model.modality.decode(model.expect(rows, start)[1]), rows)
        return model.modality.written(table)

    def back(self, table: pa.Table, X: Any) -> Any:
        """The expected rows in the dtypes, labels and index of the frame that was given."""
        from keyhole.data.frames_out import restored

        return restored(table, X)
