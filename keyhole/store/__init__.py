"""Saved models: one safetensors file with a JSON manifest in its header; no code. ONNX files."""

from keyhole.store.bundle import Bundle, Save, check_replaceable, read_bundle, write_bundle
from keyhole.store.onnx_file import write_onnx
from keyhole.store.strict import record, wrap_errors

__all__ = [
    "Bundle", "Save", "check_replaceable", "read_bundle", "record", "wrap_errors",
    "write_bundle", "write_onnx",
]  # fmt: skip
