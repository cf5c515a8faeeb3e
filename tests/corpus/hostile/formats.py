"""Hostile files of formats that are said to be safe, and files that are no models at all."""

from __future__ import annotations

import json
import os
import py_compile
import shutil
import struct
import zipfile
from pathlib import Path

import onnx
from onnx import helper

from tests.corpus.hostile import hdf5
from tests.corpus.hostile.archives import zipped
from tests.corpus.hostile.case import MARK, hostile, write
from tests.corpus.hostile.opcodes import COMMAND, SOURCE, call, name, stream, text


def small_onnx(location: str = "", domain: str = "", operator: str = "Add") -> onnx.ModelProto:
    """An ONNX model of one operator and one table; ``location`` is where the table is said to be."""
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 2])
    table = helper.make_tensor("b", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    if location:
        table.ClearField("float_data")
        table.data_location = onnx.TensorProto.EXTERNAL
        entry = table.external_data.add()
        entry.key, entry.value = "location", location
    node = helper.make_node(operator, ["x", "b"], ["y"], domain=domain)
    graph = helper.make_graph([node], "g", [x], [y], [table])
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


@hostile()
def onnx_table_outside(folder: Path) -> None:
    write(folder / "model.onnx", small_onnx("../../../etc/passwd").SerializeToString())


@hostile()
def onnx_table_at_an_absolute_path(folder: Path) -> None:
    write(folder / "model.onnx", small_onnx("/etc/passwd").SerializeToString())


@hostile()
def onnx_table_behind_a_link(folder: Path) -> None:
    write(folder / "model.onnx", small_onnx("weights.bin").SerializeToString())
    (folder / "weights.bin").symlink_to("/etc/passwd")


@hostile()
def onnx_operator_of_a_library(folder: Path) -> None:
    write(folder / "model.onnx", small_onnx(domain="com.evil", operator="Shell").SerializeToString())


@hostile()
def onnx_field_that_nobody_reads(folder: Path) -> None:
    """Protocol buffers skip what they do not know: here an executable."""
    extra = b"\x7fELF" + bytes(200)
    write(folder / "model.onnx", small_onnx().SerializeToString() + b"\xfa\x3e" + b"\xcc\x01" + extra)


@hostile("python-zip", "model.onnx")
def onnx_with_a_program_behind(folder: Path) -> None:
    """A right model to ONNX Runtime (the archive is a field that it skips), a program to Python."""
    archive = zipped(("__main__.py", SOURCE.encode()))
    size = len(archive)
    field = b"\x32" + bytes([size & 127 | 128, size >> 7])  # doc_string
    write(folder / "model.onnx", small_onnx().SerializeToString() + field + archive)


@hostile("yaml", "MLmodel")
def yaml_that_calls(folder: Path) -> None:
    write(folder / "MLmodel", f"flavors: !!python/object/apply:os.system ['{COMMAND}']\n".encode())


@hostile("yaml", "conda.yaml")
def yaml_that_calls_in_another_spelling(folder: Path) -> None:
    said = f"%TAG !p! tag:yaml.org,2002:python/object/apply:\n---\nname: !p!os.system ['{COMMAND}']\n"
    write(folder / "conda.yaml", said.encode())


@hostile("yaml", "notes")
def yaml_that_calls_under_no_name(folder: Path) -> None:
    write(folder / "notes", f"a: !<tag:yaml.org,2002:python/object/apply:os.system> ['{COMMAND}']\n".encode())


def mlmodel(**flavor: object) -> bytes:
    return json.dumps({"flavors": {"python_function": {"python_version": "3.11.7", **flavor}}}).encode()


@hostile("import", "code/evil.py")
def loader_of_its_own(folder: Path) -> None:
    """MLflow imports what MLmodel names as its loader, from the model's own folder: code, by intent."""
    write(folder / "MLmodel", mlmodel(loader_module="evil", code="code"))
    write(folder / "code" / "evil.py", SOURCE.encode())


@hostile("import", "code/antigravity2.py")
def module_to_unpickle_with(folder: Path) -> None:
    """MLflow's PyTorch flavor imports the module that a text file names."""
    write(folder / "data" / "pickle_module_info.txt", b"antigravity2")
    write(folder / "MLmodel", mlmodel(loader_module="mlflow.pytorch", data="data", code=None))
    write(folder / "code" / "antigravity2.py", SOURCE.encode())


@hostile()
def module_to_take_for_keras(folder: Path) -> None:
    """MLflow's TensorFlow flavor imports the module that a text file names."""
    write(folder / "data" / "keras_module.txt", b"antigravity2")
    write(folder / "MLmodel", mlmodel(loader_module="mlflow.tensorflow", data="data", code=None))


@hostile()
def keras_of_its_own(folder: Path) -> None:
    said = {"tensorflow": {"data": "data", "model_type": "keras", "keras_module": "antigravity2"}}
    write(folder / "MLmodel", json.dumps({"flavors": said}).encode())


@hostile()
def class_that_xgboost_is_to_call(folder: Path) -> None:
    """MLflow's XGBoost flavor imports what is named there and calls it, before it reads any model."""
    said = {"xgboost": {"data": "model.json", "model_class": "pytest.console_main"}}
    write(folder / "MLmodel", json.dumps({"flavors": said}).encode())
    write(folder / "test_it.txt", f">>> import os; _ = os.system({COMMAND!r})\n".encode())


@hostile()
def onnx_with_numbers_from_an_address_in_memory(folder: Path) -> None:
    """What ONNX Runtime marks its own tensors with, whose offset is then an address."""
    marked = "*/_ORT_MEM_ADDR_/*"
    write(folder / "model.onnx", small_onnx(marked).SerializeToString())
    write(folder / marked, b"\0" * 8)


@hostile()
def types_that_skops_is_to_trust(folder: Path) -> None:
    said = {"sklearn": {"pickled_model": "model.skops", "skops_trusted_types": ["posix.system"]}}
    write(folder / "MLmodel", json.dumps({"flavors": said}).encode())


def skops_node(loader: str, module: str, kind: str, **more: object) -> dict[str, object]:
    return {"__class__": kind, "__module__": module, "__loader__": loader, "__id__": 1, **more}


@hostile()
def skops_function(folder: Path) -> None:
    content = {"module_path": "posix", "function": "system"}
    schema = skops_node("FunctionNode", "builtins", "function", content=content, protocol=2)
    write(folder / "model.skops", zipped(("schema.json", json.dumps(schema).encode())))


@hostile()
def skops_behind_a_byte_order_mark(folder: Path) -> None:
    """Python's json reads bytes behind one, and text that begins with it is no brace."""
    content = {"module_path": "posix", "function": "system"}
    schema = skops_node("FunctionNode", "builtins", "function", content=content, protocol=2)
    write(folder / "model.skops", zipped(("schema.json", b"\xef\xbb\xbf" + json.dumps(schema).encode())))


@hostile()
def skops_method(folder: Path) -> None:
    inner = skops_node("ObjectNode", "sklearn.linear_model._logistic", "LogisticRegression", content=None)
    schema = skops_node(
        "MethodNode", "builtins", "method", content={"func": "__init__", "obj": inner}, protocol=2
    )
    write(folder / "model.skops", zipped(("schema.json", json.dumps(schema).encode())))


def keras_layer(kind: str, of: str | None, registered: str | None = None, **config: object) -> bytes:
    layer = {"module": of, "class_name": kind, "config": config, "registered_name": registered}
    model = {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"layers": [layer]},
        "registered_name": None,
    }
    return json.dumps(model).encode()


