"""What modalities share whose samples are rows: split, feed, held-out rows and reference rows."""
