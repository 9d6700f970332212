"""The instructions of a pickle, by their numbers, as steps of the `Machine`. Each is named as in pickletools.

Source: the comments in Python's pickletools.py. Standard library only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from ..errors import BadTensor
from .placeholders import Made, Ordered, Tensor, as_dict
from .stack import Machine

Step = Callable[[Machine], object]


def _push(read: Callable[[Machine], Any]) -> Step:
    return lambda machine: machine.stack.append(read(machine))


def _after(layout: str, use: Callable[[Machine, Any], object]) -> Step:
    """The number that follows the instruction is for `use`. A `struct.error` where the pickle ends before it does."""
    unpack, size = struct.Struct(layout).unpack_from, struct.calcsize(layout)

    def step(machine: Machine) -> None:
        (number,) = unpack(machine.data, machine.at)
        machine.at += size
        use(machine, number)

    return step


def _number(machine: Machine, number: float) -> None:
    machine.stack.append(number)


def _signed(machine: Machine, size: int) -> None:
    machine.stack.append(int.from_bytes(machine.take(size), "little", signed=True))


def _text(machine: Machine, size: int) -> None:
    machine.stack.append(str(machine.take(size), "utf-8", "surrogatepass"))


def _string(machine: Machine, size: int) -> None:
    machine.stack.append(str(machine.take(size), "utf-8", "backslashreplace"))


def _bytes(machine: Machine, size: int) -> None:
    machine.stack.append(machine.take(size))


def _get(machine: Machine, place: int) -> None:
    machine.stack.append(machine.memo[place])


def _put(machine: Machine, place: int) -> None:
    machine.memo[place] = machine.stack[-1]


def _tuple(count: int) -> Step:
    def step(machine: Machine) -> None:
        found = tuple(machine.stack[-count:])
        if len(found) < count:
            raise IndexError("fewer values than that are on the stack")
        machine.stack[-count:] = [found]

    return step


def _proto(machine: Machine, version: int) -> None:
    if version > 5:
        raise ValueError("a protocol that does not exist")


def _pop(machine: Machine) -> None:
    if machine.marks[-1:] == [len(machine.stack)]:
        machine.marks.pop()
    else:
        machine.stack.pop()


def _int(machine: Machine) -> int:
    line = machine.line()
    return line == "01" if line in ("00", "01") else int(line)


def _dict(machine: Machine) -> dict[Any, Any]:
    pairs = machine.since_mark()
    return as_dict(pairs[::2], pairs[1::2])


def _build(machine: Machine) -> None:
    state = machine.stack.pop()
    target = machine.stack[-1]
    if isinstance(target, Made):
        target.state = state
    elif isinstance(target, Ordered):
        target.state.update(state if isinstance(state, dict) else {})
    elif isinstance(target, Tensor):
        raise BadTensor("a tensor given other numbers after it was made, which torch never writes")


def _setitem(machine: Machine) -> None:
    value, name = machine.stack.pop(), machine.stack.pop()
    machine.fill([name, value])


def _stack_global(machine: Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.named("" + module, "" + name)  # a TypeError for anything but text


def _extension(machine: Machine, number: int) -> None:
    machine.named("copyreg", f"extension {number}")


def _reduce(machine: Machine) -> None:
    args = machine.stack.pop()
    machine.stack[-1] = machine.call(machine.stack[-1], args)


def _newobj_ex(machine: Machine) -> None:
    machine.stack.pop()  # the keywords
    _reduce(machine)


def _obj(machine: Machine) -> None:
    maker, *args = machine.since_mark()
    machine.stack.append(machine.call(maker, tuple(args)))


def _inst(machine: Machine) -> None:
    machine.named(machine.line(), machine.line())
    maker = machine.stack.pop()
    machine.stack.append(machine.call(maker, tuple(machine.since_mark())))


INSTRUCTIONS: dict[int, Step] = {
    # PROTO, FRAME, MARK, POP, POP_MARK, DUP
    0x80: _after("<B", _proto), 0x95: lambda m: m.take(8), ord("("): Machine.mark, ord("0"): _pop,
    ord("1"): Machine.since_mark, ord("2"): _push(lambda m: m.stack[-1]),
    # numbers and constants: NONE, NEWTRUE, NEWFALSE, INT, LONG, FLOAT, BININT, BININT1, BININT2, BINFLOAT, LONG1, LONG4
    ord("N"): _push(lambda m: None), 0x88: _push(lambda m: True), 0x89: _push(lambda m: False),
    ord("I"): _push(_int), ord("L"): _push(lambda m: int(m.line().rstrip("L"))),
    ord("F"): _push(lambda m: float(m.line())), ord("J"): _after("<i", _number),
    ord("K"): _after("<B", _number), ord("M"): _after("<H", _number), ord("G"): _after(">d", _number),
    0x8A: _after("<B", _signed), 0x8B: _after("<I", _signed),
    # text: BINUNICODE, SHORT_BINUNICODE, BINUNICODE8, UNICODE; as Python 2 wrote it: BINSTRING, SHORT_BINSTRING, STRING
    ord("X"): _after("<I", _text), 0x8C: _after("<B", _text), 0x8D: _after("<Q", _text), ord("V"): _push(Machine.line),
    ord("T"): _after("<I", _string), ord("U"): _after("<B", _string),
    ord("S"): _push(lambda m: m.line()[1:-1]),  # without its quotation marks
    # bytes: BINBYTES, SHORT_BINBYTES, BINBYTES8, BYTEARRAY8
    ord("B"): _after("<I", _bytes), ord("C"): _after("<B", _bytes), 0x8E: _after("<Q", _bytes),
    0x96: _after("<Q", _bytes),
    # the memo: GET, BINGET, LONG_BINGET, PUT, BINPUT, LONG_BINPUT, MEMOIZE
    ord("g"): lambda m: _get(m, int(m.line())), ord("h"): _after("<B", _get), ord("j"): _after("<I", _get),
    ord("p"): lambda m: _put(m, int(m.line())), ord("q"): _after("<B", _put), ord("r"): _after("<I", _put),
    0x94: lambda m: _put(m, len(m.memo)),
    # containers: EMPTY_LIST, EMPTY_DICT, EMPTY_TUPLE, EMPTY_SET, LIST, DICT, TUPLE, FROZENSET, TUPLE1 to TUPLE3
    ord("]"): _push(lambda m: []), ord("}"): _push(lambda m: {}), ord(")"): _push(lambda m: ()),
    0x8F: _push(lambda m: []),  # for a set, a list will do
    ord("l"): _push(Machine.since_mark), ord("d"): _push(_dict), ord("t"): _push(lambda m: tuple(m.since_mark())),
    0x91: _push(Machine.since_mark), 0x85: _tuple(1), 0x86: _tuple(2), 0x87: _tuple(3),
    # filled: APPEND, APPENDS, ADDITEMS, SETITEM, SETITEMS, BUILD
    ord("a"): lambda m: m.extend([m.stack.pop()]), ord("e"): lambda m: m.extend(m.since_mark()),
    0x90: lambda m: m.extend(m.since_mark()), ord("s"): _setitem, ord("u"): lambda m: m.fill(m.since_mark()),
    ord("b"): _build,
    # names and calls: GLOBAL, STACK_GLOBAL, REDUCE, NEWOBJ, NEWOBJ_EX, OBJ, INST, EXT1, EXT2, EXT4, PERSID, BINPERSID
    ord("c"): lambda m: m.named(m.line("strict"), m.line("strict")), 0x93: _stack_global, ord("R"): _reduce,
    0x81: _reduce, 0x92: _newobj_ex, ord("o"): _obj, ord("i"): _inst,
    0x82: _after("<B", _extension), 0x83: _after("<H", _extension), 0x84: _after("<I", _extension),
    ord("P"): _push(lambda m: m.refer(m.line())), ord("Q"): _push(lambda m: m.refer(m.stack.pop())),
}  # fmt: skip

#: Those that `torch.load(weights_only=True)` follows, from torch/_weights_only_unpickler.py. From pickle protocol 4 on
#: every file has others.
OF_TORCH = frozenset(b"\x80(.NGJKMXU\x8aqrhj}])\x8ftasue\x85\x86\x87\x88\x89cRb\x81Q")
