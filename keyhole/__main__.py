"""`python -m keyhole`: the command line."""

from keyhole.cli import main

main()
