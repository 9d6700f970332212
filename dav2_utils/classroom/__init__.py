"""What only the lessons need.

Read `exercises` first (`check`), then `plots`; `widgets` decorate what `views` computes. `copies` brings fresh lessons.
"""

from .setup import load_ipython_extension as load_ipython_extension