def keras(folder: Path, config: bytes) -> None:
    write(folder / "model.keras", zipped(("config.json", config), ("metadata.json", b"{}")))


@hostile()
def keras_lambda(folder: Path) -> None:
    code = {"class_name": "__lambda__", "config": {"code": "4wEAAAA="}}
    keras(folder, keras_layer("Lambda", "keras.layers", function=code))


@hostile()
def keras_function_of_any_module(folder: Path) -> None:
    """Keras 3 imports whatever module a class is said to be of (CVE-2025-1550)."""
    keras(folder, keras_layer("function", "builtins", "function", module="os", name="system"))


@hostile()
def keras_function_behind_many_blanks(folder: Path) -> None:
    keras(
        folder,
        b" " * 5000 + keras_layer("function", "builtins", "function", module="os", name="system"),
    )


@hostile()
def keras_class_of_the_users(folder: Path) -> None:
    keras(folder, keras_layer("Evil", None, "pack>Evil"))


@hostile()
def keras_key_twice(folder: Path) -> None:
    """JSON readers take the last of two equal keys; who scans the text may take the first."""
    said = keras_layer("Dense", "keras.layers").replace(
        b'"class_name": "Dense"', b'"class_name": "Dense", "class_name": "Dense"'
    )
    keras(folder, said)


