"""What can stand before a model: rounding, a median filter, and JPEG, as nodes of the model's own graph.

In the graph, and not in code around it, so that whoever attacks the model meets the defence too. Every
function is copied into the steps that use it (``additional_funcs``), so each imports what it needs.
"""

from graphs import around, element_type, places


def behind(proto, nodes: list, constants: dict):
    """``proto`` behind nodes that make ``of/NAME`` of each of its inputs NAME."""
    from onnx import helper

    outputs = list(proto.graph.output)
    after = [helper.make_node("Identity", [f"of/{o.name}"], [o.name]) for o in outputs]
    weights = {initializer.name for initializer in proto.graph.initializer}  # of old graphs inputs, too
    taken = [value for value in proto.graph.input if value.name not in weights]
    return around(proto, nodes, after, taken, outputs, constants)


def squeezed(proto, rows, inputs: list, bits: int):
    """The same graph behind a rounding of its inputs: feature squeezing (Xu, Evans and Qi 2018).

    Each feature has 2^bits levels over its range, ends included; of whole numbers, each is a level.
    """
    import numpy as np
    from onnx import helper

    step = np.where(rows.whole, 1.0, (rows.high - rows.low) / (2**bits - 1))
    step = np.where(step > 0, step, 1.0)
    nodes, constants = [], {}
    for at, (each, (start, end)) in enumerate(zip(inputs, places(inputs, len(step)), strict=True)):
        name, kind = each["name"], helper.tensor_dtype_to_np_dtype(element_type(each["type"]))
        if kind.kind != "f":
            raise ValueError(f"input {name!r} takes {each['type']}: there is nothing to round")
        tail = [n if n > 0 else end - start for n in each["shape"][1:]]
        held = {"low": rows.low, "high": rows.high, "step": step}
        for what, values in held.items():
            shaped = values[start:end].reshape(tail).astype(kind)
            constants[f"{what}{at}"] = shaped
        ways = (("Max", "low"), ("Min", "high"), ("Sub", "low"), ("Div", "step"), ("Round", ""),
                ("Mul", "step"), ("Add", "low"))  # fmt: skip
        before = name
        for op, other in ways:
            out = f"of/{name}" if (op, other) == ways[-1] else f"{op}{at}"
            nodes.append(helper.make_node(op, [before, *([f"{other}{at}"] if other else [])], [out]))
            before = out
    return behind(proto, nodes, constants)


def picture_of(domain: dict) -> tuple:
    """Height, width and channels of a domain of pictures; ValueError where it is of something else."""
    shape = list(domain["shape"])
    if len(shape) not in (2, 3):
        raise ValueError(f"the policy's domain has rows of shape {shape}, which are no pictures")
    if len(shape) == 2:
        return (*shape, 1)
    return (shape[1], shape[2], shape[0]) if domain["channels_first"] else tuple(shape)


def seen_as_pictures(proto, inputs: list, domain: dict, nodes: list, held: dict, last: str):
    """``proto`` behind ``nodes`` that make ``last`` of ``pictures``, both (n, channels, height, width)."""
    import math

    import numpy as np
    from onnx import helper

    height, width, channels = picture_of(domain)
    count = height * width * channels
    tail = [n if n > 0 else count for n in inputs[0]["shape"][1:]]
    if len(inputs) > 1 or math.prod(tail) != count:
        raise ValueError(
            f"the model takes no pictures of shape {domain['shape']}, as the policy's domain says"
        )
    first = domain["channels_first"]
    name, lies = inputs[0]["name"], [channels, height, width] if first else [height, width, channels]
    start = [
        helper.make_node("Reshape", [name, "as_picture"], ["by/shaped"]),
        helper.make_node(
            "Transpose", ["by/shaped"], ["by/pictures"], perm=[0, 1, 2, 3] if first else [0, 3, 1, 2]
        ),
    ]
    end = [
        helper.make_node("Transpose", [last], ["by/turned"], perm=[0, 1, 2, 3] if first else [0, 2, 3, 1]),
        helper.make_node("Reshape", ["by/turned", "as_taken"], [f"of/{name}"]),
    ]
    shapes = {"as_picture": np.array([-1, *lies]), "as_taken": np.array([-1, *tail])}
    return behind(proto, [*start, *nodes, *end], held | shapes)


