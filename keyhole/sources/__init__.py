"""Where rows come from: blocks of rows out of frames, arrays, CSV, Parquet and pipes."""

from keyhole.sources.base import ArrayRows, ArrowRows, Rows, Source
from keyhole.sources.opening import open_source

__all__ = ["ArrayRows", "ArrowRows", "Rows", "Source", "open_source"]
