"""`python -m pipeline` is `memsync`."""

from pipeline.cli import main

main()
