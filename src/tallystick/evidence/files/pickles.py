"""Pickles, read without carrying anything out: which globals they name, what they call, where they end.

A stream is said to break (:class:`Broken`) only where CPython's own reader would, as what follows is then not
looked at; what is merely odd is refused (No) or, by a probing walk, followed.

Every opcode is followed on a stack of what would be there (see :mod:`stack`). What cannot be told for
certain (a name that is computed, a call of something unknown) is refused. So is whatever two readers could
understand differently: holes in the memo, frames inside frames, persistent ids, extension codes, bytes after
the end.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from tallystick.evidence.files.joblib_arrays import array_bytes
from tallystick.evidence.files.opcodes import ARGUMENTS, BYTES, TEXT
from tallystick.evidence.files.source import Cursor
from tallystick.evidence.files.stack import LONG, MARK, NONE, SOMETHING, Broken, Global, Made, Stack

__all__ = ["Broken", "Walk"]

OPCODES_MAX = 20_000_000
DEEP_MAX = 2_000_000
ENTRIES_KEPT = 64


@dataclass(slots=True)
class Walk(Stack):
    """One pickle stream from where ``read`` stands to its STOP."""

    def run(self) -> Walk:
        """Walk to STOP; Broken where the stream breaks, No where it does what it may not."""
        steps, table = _STEPS, ARGUMENTS
        read, stack, op = self.read, self.stack, 0
        try:
            for _ in range(OPCODES_MAX):
                op = read.byte()
                argument = table[op](read)
                if op == STOP:
                    self.result = self.pop()
                    self.acts = self.acts or bool(self.names)
                    return self
                steps[op](self, argument)
                if len(stack) > DEEP_MAX:
                    self.no("it has over 2 million things on its stack")
        except EOFError:
            raise Broken("it breaks off before its end") from None
        except KeyError:
            raise Broken(f"{op:#04x} is no opcode") from None
        except (IndexError, TypeError, ValueError, OverflowError) as wrong:
            raise Broken(f"it breaks at opcode {op:#04x}: {str(wrong)[:100]}") from None
        self.no(f"it has over {OPCODES_MAX} opcodes")
        return self

    def skip_array(self, target: Made) -> None:
        """Go over the numbers that joblib keeps right in the stream.

        pickle itself does not know of them and would read them as opcodes. Of plain numbers the byte before
        them breaks it at once (see :mod:`joblib_arrays`); of objects a pickle of their own follows, and that
        is walked both ways: as joblib reads it, and as if it went on with this stack and memo.
        """
        if self.read.at < self.frame_ends:
            self.no("a frame goes on where joblib keeps an array, so that readers differ")
        try:
            count = array_bytes(self.read, target.state)
        except ValueError as wrong:
            self.no(f"it has an array that joblib would not have written: {wrong}")
            return
        if count >= 0:
            self.read.skip(count)
            return
        on = Walk(Cursor(self.read.source, self.read.at, self.read.end), self.torch, self.probing, self.names)
        on.stack, on.memo, on.proto = list(self.stack), list(self.memo), self.proto
        with contextlib.suppress(Broken):
            on.run()
        Walk(self.read, self.torch, self.probing, self.names).run()


def _push(walk: Walk, argument: Any) -> None:
    walk.stack.append(LONG if argument is TEXT else SOMETHING if argument is BYTES else argument)


def _push_something(walk: Walk, argument: Any) -> None:
    walk.stack.append(SOMETHING)


def _pop_mark(walk: Walk, argument: Any) -> None:
    walk.to_mark()


def _gather(walk: Walk, argument: Any) -> None:
    """LIST and FROZENSET."""
    walk.to_mark()
    walk.stack.append(SOMETHING)


def _dict(walk: Walk, argument: Any) -> None:
    items = walk.to_mark()
    walk.stack.append({})
    _set_items(walk, items)


def _tuple_of(count: int) -> Any:
    def step(walk: Walk, argument: Any) -> None:
        items = [walk.pop() for _ in range(count)]
        walk.stack.append(tuple(reversed(items)))

    return step


def _tuple(walk: Walk, argument: Any) -> None:
    items = walk.to_mark()
    walk.stack.append(tuple(items) if len(items) <= ENTRIES_KEPT else SOMETHING)


def _onto(count: int) -> Any:
    """APPEND and its like: what is on top (or above the mark) goes into what is below."""

    def step(walk: Walk, argument: Any) -> None:
        items = walk.to_mark() if count == 0 else [walk.pop() for _ in range(count)]
        below = walk.stack[-1]
        if below is MARK:
            raise ValueError("a mark where a value should be")
        if isinstance(below, Global):
            walk.no("it adds to a global")
        if isinstance(below, Made) and items:
            walk.acts = True

    return step


def _set_items(walk: Walk, argument: Any) -> None:
    items = walk.to_mark() if argument is None else argument
    below = walk.stack[-1]
    if len(items) % 2:
        raise ValueError("a key without a value")
    if isinstance(below, Global):
        walk.no("it sets items of a global")
    if isinstance(below, dict):
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, str) and (len(below) < ENTRIES_KEPT or key in below):
                below[key] = value


def _set_item(walk: Walk, argument: Any) -> None:
    value, key = walk.pop(), walk.pop()
    _set_items(walk, [key, value])


def _reduce(walk: Walk, argument: Any) -> None:
    args, function = walk.pop(), walk.pop()
    walk.stack.append(walk.call(function, args))


def _stack_global(walk: Walk, argument: Any) -> None:
    name, module = walk.pop(), walk.pop()
    walk.stack.append(walk.find(module, name))


def _inst(walk: Walk, argument: Any) -> None:
    args = tuple(walk.to_mark())
    walk.stack.append(walk.call(walk.find(*argument), args))


def _obj(walk: Walk, argument: Any) -> None:
    kind, *args = walk.to_mark()
    walk.stack.append(walk.call(kind, tuple(args)))


def _newobj(walk: Walk, argument: Any) -> None:
    args, kind = walk.pop(), walk.pop()
    walk.stack.append(walk.new(kind, args))


def _newobj_ex(walk: Walk, argument: Any) -> None:
    _, args, kind = walk.pop(), walk.pop(), walk.pop()
    walk.stack.append(walk.new(kind, args))


def _build(walk: Walk, argument: Any) -> None:
    walk.build(walk.pop())


def _proto(walk: Walk, argument: Any) -> None:
    if argument > 5:
        raise ValueError("no protocol")
    walk.proto = argument


def _frame(walk: Walk, argument: Any) -> None:
    """A frame may not reach beyond the file, nor begin inside another."""
    if argument > walk.read.left:
        raise EOFError
    if walk.read.at < walk.frame_ends and not walk.probing:
        walk.no("it has a frame inside a frame, which readers take differently")
    walk.frame_ends = walk.read.at + argument


def _refused(why: str) -> Any:
    def step(walk: Walk, argument: Any) -> None:
        walk.no(why)

    return step


def _top(walk: Walk) -> Any:
    if walk.stack[-1] is MARK:
        raise ValueError("a mark where a value should be")
    return walk.stack[-1]


STOP = ord(".")
_EXTENSION = _refused("it uses an extension code, which stands for whatever the reader has registered")
_STEPS: dict[int, Any] = {
    **dict.fromkeys(b"ILSVJKMTUX\x8a\x8b\x8c\x8d", _push),
    **dict.fromkeys(b"FGBC\x8e\x96\x97", _push_something),
    **dict.fromkeys(b"\x82\x83\x84", _EXTENSION),
    ord("N"): lambda walk, _: walk.stack.append(NONE),
    0x88: lambda walk, _: walk.stack.append(True),
    0x89: lambda walk, _: walk.stack.append(False),
    ord("("): lambda walk, _: walk.stack.append(MARK),
    ord("0"): lambda walk, _: walk.stack.pop(),
    ord("1"): _pop_mark,
    ord("2"): lambda walk, _: walk.stack.append(_top(walk)),
    ord(")"): lambda walk, _: walk.stack.append(()),
    ord("]"): _push_something,
    ord("}"): lambda walk, _: walk.stack.append({}),
    0x8F: _push_something,
    ord("t"): _tuple,
    0x85: _tuple_of(1),
    0x86: _tuple_of(2),
    0x87: _tuple_of(3),
    ord("l"): _gather,
    ord("d"): _dict,
    ord("a"): _onto(1),
    ord("e"): _onto(0),
    0x90: _onto(0),
    0x91: _gather,
    ord("s"): _set_item,
    ord("u"): _set_items,
    ord("c"): lambda walk, said: walk.stack.append(walk.find(*said)),
    0x93: _stack_global,
    ord("R"): _reduce,
    ord("i"): _inst,
    ord("o"): _obj,
    0x81: _newobj,
    0x92: _newobj_ex,
    ord("b"): _build,
    ord("P"): lambda walk, said: walk.stack.append(walk.persistent(said)),
    ord("Q"): lambda walk, _: walk.stack.append(walk.persistent(walk.pop())),
    **dict.fromkeys(b"ghj", lambda walk, at: walk.stack.append(walk.get(at))),
    **dict.fromkeys(b"pqr", lambda walk, at: walk.put(at, _top(walk))),
    0x94: lambda walk, _: walk.put(len(walk.memo), _top(walk)),
    0x80: _proto,
    0x95: _frame,
    0x98: lambda walk, _: _top(walk),
}
