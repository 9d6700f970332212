"""A pickle read without running it: every instruction is followed, nothing that it names is imported or called.

A pickle is a program for a small machine with a stack: instructions push values, build containers and, in ordinary
loading, import any name and call it. This machine does all but the last: a name becomes a `Global`, a call a `Made`
(what was called, with what), and only the calls that torch writes for its tensors are understood, as data. So the
most that a hostile pickle can do is to be long, and `MOST_STEPS` and the limit on its size bound that.

Source: the comments in Python's pickletools.py. Standard library only.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from ..errors import BadTensor, PickleError
from .opcodes import INSTRUCTIONS, OF_TORCH
from .placeholders import Storage
from .stack import MOST_STEPS, Machine


class Pickle(NamedTuple):
    """What a pickle describes. Dictionaries, lists, tuples, text and numbers come as themselves, tensors as `Tensor`,
    everything else as `Global` or `Made`."""

    value: Any
    end: int  # where it ends in the bytes
    names: list[str]  # the globals that it names, in their order
    storages: list[Storage]  # the bytes outside that it refers to
    plain: bool  # whether all of its tensors are: see `Tensor`
    beyond: bytes  # instructions in it that `torch.load(weights_only=True)` does not follow


def read_pickle(data: bytes, start: int = 0) -> Pickle:
    """The pickle at `start`, followed to its end mark. Raises `PickleError`."""
    machine = Machine(data, start)
    try:
        value = _followed(machine)
    except PickleError as error:
        error.names = list(machine.names)
        raise
    plain = all(tensor.plain for tensor in machine.tensors)
    beyond = bytes(sorted(machine.done - OF_TORCH))
    return Pickle(value, machine.at, list(machine.names), list(machine.storages.values()), plain, beyond)


def _followed(machine: Machine) -> Any:
    data, end, do, done = machine.data, len(machine.data), INSTRUCTIONS, machine.done
    try:
        for _ in range(MOST_STEPS):
            if machine.at >= end:
                raise PickleError("it ends before its end mark", cut=True)
            code = data[machine.at]
            machine.at += 1
            done.add(code)
            if code == 0x2E:  # STOP
                return machine.stack.pop()
            do[code](machine)
    except BadTensor as error:
        raise PickleError(f"it describes {error}") from error
    except struct.error as error:
        raise PickleError("it ends inside a value", cut=True) from error
    except (ArithmeticError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise PickleError(f"the instruction before byte {machine.at} cannot be followed") from error
    raise PickleError(f"it has more than {MOST_STEPS:,} instructions")
