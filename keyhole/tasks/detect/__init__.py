"""How anomalous is each row? One scale from four questions, in multiples of the usual."""
