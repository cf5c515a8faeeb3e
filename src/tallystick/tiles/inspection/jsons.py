"""JSON that says more than numbers: Keras's and skops's models, exported graphs of torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tallystick.evidence.files.found import Found, No
from tallystick.evidence.files.names import allowed
from tallystick.evidence.supply import Standing

__all__ = ["KERAS_MODULES", "check_type", "judged_json"]

_PARTS = "layers|models|optimizers|losses|metrics|initializers|regularizers|constraints|polic(y|ies)"
KERAS_MODULES = re.compile(
    r"(keras|tensorflow\.keras|tf_keras|tf\.keras)(\.src)?"
    r"(\.(activations|engine|saving|ops|random|dtype_policies|mixed_precision|legacy|[a-z_]*("
    + _PARTS
    + r"))"
    r"[a-z_.0-9]*)?",
    re.ASCII,
)
"""Modules of Keras's own, as its configs name them."""

KERAS_REFUSED = (
    "Lambda", "TFOpLambda", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer", "SlicingOpLambda",
    "TextVectorization", "StringLookup", "IntegerLookup",
)  # fmt: skip
"""They carry code, or have Keras read files that the config names."""

SKOPS_LOADERS = frozenset({
    "BytearrayNode", "BytesNode", "CachedNode", "ConstructorFromReduceNode", "DTypeNode", "DefaultDictNode",
    "DictNode", "FunctionNode", "JsonNode", "ListNode", "LossNode", "MaskedArrayNode", "NdArrayNode",
    "ObjectNode", "RandomGeneratorNode", "RandomStateNode", "ReduceNode", "SGDNode", "SetNode", "SliceNode",
    "SparseMatrixNode", "TreeNode", "TupleNode", "TypeNode",
})  # fmt: skip
SKOPS_TYPES = frozenset({"builtins.str", "builtins.NoneType", "builtins.type"})
UFUNCS = re.compile(r"scipy\.special(\._\w+)?\.[a-z][a-z0-9_]*", re.ASCII)


def judged_json(said: Any) -> Found:
    """What a parsed JSON file is; No where a reader of models would run something for it."""
    nodes = list(_objects(said))
    if any("__loader__" in node for node in nodes):
        _skops(nodes)
        return Found("skops-schema")
    if any(_is_keras(node) for node in nodes):
        _keras(nodes)
        return Found("keras-config")
    if isinstance(said, dict) and {"graph_module", "opset_version"} <= said.keys():
        return Found(
            "torch-graph", Standing.CODE, "a graph as torch exports it, which torch evaluates as it loads"
        )
    if isinstance(said, dict) and {"learner", "version"} <= said.keys():
        return Found("xgboost")
    return Found("json")


def _objects(said: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object, those in texts that are JSON themselves included (as Keras nests them)."""
    waiting, count = [said], 0
    while waiting:
        value = waiting.pop()
        count += 1
        if isinstance(value, dict):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += [item for item in value if isinstance(item, dict | list)]
        elif isinstance(value, str) and value.lstrip()[:1] in ("{", "[") and "class_name" in value:
            try:
                waiting.append(json.loads(value))
            except (ValueError, RecursionError):
                continue


def _is_keras(node: dict[str, Any]) -> bool:
    return "class_name" in node and ("config" in node or "module" in node)


def _keras(nodes: list[dict[str, Any]]) -> None:
    for node in nodes:
        repeated = [key for key in node if "\0" in key]
        if repeated:
            raise No("keras", f"a key stands twice in its config: {repeated[0].partition(chr(0))[0][:100]!r}")
        for key in ("class_name", "module", "registered_name"):
            if not isinstance(node.get(key), str | None):
                raise No("keras", f"its config has a {key} that is no text")
        name, module = node.get("class_name"), node.get("module")
        if name in KERAS_REFUSED or name == "__lambda__" or "lambda" in str(name).lower():
            raise No("keras", f"it has a {str(name)[:100]} layer, which carries code")
        if not _is_keras(node):
            continue
        if module is not None and not KERAS_MODULES.fullmatch(module) and module != "builtins":
            raise No(
                "keras", f"it makes {str(name)[:100]!r} of module {module[:100]!r}, which is not Keras's own"
            )
        if module == "builtins" and name not in (
            "str",
            "int",
            "float",
            "bool",
            "list",
            "dict",
            "tuple",
            "NoneType",
        ):
            raise No("keras", f"it calls builtins.{str(name)[:100]}")
        registered = node.get("registered_name")
        if registered is not None and (">" in registered or (module is None and registered != name)):
            raise No("keras", f"it needs {registered[:100]!r}, a class of the user's own")


def _skops(nodes: list[dict[str, Any]]) -> None:
    for node in nodes:
        if "__loader__" not in node and "__class__" not in node and "__module__" not in node:
            continue
        loader = node.get("__loader__")
        if loader not in SKOPS_LOADERS:
            raise No("skops", f"it has a {str(loader)[:100]}, which looks up or calls what it names")
        module, name = node.get("__module__"), node.get("__class__")
        check_type(f"{module}.{name}", function=loader == "FunctionNode")
        content = node.get("content")
        if loader == "FunctionNode" and isinstance(content, dict):
            check_type(f"{content.get('module_path')}.{content.get('function')}", function=True)
        if any("\0" in key for key in node):
            raise No("skops", "a key stands twice in its schema")


def check_type(full: str, function: bool = False) -> None:
    """No unless a skops file may name this type, in its schema or among those that are to be trusted."""
    if allowed(full) or full in SKOPS_TYPES or (function and UFUNCS.fullmatch(full)):
        return
    raise No("skops", f"it names {full[:200]}, which is not on the list of what a model may be made of")
