"""The command line, thin over the public functions: read `main` first, then `files`."""

from .main import main as main
