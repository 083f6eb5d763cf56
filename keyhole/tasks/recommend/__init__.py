"""Which items will a user want next? Ranked lists of items, and how good such lists are."""
