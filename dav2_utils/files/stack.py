"""The small machine that a pickle is a program for: a stack, a memo, and a place in the bytes.

A name becomes a `Global`, a call a `Made` (what was called, with what); only the calls that torch writes for its
tensors are understood, as data. Standard library only.
"""

from __future__ import annotations

from typing import Any

from ..errors import BadTensor, PickleError
from .placeholders import Global, Made, Ordered, Storage, Tensor, put_into, referred
from .rebuilding import REBUILD

MOST_STEPS = 5_000_000  # instructions; a ViT-L training file with AdamW state takes about 60,000
MOST_NAMES = 10_000  # different globals
LONGEST_NAME = 1_000  # characters in the name of a global
LONGEST_LINE = 4_000  # bytes of a number or a name written as text (protocol 0)

# Functions that make an object of the class that is their first argument.
_MAKERS = {"copyreg._reconstructor", "copy_reg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__",
           "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}  # fmt: skip

_SIZED = {str, bytes, list, tuple, dict, Ordered}  # every type of a value here that has others, or characters, in it


class Machine:
    """The stack, the memo and the place in the bytes. `names` keeps every global in order of appearance."""

    def __init__(self, data: bytes, start: int = 0) -> None:
        self.data, self.at = data, start
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.names: dict[str, None] = {}
        self.storages: dict[str, Storage] = {}
        self.tensors: list[Tensor] = []
        self.done = set[int]()  # the instructions, by their numbers
        self.copied = 0

    def take(self, count: int) -> bytes:
        start, self.at = self.at, self.at + count
        if self.at > len(self.data):
            raise PickleError("it ends inside a value", cut=True)
        return self.data[start : self.at]

    def line(self, errors: str = "backslashreplace") -> str:
        end = self.data.find(b"\n", self.at, self.at + LONGEST_LINE)
        if end < 0:
            raise PickleError("a line does not end", cut=len(self.data) - self.at < LONGEST_LINE)
        text, self.at = self.data[self.at : end], end + 1
        return text.decode("utf-8", errors).rstrip("\r")

    def mark(self) -> None:
        self.marks.append(len(self.stack))

    def since_mark(self) -> list[Any]:
        mark = self.marks.pop()
        found = self.stack[mark:]
        del self.stack[mark:]
        return found

    def named(self, module: str, name: str) -> None:
        if len(module) + len(name) > LONGEST_NAME or len(self.names) > MOST_NAMES:
            raise PickleError("the names that it asks for are too long or too many")
        found = Global(module, name)
        self.names[found.dotted] = None
        self.stack.append(found)

    def call(self, maker: Any, args: Any) -> Any:
        """What calling would give: data for the calls that torch writes for its tensors, `Made` for all others."""
        name = maker.dotted if isinstance(maker, Global) else ""
        if name == "torch._tensor._rebuild_from_type_v2" and args[0].dotted != name:
            made = self.call(args[0], args[2])
            if isinstance(made, Tensor):
                made.as_usual = False  # of a class of somebody's own, or with attributes, which may be its numbers
            return made
        for arg in args:
            if type(arg) in _SIZED:
                self.copied += len(arg)
        if self.copied > MOST_STEPS + len(self.data):  # one large value, copied again and again, here or by torch
            raise PickleError("it makes too much out of too little")
        if name in REBUILD and len(args) < 20:
            made = REBUILD[name](*args)
            if isinstance(made, Tensor):
                self.tensors.append(made)
            return made
        if name in _MAKERS:
            return Made(args[0], args)
        return Made(maker, args)

    def refer(self, to: Any) -> Any:
        found = referred(to)
        if isinstance(found, Storage):
            first = self.storages.setdefault(found.key, found)
            # torch keeps the first one for all, but not where that is empty, or the key once a number and once text
            if first.bytes == 0 and found.bytes:
                raise BadTensor(f"storage {found.key[:40]!r} in two sizes")
            first.plain = first.plain and found.plain and (first.bytes, first.dtype) == (found.bytes, found.dtype)
            found = first
        return found

    def fill(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        put_into(target.mapping() if isinstance(target, Made) else target, pairs[::2], pairs[1::2])

    def extend(self, values: list[Any]) -> None:
        # what is in a deque, or in somebody's own kind of list, does not matter
        if not isinstance(self.stack[-1], Made):
            self.stack[-1].extend(values)
