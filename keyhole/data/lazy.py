"""Libraries of frames, imported when a name of theirs is first used: that takes up to a second."""

from types import ModuleType
from typing import TYPE_CHECKING, Any


class LazyModule(ModuleType):
    """A library that `import keyhole` does not load."""

    def __getattr__(self, name: str) -> Any:
        match self.__name__:
            case "nw":
                import narwhals as library
            case "pa":
                import pyarrow as library
            case "pc":
                import pyarrow.compute as library
            case "pq":
                import pyarrow.parquet as library
            case "pt":
                import pyarrow.types as library
            case "arrow_csv":
                import pyarrow.csv as library
            case "pd":
                import pandas as library
            case _:
                import polars as library
        return getattr(library, name)


pc: Any = LazyModule("pc")  # pyarrow makes its functions when it is imported: they have no types
if TYPE_CHECKING:
    import narwhals as nw
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    import pyarrow.csv as arrow_csv
    import pyarrow.parquet as pq
    import pyarrow.types as pt
else:
    nw, pa, pq, pt, arrow_csv, pd, pl = map(
        LazyModule, ("nw", "pa", "pq", "pt", "arrow_csv", "pd", "pl")
    )
