"""New rows from a prior over codes, and how real they look."""
