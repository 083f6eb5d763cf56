"""How anomalous is each row? One scale from three questions, in multiples of the usual."""
