"""What a pickle would have on its stack and in its memo, followed as far as it matters.

Names, short texts, numbers, tuples and small dicts are kept as such, all else as "something".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tallystick.evidence.files.found import No
from tallystick.evidence.files.joblib_arrays import Global, Made
from tallystick.evidence.files.names import allowed, callable_names, modern
from tallystick.evidence.files.source import Cursor

__all__ = ["LONG", "MARK", "NONE", "SOMETHING", "Broken", "Global", "Made", "Stack"]

MAY_BE_TEXT = ("", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
"""Calls that may give back a text; nothing else on the list does, so that names are plain to see."""

BUILT_ARRAY = "joblib.numpy_pickle.NumpyArrayWrapper"


class Broken(Exception):
    """The stream is none, or breaks off."""


class Mark:
    """Pickle's mark on the stack, and (``SOMETHING``) a list, bytes or number that is not
    followed, and (``LONG``) a text too long to be.
    """

    __slots__ = ()


MARK, SOMETHING, LONG, NONE = Mark(), Mark(), Mark(), Mark()


@dataclass(slots=True)
class Stack:
    """Of one pickle stream, from where ``read`` stands.

    ``torch`` allows persistent ids, which are kept in ``ids``. With ``probing`` nothing is refused, and
    ``acts`` tells whether the stream would call something, or give an object that it looked up.
    """

    read: Cursor
    torch: bool = False
    probing: bool = False
    names: dict[str, None] = field(default_factory=dict)
    ids: list[Any] = field(default_factory=list)
    acts: bool = False
    result: Any = None
    stack: list[Any] = field(default_factory=list)
    memo: list[Any] = field(default_factory=list)
    _far: dict[int, Any] = field(default_factory=dict)
    proto: int = 0
    frame_ends: int = 0

    def no(self, why: str) -> None:
        """Refuse; a probing walk only stops."""
        if not self.probing:
            raise No("pickle", why, tuple(self.names))
        raise Broken(why)

    def pop(self) -> Any:
        """The topmost value; ValueError for a mark, IndexError where there is none."""
        found = self.stack.pop()
        if found is MARK:
            raise ValueError("a mark where a value should be")
        return found

    def to_mark(self) -> list[Any]:
        """What is above the topmost mark, which goes with it."""
        stack = self.stack
        for at in range(len(stack) - 1, -1, -1):
            if stack[at] is MARK:
                items = stack[at + 1 :]
                del stack[at:]
                return items
        raise ValueError("no mark")

    # ------------------------------------------------------------------------------------------------ names

    def find(self, module: Any, name: Any) -> Global:
        """Look a global up; refused unless it is on the list, as the protocol reads it and as written."""
        if any(
            item is LONG or (isinstance(item, Made) and item.of in MAY_BE_TEXT) for item in (module, name)
        ):
            self.no("the name of a global that it looks up is computed")
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("no name")
        said = f"{module}.{name}"
        if self.proto < 3:
            module, name = modern(module, name)
        full = f"{module}.{name}"
        if not all(part.isidentifier() for part in full.split(".")):
            raise ValueError("no name")
        self.names[said] = None
        if not self.probing and not allowed(full):
            self.no(f"it names {said[:200]}, which is not on the list of what a model may be made of")
        return Global(full)

    def call(self, function: Any, args: Any) -> Made:
        """REDUCE and its like: only what is listed may be called, and only when it is known for certain."""
        self.acts = True
        if self.probing:
            return Made("")
        if isinstance(function, Made):
            self.no("it calls something that is computed")
        if not isinstance(function, Global):
            raise ValueError("it calls what is no function")
        if not callable_names(function.name):
            self.no(f"it calls {function.name}, which may be named but not called")
        self._check_arguments(function.name, args)
        return Made(function.name, args)

    def _check_arguments(self, name: str, args: Any) -> None:
        given = args if isinstance(args, tuple) else ()
        if name == "_codecs.encode" and not (len(given) == 2 and given[1] in ("latin1", "latin-1")):
            self.no("it encodes with something else than latin1")
        if name == "collections.defaultdict" and given:
            plain = isinstance(given[0], Global) and given[0].name.startswith("builtins.")
            if not plain and given[0] is not NONE:
                self.no("it makes a defaultdict of something that is no plain type")
        if name == "copyreg._reconstructor":
            base = given[1] if len(given) == 3 else None
            if not (isinstance(base, Global) and base.name.startswith("builtins.")):
                self.no("it makes an instance on the base of something that is no plain type")

    def new(self, kind: Any, args: Any) -> Made:
        """NEWOBJ: an instance without a call."""
        self.acts = True
        if isinstance(kind, Made) and not self.probing:
            self.no("it makes an instance of something that is computed")
        if not isinstance(kind, Global | Made):
            raise ValueError("it makes an instance of what is no class")
        return Made(kind.name if isinstance(kind, Global) else "", args)

    def build(self, state: Any) -> None:
        """BUILD: set the state of an instance; never of a class or function itself."""
        target = self.stack[-1]
        self.acts = self.acts or not isinstance(target, dict)
        if isinstance(target, Made):
            target.state = state
            if target.of == BUILT_ARRAY:
                self.skip_array(target)
        elif isinstance(target, Global):
            if not self.probing:
                self.no("it sets the state of a class or function")
        else:
            raise ValueError("it sets the state of what has none")

    def skip_array(self, target: Made) -> None:
        """Go over the numbers of an array that joblib keeps right in the stream."""
        raise NotImplementedError

    def persistent(self, said: Any) -> Any:
        """PERSID: torch's storages, and nobody else's."""
        if not self.torch and not self.probing:
            self.no("it asks for a persistent id, as only torch's own files do")
        self.ids.append(said)
        module = isinstance(said, tuple) and len(said) > 1 and said[0] == "module"
        return said[1] if module and isinstance(said[1], Global) else Made("")

    # ----------------------------------------------------------------------------------------------- memory

    def put(self, at: int, found: Any) -> None:
        """Keep in the memo, without holes: a memo that is only half known would hide what is fetched."""
        if at < len(self.memo):
            self.memo[at] = found
        elif at == len(self.memo) or (at == 1 and not self.memo):  # a few old picklers count from 1
            self.memo.extend([None] * (at - len(self.memo)))
            self.memo.append(found)
        elif self.probing and at >= 0:
            self._far[at] = found
        else:
            self.no("its memo has holes")

    def get(self, at: int) -> Any:
        """Fetch from the memo."""
        if at in self._far:
            return self._far[at]
        if not 0 <= at < len(self.memo) or self.memo[at] is None:
            raise ValueError("nothing at that place of the memo")
        return self.memo[at]
