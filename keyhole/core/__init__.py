"""What travels between rooms: records, the layout of cells, and how a part is described."""
