"""Hostile pickles: each way to name and to call something, and each place to hide it in."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import struct
import zlib
from pathlib import Path

import cloudpickle
import joblib
import numpy as np

from tests.corpus.hostile.case import CASES, MARK, Case, hostile, write
from tests.corpus.hostile.opcodes import COMMAND, SOURCE, by_stack, call, name, stream, text

INNER = stream(call(name("os", "system"), text(COMMAND)))

# Callables that scanners which deny by list may not have on it, each with the arguments that leave a mark.
CALLS = {
    "os-system": ("os", "system", text(COMMAND)),
    "posix-system": ("posix", "system", text(COMMAND)),
    "eval": ("builtins", "eval", text(SOURCE)),
    "exec": ("builtins", "exec", text(SOURCE)),
    "python2-eval": ("__builtin__", "eval", text(SOURCE)),
    "open": ("_io", "open", text(MARK), text("w")),
    "timeit": ("timeit", "timeit", text(SOURCE), text("pass"), name("time", "perf_counter"), b"K\x01"),
    "profile": ("cProfile", "run", text(SOURCE)),
    "numpy-runstring": ("numpy.testing._private.utils", "runstring", text(SOURCE), b"}"),
    "pydoc-pager": ("pydoc", "pipepager", text(""), text(COMMAND)),
    "distutils": ("distutils.file_util", "write_file", text(MARK), b"]"),
    "log-handler": ("logging", "FileHandler", text(MARK)),
    "sqlite": ("sqlite3", "connect", text(MARK)),
    "subprocess": ("subprocess", "getoutput", text(COMMAND)),
    "multiprocessing": ("multiprocessing.util", "spawnv_passfds", b"C\x09/bin/bash", b"](C\x02shC\x02-cC"
                        + bytes([len(COMMAND)]) + COMMAND.encode() + b"e", b")"),
    "nested-pickle": ("pickle", "loads", b"C" + bytes([len(INNER)]) + INNER),
}  # fmt: skip


def _called(data: bytes):
    return lambda folder: write(folder / "model.pkl", data)


for _name, (_module, _what, *_args) in CALLS.items():
    _data = stream(call(name(_module, _what), *_args), proto=2 if _name == "python2-eval" else 3)
    CASES[f"calls-{_name}"] = Case(f"calls-{_name}", _called(_data), "pickle")


@hostile("pickle")
def stack_global(folder: Path) -> None:
    write(folder / "model.pkl", stream(call(by_stack("os", "system"), text(COMMAND)), proto=4))


@hostile("pickle")
def stack_global_from_the_memo(folder: Path) -> None:
    """Both words are put away first, among others, and fetched by long index."""
    away = text("os") + b"\x940" + text("json") + b"\x940" + text("system") + b"\x940"
    fetched = b"j" + struct.pack("<I", 0) + b"j" + struct.pack("<I", 2) + b"\x93"
    write(folder / "model.pkl", stream(away, call(fetched, text(COMMAND)), proto=4))


@hostile("pickle")
def stack_global_of_escapes(folder: Path) -> None:
    """The words stand in the file as escapes of protocol 0."""
    words = b"V\\u006f\\u0073\nV\\u0073ystem\n\x93"
    write(folder / "model.pkl", stream(call(words, text(COMMAND)), proto=4))


@hostile("pickle")
def dotted_name(folder: Path) -> None:
    """A method, reached through its class by a name with a dot."""
    made = call(by_stack("pathlib", "PosixPath"), text(MARK))
    write(folder / "model.pkl", stream(call(by_stack("pathlib", "Path.touch"), made), proto=4))


@hostile("pickle")
def computed_name(folder: Path) -> None:
    """The module's name is what a call gives back."""
    word = call(by_stack("builtins", "str"), text("os"))
    write(folder / "model.pkl", stream(call(word + text("system") + b"\x93", text(COMMAND)), proto=4))


@hostile("pickle")
def inst_opcode(folder: Path) -> None:
    write(folder / "model.pkl", b"(S'" + COMMAND.encode() + b"'\nios\nsystem\n.")


@hostile("pickle")
def obj_opcode(folder: Path) -> None:
    write(folder / "model.pkl", stream(b"(" + name("os", "system") + text(COMMAND) + b"o"))


@hostile("pickle")
def newobj_of_partial(folder: Path) -> None:
    """An instance made without a call is called afterwards."""
    partial = name("functools", "partial") + b"(" + name("os", "system") + text(COMMAND) + b"t\x81"
    write(folder / "model.pkl", stream(partial + b")R"))


@hostile("pickle")
def newobj_ex_of_partial(folder: Path) -> None:
    partial = name("functools", "partial") + b"(" + name("os", "system") + text(COMMAND) + b"t}\x92"
    write(folder / "model.pkl", stream(partial + b")R", proto=4))


@hostile("pickle")
def attribute_of_a_module(folder: Path) -> None:
    module = call(name("importlib", "import_module"), text("os"))
    found = call(name("builtins", "getattr"), module, text("system"))
    write(folder / "model.pkl", stream(call(found, text(COMMAND)), proto=3))


@hostile("pickle")
def methodcaller(folder: Path) -> None:
    caller = call(name("operator", "methodcaller"), text("system"), text(COMMAND))
    module = call(name("importlib", "import_module"), text("os"))
    write(folder / "model.pkl", stream(call(caller, module), proto=3))


@hostile("pickle")
def map_over_a_list(folder: Path) -> None:
    """A lazy call, carried out by the list that takes it in."""
    lazy = call(name("builtins", "map"), name("os", "system"), b"](" + text(COMMAND) + b"e")
    write(folder / "model.pkl", stream(call(name("builtins", "list"), lazy), proto=3))


