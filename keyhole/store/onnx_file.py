"""A torch module as an ONNX file: one graph with named outputs and metadata, written atomically.

The file holds operations and numbers, no code: whoever loads it runs none of ours. What the
exporter notes of its own work (source files, shapes on the way) is left out.
"""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn

from keyhole.core.environment import missing_extra
from keyhole.core.files import write_whole
from keyhole.core.progress import stage
from keyhole.errors import SettingError

MAX_BYTES = 1 << 31  # of a file without a second one for its numbers
INPUT, ROW = "rows", "row"  # the name of the input, and of the first axis of all tensors


def write_onnx(
    path: str | os.PathLike[str],
    module: nn.Module,
    example: Tensor,
    outputs: Sequence[str],
    metadata: Mapping[str, str],
) -> None:
    """Write the graph of a module that maps rows to figures of each row, for any number of rows.

    Raises: MissingExtraError, FileError; SettingError for a module that cannot be traced.
    """
    stage("writing the graph")
    model = _model_of(module, example, outputs)
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = ROW
    model.graph.ClearField("value_info")
    for node in [*model.graph.node, *(n for part in model.functions for n in part.node)]:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    model.ClearField("metadata_props")
    model.graph.ClearField("metadata_props")
    model.producer_name, model.producer_version = "keyhole", metadata["keyhole"]
    for key, text in metadata.items():
        model.metadata_props.add(key=key, value=text)
    if model.ByteSize() >= MAX_BYTES:
        raise SettingError("the graph would be larger than 2 GB, the most that one file can be")
    write_whole(path, model.SerializeToString())


def _model_of(module: nn.Module, example: Tensor, outputs: Sequence[str]) -> Any:
    """The ONNX model of a module, in the format of its file."""
    try:
        import onnxscript  # noqa: F401
    except ImportError as fault:
        raise missing_extra("onnxscript", "export a graph", "onnx") from fault
    row = torch.export.Dim(ROW, min=1)
    with _quiet(), torch.no_grad():
        try:
            program: Any = torch.onnx.export(
                module, (example,), dynamo=True, dynamic_shapes=({0: row},),
                input_names=[INPUT], output_names=list(outputs), verbose=False,
            )  # fmt: skip
        except torch.onnx.OnnxExporterError as fault:
            reason = str(fault.__cause__ or fault).strip().partition("\n")[0]
            raise SettingError(
                "torch's exporter cannot trace a part of this model: let keyhole itself answer, "
                f"or fit with the default parts ({reason:.200})"
            ) from fault
        return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes to its developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
