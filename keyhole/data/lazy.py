"""Libraries of frames, imported when a name of theirs is first used: that takes up to a second."""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any


class LazyModule(ModuleType):
    """A library that `import keyhole` does not load."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)


pc: Any = LazyModule("pyarrow.compute")  # makes its functions when it is imported: no types
if TYPE_CHECKING:
    import narwhals as nw
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    import pyarrow.csv as arrow_csv
    import pyarrow.parquet as pq
    import pyarrow.types as pt
else:
    nw, pd, pl, pa = map(LazyModule, ("narwhals", "pandas", "polars", "pyarrow"))
    arrow_csv, pq, pt = map(LazyModule, ("pyarrow.csv", "pyarrow.parquet", "pyarrow.types"))
