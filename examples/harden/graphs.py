"""ONNX graphs: what stands before a model, around it, and what its files say.

Every function is copied into the steps that use it (``additional_funcs``), so each imports what it needs.
``inputs`` are a model's inputs as ``{"name", "type", "shape"}``, with the Open Inference Protocol's types.
"""


def element_type(datatype: str) -> int:
    """ONNX's number for a datatype of the Open Inference Protocol; ValueError for one that is no number."""
    from onnx import TensorProto

    known = {"FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE", "BOOL": "BOOL"}
    known |= {f"{sign}INT{n}": f"{sign}INT{n}" for sign in ("", "U") for n in (8, 16, 32, 64)}
    if datatype not in known:
        raise ValueError(f"an input takes {datatype}, which is no number")
    return TensorProto.DataType.Value(known[datatype])


def graph_inputs(inputs: list) -> list:
    """The inputs as a graph declares them; the number of rows is open."""
    from onnx import helper

    def shape(each):
        return ["rows_many", *(None if n < 0 else n for n in each["shape"][1:])]

    return [helper.make_tensor_value_info(i["name"], element_type(i["type"]), shape(i)) for i in inputs]


def joined(inputs: list, out: str) -> list:
    """Nodes that lay all inputs side by side as ``out``, float32 (n, features)."""
    from onnx import TensorProto, helper

    nodes, parts = [], []
    for at, each in enumerate(inputs):
        flat, part = f"{out}_flat{at}", f"{out}_part{at}"
        nodes.append(helper.make_node("Flatten", [each["name"]], [flat], axis=1))
        nodes.append(helper.make_node("Cast", [flat], [part], to=TensorProto.FLOAT))
        parts.append(part)
    return [*nodes, helper.make_node("Concat", parts, [out], axis=1)]


def places(inputs: list, features: int) -> list:
    """Which features go into which input, (start, end) for each; ValueError where that is not known."""
    import math

    found, start = [], 0
    for each in inputs:
        lengths = each["shape"][1:]
        count = features - start if -1 in lengths else math.prod(lengths)
        found.append((start, start + count))
        start += count
    if start != features or sum(-1 in each["shape"][1:] for each in inputs) > 1:
        raise ValueError(f"the model takes {start} features, and the rows have {features}")
    return found


def load_graph(folder: str):
    """The ONNX graph of an MLflow model; ValueError where the model is no ONNX, or too old a one."""
    from pathlib import Path

    import mlflow
    import yaml

    said = yaml.safe_load((Path(folder) / "MLmodel").read_text("utf-8"))
    if "onnx" not in said.get("flavors", {}):
        raise ValueError(
            f"the model is no ONNX: its flavors are {', '.join(said.get('flavors', {})) or 'none'}"
        )
    proto = mlflow.onnx.load_model(folder)
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < 11:
        raise ValueError(f"the model is of ONNX opset {opset}; 11 is the oldest that can be built around")
    return proto