@hostile()
def keras_lambda_in_escapes(folder: Path) -> None:
    keras(folder, keras_layer("Lambda", "keras.layers").replace(b'"Lambda"', b'"\\u004cambda"'))


@hostile()
def hdf5_of_an_unknown_shape(folder: Path) -> None:
    write(folder / "model.h5", b"\x89HDF\r\n\x1a\n\x03" + bytes(500))


@hostile()
def hdf5_of_keras_with_a_lambda(folder: Path) -> None:
    write(folder / "model.h5", hdf5.KERAS_LAMBDA)


@hostile()
def hdf5_with_numbers_outside(folder: Path) -> None:
    write(folder / "model.h5", hdf5.OUTSIDE)


@hostile()
def hdf5_that_leads_to_another_file(folder: Path) -> None:
    write(folder / "model.h5", hdf5.LINKED)


@hostile()
def keras_weights_that_lead_outside(folder: Path) -> None:
    """Keras 3 keeps weights as HDF5 in its archive."""
    config = keras_layer("Dense", "keras.layers", units=3)
    members = (("config.json", config), ("metadata.json", b"{}"), ("model.weights.h5", hdf5.OUTSIDE))
    write(folder / "model.keras", zipped(*members))


@hostile()
def safetensors_that_overlap(folder: Path) -> None:
    said = {n: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for n in ("a", "b")}
    header = json.dumps(said).encode()
    write(folder / "model.safetensors", struct.pack("<Q", len(header)) + header + bytes(16))


@hostile()
def safetensors_with_more_behind(folder: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    write(
        folder / "model.safetensors",
        struct.pack("<Q", len(header)) + header + bytes(16) + b"\x7fELF" + bytes(99),
    )


@hostile()
def parquet_of_a_pickled_type(folder: Path) -> None:
    footer = b"\x15\x04" + bytes(30) + b"ARROW:extension:name" + b"arrow.py_extension_type" + bytes(9)
    write(folder / "rows.parquet", b"PAR1" + bytes(8) + footer + struct.pack("<I", len(footer)) + b"PAR1")


@hostile("run", "model.onnx")
def executable_called_onnx(folder: Path) -> None:
    """Here it is the machine's own ``true``-like shell, with a script in its arguments' place."""
    path = folder / "model.onnx"
    path.write_text(f"#!/bin/sh\n{COMMAND}\n")
    path.chmod(0o755)


@hostile()
def program_of_a_machine(folder: Path) -> None:
    shutil.copy(os.path.realpath("/bin/true"), folder / "weights.bin")


@hostile()
def program_of_windows(folder: Path) -> None:
    write(folder / "weights.bin", b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + bytes(400))


@hostile("import", "evil.pyc")
def compiled_python(folder: Path) -> None:
    write(folder / "source.txt", SOURCE.encode())
    py_compile.compile(str(folder / "source.txt"), cfile=str(folder / "evil.pyc"), doraise=True)
    (folder / "source.txt").unlink()


@hostile()
def link_out_of_the_folder(folder: Path) -> None:
    (folder / "model.pkl").symlink_to("/etc/passwd")


@hostile()
def pipe_without_end(folder: Path) -> None:
    os.mkfifo(folder / "model.pkl")


@hostile()
def bytes_of_no_kind(folder: Path) -> None:
    write(folder / "model.bin", bytes(range(1, 256)) * 9)


@hostile("pickle", "model.onnx")
def pickle_called_onnx(folder: Path) -> None:
    write(folder / "model.onnx", stream(call(name("os", "system"), text(COMMAND))))


@hostile("python-zip", "model.zip")
def program_in_a_zip(folder: Path) -> None:
    with zipfile.ZipFile(folder / "model.zip", "w") as archive:
        archive.writestr("__main__.py", f"open({MARK!r}, 'w').close()")
