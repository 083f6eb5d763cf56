"""Tables: columns of several kinds."""
