"""Noisy images of any size: crops of them are rows, in units of their noise."""
