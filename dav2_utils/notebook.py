"""`%load_ext dav2_utils`: a failed load explains itself under its usual traceback.

IPython has a hook for this, `set_custom_exc`. It has room for one handler: if one was already set, it still gets its
exceptions, and `%unload_ext dav2_utils` puts it back. torch is not patched.
"""

from __future__ import annotations

import re
import traceback
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

from .diagnosis.explain import Explanation, explain
from .errors import CheckpointError

# Seen in the traceback of whatever reads or loads weights; without it nothing is explained, whatever the words.
_LOADING = re.compile(r"load_state_dict|torch\.load\(|torch[/\\]serialization|safetensors|safe_open|unpickl", re.I)
_before: WeakKeyDictionary[Any, tuple[Any, Any]] = WeakKeyDictionary()  # shell -> its exceptions and handler


def load_ipython_extension(shell: Any) -> None:
    """Explain failed loads in this IPython shell from now on (called by `%load_ext dav2_utils`)."""
    if shell in _before:
        return
    exceptions, handler = _before[shell] = shell.custom_exceptions, shell.CustomTB

    def show(
        self: Any, kind: type[BaseException], error: BaseException, tb: TracebackType, tb_offset: int | None = None
    ) -> None:
        if issubclass(kind, exceptions):
            handler(kind, error, tb, tb_offset=tb_offset)
        else:
            self.showtraceback((kind, error, tb), tb_offset=tb_offset)
        if found := explain_exception(error):
            from IPython.display import display

            display(found)  # type: ignore[no-untyped-call]

    shell.set_custom_exc((Exception,), show)


def unload_ipython_extension(shell: Any) -> None:
    """Put back what the shell did with exceptions before (called by `%unload_ext dav2_utils`)."""
    if shell in _before:
        shell.custom_exceptions, shell.CustomTB = _before.pop(shell)


def explain_exception(error: BaseException) -> Explanation | None:
    """Why loading failed, from an exception and its traceback; None if it isn't a failed load or nothing is known.

    Errors of this package say it themselves, so they are not explained again.
    """
    text = "".join(traceback.format_exception(error))
    if isinstance(error, CheckpointError) or not _LOADING.search(text):
        return None
    found = explain(text)
    return found if found.causes else None
