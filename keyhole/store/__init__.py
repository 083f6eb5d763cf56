"""How a model is kept: `manifest.json` and `weights.safetensors`, nothing that runs."""

from keyhole.store.bundle import FORMAT, Bundle, Save, read_bundle, write_bundle
from keyhole.store.strict import blamed, record

__all__ = ["FORMAT", "Bundle", "Save", "blamed", "read_bundle", "record", "write_bundle"]