def filtered(proto, inputs: list, domain: dict, window: int):
    """The same graph behind a median of ``window`` by ``window`` pixels (spatial smoothing, Xu et al. 2018).

    Beyond its edges a picture is mirrored, and of an even number of pixels the median is the greater of the
    two in the middle, as ART and scipy have it. Found by exchanges of Min and Max, which have gradients.
    """
    import numpy as np
    from onnx import helper

    height, width, _ = picture_of(domain)
    nodes, held, seen = [], {}, []
    for axis, length in ((2, height), (3, width)):
        for by in range(window):
            at = np.mod(np.arange(length) + by - window // 2, 2 * length)
            held[f"from{axis}_{by}"] = np.minimum(at, 2 * length - 1 - at)
    for down in range(window):
        nodes.append(helper.make_node("Gather", ["by/pictures", f"from2_{down}"], [f"row{down}"], axis=2))
        for right in range(window):
            seen.append(f"seen{down}_{right}")
            nodes.append(helper.make_node("Gather", [f"row{down}", f"from3_{right}"], [seen[-1]], axis=3))
    for last in range(len(seen) - 1, len(seen) // 2 - 1, -1):  # the greatest of those left goes to the end
        for at in range(last):
            less, more = f"less{last}_{at}", f"more{last}_{at}"
            nodes.append(helper.make_node("Min", [seen[at], seen[at + 1]], [less]))
            nodes.append(helper.make_node("Max", [seen[at], seen[at + 1]], [more]))
            seen[at], seen[at + 1] = less, more
    return seen_as_pictures(proto, inputs, domain, nodes, held, seen[len(seen) // 2])


def compressed(proto, inputs: list, domain: dict, quality: int):
    """The same graph behind JPEG of ``quality`` 1 to 100 (Dziugaite et al. 2016), colours at full resolution.

    Pixels are rounded to 256 levels of the domain's range; blocks of 8 by 8 go through the cosine transform,
    are rounded to the steps of :func:`quantization`, and come back. Red, green and blue become brightness and
    two colours on the way (JFIF).
    """
    import numpy as np
    from onnx import helper

    height, width, channels = picture_of(domain)
    colour, down, right = channels == 3, -(-height // 8), -(-width // 8)
    at = np.arange(8)
    wave = np.cos((2 * at[None] + 1) * at[:, None] * np.pi / 16) / 2
    wave[0] /= np.sqrt(2)
    way = np.kron(wave, wave)  # from the 64 pixels of a block, row by row, to its 64 waves
    light = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    numbers = {
        "lowest": domain["low"], "scale": 255 / (domain["high"] - domain["low"]), "least": 0.0, "most": 255.0,
        "middle": np.array([128.0, 0, 0]) if colour else 128.0, "steps": quantization(quality, colour),
        "floor": np.array([0.0, -128, -128]) if colour else 0.0,
        "roof": np.array([255.0, 127, 127]) if colour else 255.0,
        "way": way.T, "way_back": way, "light": light.T, "light_back": np.linalg.inv(light).T,
    }  # fmt: skip
    whole = {
        "more_rows": np.minimum(np.arange(8 * down), height - 1), "real_rows": np.arange(height),
        "more_columns": np.minimum(np.arange(8 * right), width - 1), "real_columns": np.arange(width),
        "eights": np.array([-1, down, 8, right, 8, channels]),
        "blocks": np.array([-1, down, right, channels, 64]),
        "squares": np.array([-1, down, right, channels, 8, 8]),
        "pixels": np.array([-1, 8 * down, 8 * right, channels]),
    }  # fmt: skip
    ways = [
        ("Sub", "lowest"), ("Mul", "scale"), ("Round", ""), ("Max", "least"), ("Min", "most"),
        ("Gather", "more_rows", {"axis": 2}), ("Gather", "more_columns", {"axis": 3}),
        ("Transpose", "", {"perm": [0, 2, 3, 1]}), ("MatMul", "light"), ("Round", ""), ("Sub", "middle"),
        ("Reshape", "eights"), ("Transpose", "", {"perm": [0, 1, 3, 5, 2, 4]}), ("Reshape", "blocks"),
        ("MatMul", "way"), ("Div", "steps"), ("Round", ""), ("Mul", "steps"), ("MatMul", "way_back"),
        ("Reshape", "squares"), ("Transpose", "", {"perm": [0, 1, 4, 2, 5, 3]}), ("Reshape", "pixels"),
        ("Add", "middle"), ("Round", ""), ("Max", "floor"), ("Min", "roof"), ("MatMul", "light_back"),
        ("Round", ""), ("Max", "least"), ("Min", "most"),
        ("Div", "scale"), ("Add", "lowest"), ("Transpose", "", {"perm": [0, 3, 1, 2]}),
        ("Gather", "real_rows", {"axis": 2}), ("Gather", "real_columns", {"axis": 3}),
    ]  # fmt: skip
    kind = helper.tensor_dtype_to_np_dtype(element_type(inputs[0]["type"]))
    nodes, last, used = [], "by/pictures", set()
    for place, (op, other, *more) in enumerate(w for w in ways if colour or not w[1].startswith("light")):
        taken = [last, other] if other else [last]
        last = f"jpeg{place}"
        nodes.append(helper.make_node(op, taken, [last], **(more[0] if more else {})))
        used.add(other)
    held = {name: np.asarray(value).astype(kind) for name, value in numbers.items() if name in used}
    return seen_as_pictures(proto, inputs, domain, nodes, held | whole, last)


def quantization(quality: int, colour: bool):
    """JPEG's steps of 64 waves (ITU-T T.81, annex K; scaled as libjpeg does), float64 (1 or 3, 64)."""
    import numpy as np

    light = [
        16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
        14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
        49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
    ]  # fmt: skip
    hue = [
        17,
        18,
        24,
        47,
        99,
        99,
        99,
        99,
        18,
        21,
        26,
        66,
        99,
        99,
        99,
        99,
        24,
        26,
        56,
        99,
        99,
        99,
        99,
        99,
        47,
        66,
    ]
    tables = np.array([light, *[hue + [99] * (64 - len(hue))] * (2 if colour else 0)], float)
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip(np.floor((tables * scale + 50) / 100), 1, 255)