@hostile("pickle")
def state_of_a_class(folder: Path) -> None:
    """BUILD with slot state gives a class another ``__new__``-like hook, which a later instance runs."""
    kind = name("logging", "Handler")
    hook = kind + b"(N}" + text("__setstate__") + name("builtins", "exec") + b"stb0"
    use = name("logging", "Handler") + b")\x81" + text(SOURCE) + b"b"
    write(folder / "model.pkl", stream(hook + use, proto=3))


@hostile("pickle")
def breaks_after_it_acted(folder: Path) -> None:
    write(folder / "model.pkl", stream(call(name("os", "system"), text(COMMAND)) + b"\xff"))


@hostile("pickle")
def never_stops(folder: Path) -> None:
    write(folder / "model.pkl", stream(call(name("os", "system"), text(COMMAND)))[:-1])


@hostile("pickle-twice")
def second_stream(folder: Path) -> None:
    write(folder / "model.pkl", pickle.dumps([1.0, 2.0]) + stream(call(name("os", "system"), text(COMMAND))))


@hostile("pickle")
def protocol_0(folder: Path) -> None:
    write(folder / "model.pkl", f"cos\nsystem\n(S'{COMMAND}'\ntR.".encode())


@hostile("pickle", "notes.txt")
def pickle_that_is_a_text(folder: Path) -> None:
    write(folder / "notes.txt", f"cos\nsystem\n(S'{COMMAND}'\ntR.\nThis model was trained in May.\n".encode())


@hostile("cloudpickle")
def cloudpickled_function(folder: Path) -> None:
    class Model:
        def __reduce__(self):
            return (lambda: open(MARK, "w").close(), ())  # noqa: PTH123  reason: as a stranger writes it

    write(folder / "model.pkl", cloudpickle.dumps(Model()))


class Hostile:
    """Calls a function as it is unpickled."""

    def __reduce__(self):
        import os

        return os.system, (COMMAND,)


def _joblib() -> bytes:
    made = io.BytesIO()
    joblib.dump({"weights": np.arange(8.0), "model": Hostile()}, made)
    return made.getvalue()


@hostile("joblib")
def joblib_plain(folder: Path) -> None:
    write(folder / "model.pkl", _joblib())


for _name, _pack in {"gzip": gzip.compress, "zlib": zlib.compress, "bz2": bz2.compress, "xz": lzma.compress,
                     "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE)}.items():  # fmt: skip
    CASES[f"joblib-{_name}"] = Case(f"joblib-{_name}", _called(_pack(_joblib())), "joblib")


@hostile("joblib")
def joblib_frame_over_an_array(folder: Path) -> None:
    """A frame goes on behind the array's description: joblib reads the array after the frame, then goes back.

    Whoever takes the bytes behind the description for the array's never sees the opcodes that are there.
    """
    made = io.BytesIO()
    joblib.dump(np.zeros(64, np.uint8), made, protocol=4)
    data = made.getvalue()
    at = data.index(b"\x95")
    (size,) = struct.unpack("<Q", data[at + 1 : at + 9])
    head, framed, rest = data[:at], data[at + 9 : at + 9 + size], data[at + 9 + size :]
    assert framed.endswith(b"b")
    hidden = b"0" + call(name("os", "system"), text(COMMAND)) + b"."
    framed += hidden
    write(folder / "model.pkl", head + b"\x95" + struct.pack("<Q", len(framed)) + framed + rest)


@hostile("numpy", "model.npy")
def array_of_objects(folder: Path) -> None:
    np.save(folder / "model.npy", np.array([Hostile()], object), allow_pickle=True)


@hostile("numpy-zip", "model.npz")
def arrays_of_objects_in_a_zip(folder: Path) -> None:
    np.savez_compressed(folder / "model.npz", a=np.zeros(3), b=np.array([Hostile()], object))


@hostile("pickle")
def hole_in_the_memo(folder: Path) -> None:
    away = (
        text("os")
        + b"r"
        + struct.pack("<I", 7000)
        + b"0"
        + text("system")
        + b"r"
        + struct.pack("<I", 9)
        + b"0"
    )
    fetched = b"j" + struct.pack("<I", 7000) + b"h\x09\x93"
    write(folder / "model.pkl", stream(away, call(fetched, text(COMMAND)), proto=4))


@hostile("pickle", "model.safetensors")
def pickle_called_safetensors(folder: Path) -> None:
    write(folder / "model.safetensors", stream(call(name("os", "system"), text(COMMAND))))


@hostile("pickle", "model.safetensors")
def pickle_that_is_safetensors(folder: Path) -> None:
    """It is a right safetensors file, too.

    Its length is an opcode (``X``) that leads into the header's metadata, and texts of 126 characters lead on
    from there, over the rest of the header, to where the tensor is.
    """
    size, data = 0x58 + (0x41 << 8), call(name("os", "system"), text(COMMAND)) + b"."
    tail = b'"},"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (len(data), len(data))
    header = bytearray(b'{"__metadata__":{"n":"'.ljust(size - len(tail), b"a") + tail)
    at, left = 5 + 0x41 - 8, size - (5 + 0x41 - 8)
    for skip in [*[126] * (left // 128 - 1), *[(left - 128 * (left // 128 - 1)) // 2 - 2] * 2]:
        header[at : at + 2] = b"U" + bytes([skip])
        at += 2 + skip
    assert at == size
    write(folder / "model.safetensors", struct.pack("<Q", size) + bytes(header) + data)