def asked(proto, inputs: list):
    """A function of rows float32 (n, features) that gives all outputs of the graph by name."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    outputs = [output.name for output in session.get_outputs()]

    def ask(x):
        return dict(zip(outputs, session.run(outputs, example_of(x, inputs)), strict=True))

    return ask


def answers_of(proto, rows, inputs: list):
    """The names of the label (or ``""``) and score outputs, and a function from x to chances (n, classes).

    ValueError where the scores are not those of ``rows.classes``, in their order: then nobody knows whose.
    """
    import numpy as np

    ask = asked(proto, inputs)
    seen = ask(rows.x[:2000])
    count = len(rows.classes)
    scores = [n for n, v in seen.items() if getattr(v, "ndim", 0) == 2 and v.shape[1] == count > 1]
    scores = [n for n in scores if seen[n].dtype.kind == "f"]
    if len(scores) != 1:
        raise ValueError(f"the model has no one output with a score for each of the {count} classes")
    labels = [n for n, v in seen.items() if n != scores[0] and getattr(v, "size", 0) == len(rows.x[:2000])]
    label = labels[0] if labels else ""
    if label:
        named = rows.classes[seen[scores[0]].argmax(axis=1)].astype(str)
        if (np.asarray(seen[label]).reshape(-1).astype(str) != named).mean() > 0.01:
            raise ValueError(
                "the model's scores are not in the order of the labels: whose is which is not known"
            )

    def chances(x):
        found = np.concatenate([ask(x[at : at + 4096])[scores[0]] for at in range(0, len(x), 4096)])
        found = found.astype(np.float64)
        if found.min() < 0 or abs(found.sum(axis=1) - 1).max() > 1e-3:  # logits
            found = np.exp(found - found.max(axis=1, keepdims=True))
        return found / found.sum(axis=1, keepdims=True)

    return label, scores[0], chances


def around(proto, before: list, after: list, inputs: list, outputs: list, held: dict):
    """``proto`` with nodes before and after it, its own names after ``of/``; ``held`` are constants by name.

    Its operators, functions and metadata come with it. The model that comes out is checked.
    """
    import onnx
    from onnx import compose, helper, numpy_helper

    body = compose.add_prefix(proto, "of/")
    constants = [numpy_helper.from_array(value, name) for name, value in held.items()]
    graph = helper.make_graph(
        [*before, *body.graph.node, *after], proto.graph.name or "model", inputs, outputs,
        [*constants, *body.graph.initializer], sparse_initializer=list(body.graph.sparse_initializer),
    )  # fmt: skip
    made = helper.make_model(
        graph, opset_imports=list(proto.opset_import), ir_version=max(proto.ir_version, 6),
        functions=list(body.functions),
    )  # fmt: skip
    made.metadata_props.extend(proto.metadata_props)
    onnx.checker.check_model(made)
    return made


def signature_of(proto):
    """What the graph takes and gives, as MLflow says it; ValueError for an output that is no tensor."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec
    from onnx import helper

    def schema(values):
        specs = []
        for value in values:
            tensor = value.type.tensor_type
            if not tensor.elem_type:
                raise ValueError(f"the model's output {value.name!r} is no tensor")
            shape = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
            shape[0] = -1
            kind = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
            specs.append(TensorSpec(np.dtype(str) if kind.kind == "O" else kind, tuple(shape), value.name))
        return Schema(specs)

    return ModelSignature(schema(proto.graph.input), schema(proto.graph.output))


def example_of(x, inputs: list) -> dict:
    """Rows float32 (n, features) as the model takes them: an array for each input."""
    from onnx import helper

    example = {}
    for each, (start, end) in zip(inputs, places(inputs, x.shape[1]), strict=True):
        kind = helper.tensor_dtype_to_np_dtype(element_type(each["type"]))
        shape = (len(x), *(n if n > 0 else end - start for n in each["shape"][1:]))
        example[each["name"]] = x[:, start:end].reshape(shape).astype(kind)
    return example


def keep_model(proto, notes: dict, rows_path: str, rows, inputs: list, metrics: dict, model):
    """Save the graph as an MLflow model at ``model.path``, and log it where MLflow is.

    ``notes`` (how, of which model, eps, seed, what else a way has) are its metadata, the run's params, and
    in the graph itself (``harden.sigma``), where whoever has nothing but the file finds them.
    """
    import os
    from pathlib import Path

    import mlflow
    import numpy as np
    import onnx
    import onnxruntime
    import pandas as pd
    from onnx import helper

    props = {p.key: p.value for p in proto.metadata_props}
    helper.set_model_props(proto, props | {f"harden.{name}": str(value) for name, value in notes.items()})
    files = {
        "onnx_model": proto,
        "signature": signature_of(proto),
        "input_example": example_of(rows.x[:2], inputs),
        # Said outright, so that MLflow need not start the model to find out.
        "pip_requirements": [f"{m.__name__}=={m.__version__}" for m in (mlflow, np, onnx, onnxruntime)],
        "metadata": notes,
        "onnx_execution_providers": ["CPUExecutionProvider"],
        "save_as_external_data": proto.ByteSize() > 2**30,  # one file, where protobuf can hold it
    }
    model.metadata |= {name: str(value) for name, value in notes.items()}
    model.metadata["kind"] = f"hardened: {notes['how']}"
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        mlflow.onnx.save_model(path=model.path, **files)
        return
    with mlflow.start_run(run_name=notes["how"]) as run:
        mlflow.log_params(notes)
        mlflow.log_input(
            mlflow.data.from_pandas(pd.read_parquet(rows_path), name="train"), context="training"
        )
        logged = mlflow.onnx.log_model(name="model", **files)
        mlflow.log_metrics(metrics, model_id=logged.model_id)
    # What goes on from here is what was logged, byte for byte, without the note that a download adds.
    mlflow.artifacts.download_artifacts(artifact_uri=logged.model_uri, dst_path=model.path)
    (Path(model.path) / "registered_model_meta").unlink(missing_ok=True)
    model.metadata |= {"mlflow_run_id": run.info.run_id, "mlflow_model_id": logged.model_id}
