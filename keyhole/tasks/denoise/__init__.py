"""Images without their noise."""
