"""Sources of rows: frames, arrays, CSV, Parquet, images and pipes."""

from keyhole.data.opening import open_source
from keyhole.data.source import ArrayRows, ArrowRows, Rows, Source

__all__ = ["ArrayRows", "ArrowRows", "Rows", "Source", "open_source"]
