"""A fitted detector as an ONNX graph: numbers in, anomaly score, p-value and alarm out."""

import json
import os

import torch
from sklearn.utils.validation import check_is_fitted

from keyhole.core.environment import version_of
from keyhole.errors import SettingError
from keyhole.store import write_onnx
from keyhole.tasks.detect.detector import AnomalyDetector
from keyhole.tasks.detect.graph import ScoreGraph

OUTPUTS = ("anomaly_score", "p_value", "alarm")
EXAMPLE_ROWS = 8  # that the graph is traced with: more than any other size in it
EXPORT_FORMAT = 1  # of input, outputs and metadata


def export_onnx(detector: AnomalyDetector, path: str | os.PathLike[str]) -> None:
    """Write a fitted detector as an ONNX graph, which runs without keyhole and without torch.

    The graph holds everything from the numbers to the alarm: encoding, network, reference rows,
    calibration and threshold. It gives what `detector.answer` gives, within 1e-5.

    Input `rows`: float64, (row, column), the columns in the order of the metadata entry
    `columns`; NaN is a missing value. Outputs: `anomaly_score` and `p_value`, float64 (row,), NaN
    for a row without a value; `alarm`, bool (row,). Metadata: `columns` (JSON), `threshold`,
    `false_alarm_rate`, `calibration_rows`, `keyhole` (its version), `format`.

    Parameters
    ----------
    detector : AnomalyDetector
        A fitted detector of a table whose columns are numbers, counts or booleans.
    path : str or path-like
        The file, which is replaced atomically.

    Raises
    ------
    SettingError
        For a detector that a graph cannot hold: columns of texts, categories or dates, series,
        images, or thresholds by group.
    MissingExtraError
        If the libraries of the extra `onnx` are not installed.
    FileError
        If the file cannot be written.

    See Also
    --------
    AnomalyDetector.save : A file that keyhole reads.

    Examples
    --------
    >>> from keyhole.tasks import export_onnx
    >>> export_onnx(detector, "plant.onnx")  # doctest: +SKIP
    """
    if not isinstance(detector, AnomalyDetector):
        raise SettingError(
            f"export_onnx({type(detector).__name__:.40}): give a fitted AnomalyDetector; "
            "AnomalyDetector.from_fitted makes one of an Autoencoder"
        )
    check_is_fitted(detector)
    scorer = detector.scorer_
    if scorer.groups is not None:
        raise SettingError(
            f"each group of column {scorer.groups.column!r} has a threshold of its own, and an "
            "exported graph reads numbers alone: fit without a group, or let keyhole itself answer"
        )
    columns = scorer.table.needs()
    example = torch.zeros((EXAMPLE_ROWS, len(columns)), dtype=torch.float64)
    scorer.table.encode_tensor(example)  # refuses what is no table of numbers
    threshold = scorer.calibration.threshold(detector.false_alarm_rate)
    metadata = {
        "columns": json.dumps(columns, ensure_ascii=False),
        "threshold": repr(threshold),
        "false_alarm_rate": repr(float(detector.false_alarm_rate)),
        "calibration_rows": str(len(scorer.calibration.anomaly_scores)),
        "keyhole": version_of("keyhole"),
        "format": str(EXPORT_FORMAT),
    }
    graph = ScoreGraph(scorer.anomaly_score, scorer.calibration, threshold).eval()
    write_onnx(path, graph, example, OUTPUTS, metadata)
