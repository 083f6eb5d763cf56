"""python -m keyhole.cli: the command line without its script."""

from keyhole.cli import main

main()
