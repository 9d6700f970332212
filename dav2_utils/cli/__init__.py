"""The command line, thin over the public functions: read `command` first, then `files`."""

from .command import main as main
