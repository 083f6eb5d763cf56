"""Denoising without clean pictures: units of noise, crops, tiles, and who does it best."""
