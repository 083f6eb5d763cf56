"""Quality and speed, each a module that prints lines of JSON; `python -m benchmarks` runs all."""
