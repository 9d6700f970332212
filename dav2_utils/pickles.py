"""A pickle read without running it: every instruction is followed, nothing that it names is imported or called.

A pickle is a program for a small machine with a stack: instructions push values, build containers and, in ordinary
loading, import any name and call it. This machine does all but the last: a name becomes a `Global`, a call a `Made`
(what was called, with what), and only the calls that torch writes for its tensors are understood, as data. So the
most that a hostile pickle can do is to be long, and `MOST_STEPS` and the limit on its size bound that.

Source: the comments in Python's pickletools.py. Standard library only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from .placeholders import REBUILD, BadTensor, Global, Made, Storage, as_dict, put_into, referred

MOST_STEPS = 5_000_000  # a ViT-L training file with AdamW state takes about 60,000
MOST_NAMES = 10_000  # different globals
LONGEST_NAME = 1_000  # characters in the name of a global
LONGEST_LINE = 4_000  # bytes of a number or a name written as text (protocol 0)

# Functions that make an object of the class that is their first argument.
_MAKERS = {"copyreg._reconstructor", "copy_reg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__",
           "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}  # fmt: skip


class PickleError(Exception):
    """The bytes are no pickle, not a whole one, or one too long to follow.

    `cut`: they end too early. `names`: the globals that were named until then.
    """

    def __init__(self, what: str, cut: bool = False) -> None:
        super().__init__(what)
        self.cut, self.names = cut, list[str]()


class Pickle(NamedTuple):
    """What a pickle describes. Dictionaries, lists, tuples, text and numbers come as themselves, tensors as `Tensor`,
    everything else as `Global` or `Made`."""

    value: Any
    end: int  # where it ends in the bytes
    names: list[str]  # the globals that it names, in their order
    storages: list[Storage]  # the bytes outside that it refers to


def read_pickle(data: bytes, start: int = 0) -> Pickle:
    """The pickle at `start`, followed to its end mark. Raises `PickleError`."""
    machine = _Machine(data, start)
    try:
        value = machine.run()
    except PickleError as error:
        error.names = list(machine.names)
        raise
    return Pickle(value, machine.at, list(machine.names), list(machine.storages.values()))


class _Machine:
    """The stack, the memo and the place in the bytes. `names` keeps every global in order of appearance."""

    def __init__(self, data: bytes, start: int = 0) -> None:
        self.data, self.at = data, start
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.names: dict[str, None] = {}
        self.storages: dict[str, Storage] = {}
        self.copied = 0

    def run(self) -> Any:
        data, end, do = self.data, len(self.data), _INSTRUCTIONS
        try:
            for _ in range(MOST_STEPS):
                if self.at >= end:
                    raise PickleError("it ends before its end mark", cut=True)
                code = data[self.at]
                self.at += 1
                if code == 0x2E:  # STOP
                    return self.stack.pop()
                do[code](self)
        except BadTensor as error:
            raise PickleError(f"it describes {error}") from error
        except (ArithmeticError, LookupError, ValueError, TypeError, AttributeError, struct.error) as error:
            raise PickleError(f"the instruction before byte {self.at} cannot be followed") from error
        raise PickleError(f"it has more than {MOST_STEPS:,} instructions")

    def take(self, count: int) -> bytes:
        start, self.at = self.at, self.at + count
        if self.at > len(self.data):
            raise PickleError("it ends inside a value", cut=True)
        return self.data[start : self.at]

    def unsigned(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + LONGEST_LINE)
        if end < 0:
            raise PickleError("a line does not end", cut=len(self.data) - self.at < LONGEST_LINE)
        text, self.at = self.data[self.at : end], end + 1
        return text.decode("utf-8", "backslashreplace").rstrip("\r")

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
            return self.call(args[0], args[2])
        self.copied += sum(len(arg) for arg in args if isinstance(arg, (str, bytes, list, tuple, dict)))
        if self.copied > MOST_STEPS + len(self.data):  # one large value, copied again and again, here or by torch
            raise PickleError("it makes too much out of too little")
        if name in REBUILD and len(args) < 20:
            return REBUILD[name](*args)
        if name in _MAKERS:
            return Made(args[0], args)
        return Made(maker, args)

    def refer(self, to: Any) -> Any:
        found = referred(to)
        if isinstance(found, Storage):
            found = self.storages.setdefault(found.key, found)
        return found

    def fill(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        put_into(target.mapping() if isinstance(target, Made) else target, pairs[::2], pairs[1::2])

    def extend(self, values: list[Any]) -> None:
        if not isinstance(
            self.stack[-1], Made
        ):  # what is in a deque, or in a list of somebody's own, matters to nobody
            self.stack[-1].extend(values)


# The instructions. The table below gives each its name in pickletools.

_Step = Callable[[_Machine], None]


def _push(read: Callable[[_Machine], Any]) -> _Step:
    return lambda machine: machine.stack.append(read(machine))


def _text(size: int, errors: str = "surrogatepass") -> _Step:
    return _push(lambda machine: str(machine.take(machine.unsigned(size)), "utf-8", errors))


def _bytes(size: int) -> _Step:
    return _push(lambda machine: machine.take(machine.unsigned(size)))


def _signed(size: int) -> _Step:
    return _push(lambda machine: int.from_bytes(machine.take(machine.unsigned(size)), "little", signed=True))


def _packed(layout: str) -> _Step:
    read = struct.Struct(layout)
    return _push(lambda machine: read.unpack(machine.take(read.size))[0])


def _tuple(count: int) -> _Step:
    def step(machine: _Machine) -> None:
        found = tuple([machine.stack[place] for place in range(-count, 0)])
        machine.stack[-count:] = [found]

    return step


def _get(read: Callable[[_Machine], int]) -> _Step:
    return _push(lambda machine: machine.memo[read(machine)])


def _put(read: Callable[[_Machine], int]) -> _Step:
    def step(machine: _Machine) -> None:
        machine.memo[read(machine)] = machine.stack[-1]

    return step


def _proto(machine: _Machine) -> None:
    if machine.unsigned(1) > 5:
        raise ValueError("a protocol that does not exist")


def _frame(machine: _Machine) -> None:
    machine.take(8)


def _pop(machine: _Machine) -> None:
    if machine.marks[-1:] == [len(machine.stack)]:
        machine.marks.pop()
    else:
        machine.stack.pop()


def _pop_mark(machine: _Machine) -> None:
    machine.since_mark()


def _int(machine: _Machine) -> int:
    line = machine.line()
    return line == "01" if line in ("00", "01") else int(line)


def _string(machine: _Machine) -> str:
    return machine.line()[1:-1]  # without its quotation marks


def _dict(machine: _Machine) -> dict[Any, Any]:
    pairs = machine.since_mark()
    return as_dict(pairs[::2], pairs[1::2])


def _build(machine: _Machine) -> None:
    state = machine.stack.pop()
    if isinstance(machine.stack[-1], Made):  # on a dictionary it is `_metadata`, on a tensor its attributes
        machine.stack[-1].state = state


def _append(machine: _Machine) -> None:
    value = machine.stack.pop()
    machine.extend([value])


def _setitem(machine: _Machine) -> None:
    value, name = machine.stack.pop(), machine.stack.pop()
    machine.fill([name, value])


def _global(machine: _Machine) -> None:
    machine.named(machine.line(), machine.line())


def _stack_global(machine: _Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.named("" + module, "" + name)  # a TypeError for anything but text


def _reduce(machine: _Machine) -> None:
    args = machine.stack.pop()
    machine.stack[-1] = machine.call(machine.stack[-1], args)


def _newobj_ex(machine: _Machine) -> None:
    machine.stack.pop()  # the keywords
    _reduce(machine)


def _obj(machine: _Machine) -> None:
    maker, *args = machine.since_mark()
    machine.stack.append(machine.call(maker, tuple(args)))


def _inst(machine: _Machine) -> None:
    machine.named(machine.line(), machine.line())
    maker = machine.stack.pop()
    machine.stack.append(machine.call(maker, tuple(machine.since_mark())))


_INSTRUCTIONS: dict[int, _Step] = {
    0x80: _proto, 0x95: _frame,
    ord("("): _Machine.mark, ord("0"): _pop, ord("1"): _pop_mark, ord("2"): _push(lambda m: m.stack[-1]),
    # numbers and constants: NONE, NEWTRUE, NEWFALSE, INT, LONG, FLOAT, BININT, BININT1, BININT2, BINFLOAT, LONG1, LONG4
    ord("N"): _push(lambda m: None), 0x88: _push(lambda m: True), 0x89: _push(lambda m: False),
    ord("I"): _push(_int), ord("L"): _push(lambda m: int(m.line().rstrip("L"))),
    ord("F"): _push(lambda m: float(m.line())), ord("J"): _packed("<i"),
    ord("K"): _packed("<B"), ord("M"): _packed("<H"), ord("G"): _packed(">d"),
    0x8A: _signed(1), 0x8B: _signed(4),
    # text: BINUNICODE, SHORT_BINUNICODE, BINUNICODE8, UNICODE; as Python 2 wrote it: BINSTRING, SHORT_BINSTRING, STRING
    ord("X"): _text(4), 0x8C: _text(1), 0x8D: _text(8), ord("V"): _push(_Machine.line),
    ord("T"): _text(4, "backslashreplace"), ord("U"): _text(1, "backslashreplace"), ord("S"): _push(_string),
    # bytes: BINBYTES, SHORT_BINBYTES, BINBYTES8, BYTEARRAY8
    ord("B"): _bytes(4), ord("C"): _bytes(1), 0x8E: _bytes(8), 0x96: _bytes(8),
    # the memo: GET, BINGET, LONG_BINGET, PUT, BINPUT, LONG_BINPUT, MEMOIZE
    ord("g"): _get(lambda m: int(m.line())), ord("h"): _get(lambda m: m.unsigned(1)),
    ord("j"): _get(lambda m: m.unsigned(4)), ord("p"): _put(lambda m: int(m.line())),
    ord("q"): _put(lambda m: m.unsigned(1)), ord("r"): _put(lambda m: m.unsigned(4)), 0x94: _put(lambda m: len(m.memo)),
    # containers: EMPTY_LIST, EMPTY_DICT, EMPTY_TUPLE, EMPTY_SET, LIST, DICT, TUPLE, FROZENSET, TUPLE1 to TUPLE3
    ord("]"): _push(lambda m: []), ord("}"): _push(lambda m: {}), ord(")"): _push(lambda m: ()),
    0x8F: _push(lambda m: []),  # for a set, a list will do
    ord("l"): _push(_Machine.since_mark), ord("d"): _push(_dict), ord("t"): _push(lambda m: tuple(m.since_mark())),
    0x91: _push(_Machine.since_mark), 0x85: _tuple(1), 0x86: _tuple(2), 0x87: _tuple(3),
    # filled: APPEND, APPENDS, ADDITEMS, SETITEM, SETITEMS, BUILD
    ord("a"): _append, ord("e"): lambda m: m.extend(m.since_mark()), 0x90: lambda m: m.extend(m.since_mark()),
    ord("s"): _setitem, ord("u"): lambda m: m.fill(m.since_mark()), ord("b"): _build,
    # names and calls: GLOBAL, STACK_GLOBAL, REDUCE, NEWOBJ, NEWOBJ_EX, OBJ, INST, EXT1, EXT2, EXT4, PERSID, BINPERSID
    ord("c"): _global, 0x93: _stack_global, ord("R"): _reduce, 0x81: _reduce, 0x92: _newobj_ex, ord("o"): _obj,
    ord("i"): _inst, 0x82: lambda m: m.named("copyreg", f"extension {m.unsigned(1)}"),
    0x83: lambda m: m.named("copyreg", f"extension {m.unsigned(2)}"),
    0x84: lambda m: m.named("copyreg", f"extension {m.unsigned(4)}"),
    ord("P"): _push(lambda m: m.refer(m.line())), ord("Q"): _push(lambda m: m.refer(m.stack.pop())),
}  # fmt: skip
