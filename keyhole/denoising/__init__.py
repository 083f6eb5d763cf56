"""Denoising without clean images: units of noise, crops, tiles, and who does it best."""
