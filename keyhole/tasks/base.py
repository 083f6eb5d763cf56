"""A task is a verb and what it answers, block by block, so that files of any size pass through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from sklearn.base import clone

from keyhole.autoencoder.estimator import Autoencoder
from keyhole.core.progress import advanced, heard_if_verbose
from keyhole.data import Rows, Source
from keyhole.data.frames import is_frame, same_kind
from keyhole.data.image_rows import as_images, image_spec_of
from keyhole.errors import DataError, SettingError
from keyhole.modalities.tabular.given import check_columns

if TYPE_CHECKING:
    import pyarrow as pa


def an_autoencoder(given: Any, taker: str) -> Autoencoder:
    """What was given, which has to be an Autoencoder. Raises: SettingError."""
    if isinstance(given, Autoencoder):
        return given
    own = "; take the one inside, .autoencoder_" if hasattr(given, "autoencoder_") else ""
    raise SettingError(f"{taker} takes an Autoencoder, got {type(given).__name__:.40}{own}")


def seeded(
    autoencoder: Autoencoder | None, random_state: Any, verbose: bool = False
) -> Autoencoder:
    """A fresh copy of a template; a task's own `random_state` decides where it has one.

    It is verbose where the template or the task is.
    """
    given = Autoencoder() if autoencoder is None else autoencoder
    model: Any = clone(an_autoencoder(given, "AnomalyDetector"))
    if random_state is not None:
        model.set_params(random_state=random_state)
    if verbose:
        model.set_params(verbose=True)
    return model


class Task(ABC):
    """A question put to a fitted Autoencoder."""

    verb: ClassVar[str]
    verbs: ClassVar[dict[str, type[Task]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "verb" in cls.__dict__:
            Task.verbs[cls.verb] = heard_if_verbose("answer")(cls)

    def __init__(self, autoencoder: Autoencoder) -> None:
        self.autoencoder = an_autoencoder(autoencoder, type(self).__name__)

    @abstractmethod
    def table(self, rows: Rows, start: int) -> pa.Table:
        """The answer for a block of rows whose first stands at `start`, one line a row."""

    def accept(self, names: list[str]) -> None:  # noqa: B027
        """Refuse data with these columns where the answer has no room for them."""

    def reads(self) -> list[str] | None:
        """The columns that this task reads; None: all, because it carries rows along."""
        return self.autoencoder.table_.needs()

    def tables(self, source: Source, chunk: int) -> Iterator[pa.Table]:
        """The answers for a source, a chunk at a time, in its order."""
        check_columns(self.autoencoder.table_.needs(), source.names, "this model")
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

        source = self.autoencoder.open(X)
        table = pa.concat_tables(list(self.tables(source, self.autoencoder.chunk_rows)))
        if image_spec_of(table) is not None:
            return as_images(table)
        return self.back(table, X) if is_frame(X) else table

    def back(self, table: pa.Table, X: Any) -> Any:
        """A table of answers as the kind of frame that was given."""
        return same_kind(table, X)
