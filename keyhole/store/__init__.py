"""How a model is kept: `manifest.json` and `weights.safetensors`, nothing that runs."""

from keyhole.store.bundle import FORMAT, Bundle, read_bundle, write_bundle

__all__ = ["FORMAT", "Bundle", "read_bundle", "write_bundle"]
