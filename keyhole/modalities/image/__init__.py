"""Images of one shape as rows."""
