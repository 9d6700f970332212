"""The command line, thin over the public functions: read `command` first, then `files`."""

import atexit
import gc

# A process that lives for a tenth of a second makes little garbage: look for it seldom, and not once more at the end,
# when the system takes everything back anyway. That was an eighth of the time of `dav2 explain`.
gc.set_threshold(10_000)
atexit.register(gc.freeze)

from .command import main as main  # noqa: E402
