"""Sensor series: a row is a window of equally spaced steps of several channels."""
