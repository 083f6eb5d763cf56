"""Lists of items that users touched."""
