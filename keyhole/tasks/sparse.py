"""Sparse codes as lists of indices and values, and as a SciPy array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keyhole.errors import DataError, SettingError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from keyhole.autoencoder.estimator import Autoencoder

WIDTH = b"keyhole.code_width"  # of a table's schema: how many dimensions its codes have


def check_sparse(model: Autoencoder) -> None:
    """Raises: SettingError where codes of this fitted model are dense."""
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(model)
    bottleneck = model.model_.network.bottleneck
    if not bottleneck.sparse:
        raise SettingError(
            f"the {bottleneck.kind} bottleneck has dense codes: fit with pursuit, top_k or l1 "
            "for sparse codes, or embed without sparse"
        )


def sparse_codes(model: Autoencoder, X: Any) -> Any:
    """The codes of a frame, an array or a path as a `scipy.sparse.csr_array` (row, code).

    For models with sparse codes (pursuit, top_k, l1); equal to `model.transform(X)`, but only a
    block of rows at a time is dense. Raises: SettingError for others, DataError.
    """
    from scipy import sparse

    from keyhole.autoencoder.input_validation import blocks_of

    check_sparse(model)
    blocks = (model.model_.code(rows, start) for start, rows in blocks_of(model, X))
    parts = [sparse.csr_array(block) for block in blocks]
    return sparse.csr_array(sparse.vstack(parts))


def listed(codes: np.ndarray) -> tuple[dict[str, pa.Array], dict[bytes, bytes]]:
    """The non-zero code dimensions of each row in rising order, and metadata with their number.

    `indices` are uint16 (a code has at most 65,536 dimensions), `values` float32.
    """
    import numpy as np
    import pyarrow as pa
    from scipy import sparse

    rows = sparse.csr_array(codes)
    rows.sort_indices()
    ends = pa.array(rows.indptr.astype(np.int32))
    lists = {
        "indices": pa.ListArray.from_arrays(ends, pa.array(rows.indices.astype(np.uint16))),
        "values": pa.ListArray.from_arrays(ends, pa.array(rows.data.astype(np.float32))),
    }
    return lists, {WIDTH: str(codes.shape[1]).encode()}


def read_sparse(data: Any) -> Any:
    """The codes that `keyhole embed --sparse` wrote as Parquet, as a `scipy.sparse.csr_array`.

    `data` is the path or an Arrow table. Raises: DataError for another table.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from scipy import sparse

    table = data if isinstance(data, pa.Table) else pq.read_table(data)
    width = (table.schema.metadata or {}).get(WIDTH)
    if width is None or not {"indices", "values"} <= set(table.column_names):
        raise DataError(
            f"{data!s:.60} holds no sparse codes: write them with keyhole embed --sparse"
        )
    indices, values = (table.column(name).combine_chunks() for name in ("indices", "values"))
    lengths = np.diff(indices.offsets.to_numpy())
    ends = np.concatenate([[0], np.cumsum(lengths)])
    parts = (values.flatten().to_numpy(), indices.flatten().to_numpy().astype(np.int32), ends)
    return sparse.csr_array(parts, shape=(len(table), int(width)))
