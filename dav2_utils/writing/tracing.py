"""A pickle followed with an eye on its instructions: which of them pushed the names of which dictionary.

To replace names in a pickle, and nothing else, one must know where each was pushed. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..files.opcodes import INSTRUCTIONS
from ..files.stack import MOST_STEPS, Machine

STOP, FRAME, SETITEM, SETITEMS, DICT = 0x2E, 0x95, ord("s"), ord("u"), ord("d")
# MARK, POP, POP_MARK, the PUTs, PROTO, FRAME and what fills a container: none leaves a new value on the stack.
_PUSH_NOTHING = frozenset(b"(01pqr\x94\x80\x95aesu\x90b")


class Instruction(NamedTuple):
    """One instruction: its number, where it begins and ends in the bytes, and what is on top of the stack after it."""

    code: int
    start: int
    end: int
    top: Any
    pushed_by: int  # the instruction, by its place in the list, that put it there; -1 for an empty stack


@dataclass
class Trace:
    """A pickle's value, its instructions, and what was put where; dictionaries go by their identity (`id`)."""

    value: Any
    instructions: list[Instruction]
    names: dict[int, list[int]] = field(default_factory=dict)  # dictionary -> the instructions that pushed its names


def trace(data: bytes) -> Trace:
    """Follow `data`, a pickle that `read_pickle` has followed before, so that nothing here can fail."""
    machine = Machine(data)
    pushed: list[int] = []  # for each value on the stack, the instruction that pushed it
    found = Trace(None, [])
    for _ in range(MOST_STEPS):
        start = machine.at
        code = data[start]
        machine.at += 1
        if code == STOP:
            found.value = machine.stack[-1]
            break
        target, names = _filled(machine, code, pushed)
        INSTRUCTIONS[code](machine)
        height = len(machine.stack)
        if code in _PUSH_NOTHING:
            del pushed[height:]
        else:
            pushed[height - 1 :] = [len(found.instructions)]
        top = machine.stack[-1] if machine.stack else None
        found.instructions.append(Instruction(code, start, machine.at, top, pushed[-1] if pushed else -1))
        if names:
            found.names.setdefault(id(top if target is None else target), []).extend(names)
    return found


def _filled(machine: Machine, code: int, pushed: list[int]) -> tuple[Any, list[int]]:
    """Which dictionary the instruction fills (None: the one that it makes), and what pushed the names."""
    if code == SETITEM:
        return machine.stack[-3], pushed[-2:-1]
    if code in (SETITEMS, DICT):
        mark = machine.marks[-1]
        return machine.stack[mark - 1] if code == SETITEMS else None, pushed[mark::2]
    return None, []
