"""`python -m dav2_utils.cli` is the command `dav2`."""

from .command import main

main()
