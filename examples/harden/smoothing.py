"""Randomized smoothing as an ONNX graph: the mean answer of a model under noise that stands in the graph.

Every function is copied into the steps that use it (``additional_funcs``), so each imports what it needs.
"""

from graphs import around, element_type, graph_inputs, joined, places


def smoothed(proto, rows, inputs: list, sigma: float, draws: int, seed: int, names: list):
    """The mean of what a graph says under fixed Gaussian noise: randomized smoothing (Cohen et al. 2019).

    ``sigma`` is in the unit of eps; ``draws`` rows of noise are constants of the graph, from ``seed``. A row
    with noise is cut off at the range. ``names`` are the outputs for the label (or ``""``) and the scores.
    """
    import numpy as np
    from onnx import TensorProto, helper

    features, count = rows.x.shape[1], len(rows.classes)
    noise = np.random.default_rng(seed).standard_normal((1, draws, features)) * (sigma * rows.reach)
    text = rows.classes.dtype.kind == "U"
    held = {
        "noise": noise.astype(np.float32), "low": rows.low.astype(np.float32),
        "high": rows.high.astype(np.float32), "apart": np.array([-1, 1, features]),
        "beside": np.array([-1, features]), "votes": np.array([-1, draws, count]),
        "classes": rows.classes.astype(object) if text else rows.classes.astype(np.int64),
    }  # fmt: skip
    nodes = joined(inputs, "by/rows")
    steps = (("Reshape", "by/rows", "apart"), ("Add", "one", "noise"), ("Max", "noisy", "low"),
             ("Min", "above", "high"), ("Reshape", "within", "beside"))  # fmt: skip
    for (op, into, other), out in zip(steps, ("one", "noisy", "above", "within", "asked"), strict=True):
        nodes.append(helper.make_node(op, [into, other], [out]))
    for at, (each, (start, end)) in enumerate(zip(inputs, places(inputs, features), strict=True)):
        held[f"columns{at}"] = np.arange(start, end)
        held[f"shape{at}"] = np.array([-1, *(n if n > 0 else end - start for n in each["shape"][1:])])
        nodes += [
            helper.make_node("Gather", ["asked", f"columns{at}"], [f"taken{at}"], axis=1),
            helper.make_node("Reshape", [f"taken{at}", f"shape{at}"], [f"shaped{at}"]),
            helper.make_node("Cast", [f"shaped{at}"], [f"of/{each['name']}"], to=element_type(each["type"])),
        ]
    label, scores = names
    opset = next(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx"))
    over = {"axes": [1]} if opset < 18 else {}
    if not over:
        held["axis"] = np.array([1])
    after = [
        helper.make_node("Reshape", [f"of/{scores}", "votes"], ["each"]),
        helper.make_node("ReduceMean", ["each", *([] if over else ["axis"])], [scores], keepdims=0, **over),
    ]
    kind = next(o.type.tensor_type.elem_type for o in proto.graph.output if o.name == scores)
    outputs = [helper.make_tensor_value_info(scores, kind, ["rows_many", count])]
    if label:
        after.append(helper.make_node("ArgMax", [scores], ["place"], axis=1, keepdims=0))
        after.append(helper.make_node("Gather", ["classes", "place"], [label]))
        kind = TensorProto.STRING if text else TensorProto.INT64
        outputs.insert(0, helper.make_tensor_value_info(label, kind, ["rows_many"]))
    else:
        del held["classes"]
    return around(proto, nodes, after, graph_inputs(inputs), outputs, held)
