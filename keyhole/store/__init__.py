"""How a model is kept: `manifest.json` and `weights.safetensors`, nothing that runs."""

from keyhole.store.bundle import FORMAT, Bundle, Save, read_bundle, write_bundle
from keyhole.store.strict import record, wrap_errors

__all__ = ["FORMAT", "Bundle", "Save", "read_bundle", "record", "wrap_errors", "write_bundle"]
