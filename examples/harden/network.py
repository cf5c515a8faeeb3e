"""A small network that ART can attack while it learns, in numpy alone, and its ONNX graph.

Every function is copied into the steps that use it (``additional_funcs``), so each imports what it needs.
Layers are a list of float32 arrays: weights (into, out) and biases (out,) by turns.
"""

from graphs import graph_inputs, joined


def new_layers(features: int, classes: int, draw) -> list:
    """Layers of 256, 128 and ``classes``, drawn after He et al. (2015)."""
    import itertools

    import numpy as np

    layers = []
    for into, out in itertools.pairwise((features, 256, 128, classes)):
        weights = draw.normal(0, (2 / into) ** 0.5, (into, out))
        layers += [weights.astype(np.float32), np.zeros(out, np.float32)]
    return layers


def forward(layers: list, x, temperature: float):
    """What goes into each layer, from x (n, features) on, and the chances (n, classes)."""
    import numpy as np

    into = [np.asarray(x, np.float32)]
    for at in (0, 2):
        into.append(np.maximum(into[-1] @ layers[at] + layers[at + 1], 0))
    scores = (into[-1] @ layers[4] + layers[5]) / np.float32(temperature)
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return into, odds / odds.sum(axis=1, keepdims=True)


def backward(layers: list, into: list, slopes):
    """From slopes by the scores (n, classes): those by each layer, a list, and by the rows (n, features)."""
    found = [None] * len(layers)
    for at in (4, 2, 0):
        found[at], found[at + 1] = into[at // 2].T @ slopes, slopes.sum(axis=0)
        slopes = slopes @ layers[at].T
        if at:
            slopes *= into[at // 2] > 0
    return found, slopes


def as_network(rows, seed: int, temperature: float = 1.0):
    """A ReLU network for ART: rows float32 (n, features) in the data's own units, soft labels (n, classes).

    Inside, a feature is 0 at the lower end of its range in ``rows`` and 1 at the upper. It learns by Adam
    (Kingma and Ba 2015) from cross-entropy at ``temperature``, with a small weight decay.
    """
    import numpy as np
    from art.estimators.classification import ClassifierMixin
    from art.estimators.estimator import BaseEstimator, LossGradientsMixin

    features, classes = len(rows.low), len(rows.classes)
    low, width = in_units(rows)

    class Network(LossGradientsMixin, ClassifierMixin, BaseEstimator):
        estimator_params = BaseEstimator.estimator_params + ClassifierMixin.estimator_params
        input_shape = (features,)

        def __init__(self):
            super().__init__(model=None, clip_values=None)
            self.nb_classes = classes
            self.draw = np.random.default_rng(seed)
            self.layers = new_layers(features, classes, self.draw)
            self.first, self.second = ([np.zeros_like(each) for each in self.layers] for _ in range(2))
            self.rate, self.steps = 2e-3, 0

        def forward(self, x):
            return forward(self.layers, (x - low) / width, temperature)

        def predict(self, x, batch_size=128, **kwargs):
            return self.forward(x)[1]

        def loss_gradient(self, x, y, **kwargs):
            into, chances = self.forward(x)
            # chances - y without cancellation: a saturated softmax must not hide the gradient.
            slopes = chances * (1 - y)
            slopes -= y * slopes.sum(axis=1, keepdims=True)
            slopes = (slopes / np.float32(temperature)).astype(np.float32)
            return (backward(self.layers, into, slopes)[1] / width).astype(x.dtype)

        def _step(self, x, y):
            into, chances = self.forward(x)
            found, _ = backward(self.layers, into, (chances - y) / np.float32(temperature * len(x)))
            self.steps += 1
            rate = self.rate * (1 - 0.999**self.steps) ** 0.5 / (1 - 0.9**self.steps)
            for at, slopes in enumerate(found):
                gradient = slopes + np.float32(1e-6) * self.layers[at]
                self.first[at] += np.float32(0.1) * (gradient - self.first[at])
                self.second[at] += np.float32(0.001) * (gradient**2 - self.second[at])
                self.layers[at] -= np.float32(rate) * self.first[at] / (np.sqrt(self.second[at]) + 1e-8)

        def fit(self, x, y, batch_size=128, nb_epochs=1, **kwargs):
            for _ in range(nb_epochs):
                order = self.draw.permutation(len(x))
                for start in range(0, len(x), batch_size):
                    some = order[start : start + batch_size]
                    self._step(x[some], y[some].astype(np.float32))

    return Network()


def batch_of(rows: int) -> int:
    """Rows of a step: 128, of small tables fewer, so that an epoch is a dozen steps."""
    return max(16, min(128, rows // 12))


def turns(rows: int, epochs: int) -> list:
    """Shares of the learning rate with epochs each: half, a quarter and a quarter of ``epochs``.

    No more than 20,000 steps of 128 rows in all, however many rows there are.
    """
    whole = max(4, min(epochs, 20_000 * 128 // rows))
    return [(1.0, whole - 2 * (whole // 4)), (0.3, whole // 4), (0.1, whole // 4)]


def learn(network, rows, epochs: int, fit):
    """Call ``fit(x, y, batch, epochs)`` for a few epochs at a time, with the learning rate falling.

    Labels y are (n, classes). How far it is stands in the step's log: who follows the run reads it there.
    """
    import numpy as np

    y = np.eye(len(rows.classes), dtype=np.float32)[rows.y]
    fastest, done, planned = network.rate, 0, turns(len(rows.x), epochs)
    whole = sum(count for _, count in planned)
    for share, count in planned:
        network.rate = fastest * share
        for some in [len(part) for part in np.array_split(np.arange(count), min(count, 10))]:
            fit(rows.x, y, batch_of(len(rows.x)), some)
            done += some
            print(f"{100 * done // whole:3d}%  epoch {done} of {whole}", flush=True)
    network.rate = fastest


def in_units(rows):
    """Where each feature's range begins and how wide it is (1 where it is a point), float32 (d,) both."""
    import numpy as np

    width = np.where(rows.high > rows.low, rows.high - rows.low, 1.0)
    return rows.low.astype(np.float32), width.astype(np.float32)


def network_graph(network, rows, inputs: list, names: list):
    """The network as ONNX: takes ``inputs`` in the data's own units, gives label and chances (``names``)."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    width = np.where(rows.high > rows.low, rows.high - rows.low, 1.0)
    layers = [np.asarray(each, np.float64) for each in network.layers]
    layers[1] = layers[1] - (rows.low / width) @ layers[0]
    layers[0] = layers[0] / width[:, None]
    text = rows.classes.dtype.kind == "U"
    classes = rows.classes.astype(object) if text else rows.classes.astype(np.int64)
    constants = [numpy_helper.from_array(w.astype(np.float32), f"layer{i}") for i, w in enumerate(layers)]
    constants.append(numpy_helper.from_array(classes, "classes"))
    label, scores = names
    nodes = joined(inputs, "by/rows")
    for at, (into, out) in enumerate((("by/rows", "sum0"), ("hidden0", "sum1"), ("hidden1", "logits"))):
        nodes.append(helper.make_node("Gemm", [into, f"layer{2 * at}", f"layer{2 * at + 1}"], [out]))
        if out != "logits":
            nodes.append(helper.make_node("Relu", [out], [f"hidden{at}"]))
    nodes += [
        helper.make_node("Softmax", ["logits"], [scores], axis=1),
        helper.make_node("ArgMax", ["logits"], ["place"], axis=1, keepdims=0),
        helper.make_node("Gather", ["classes", "place"], [label]),
    ]
    kind = TensorProto.STRING if text else TensorProto.INT64
    outputs = [
        helper.make_tensor_value_info(label, kind, ["rows_many"]),
        helper.make_tensor_value_info(scores, TensorProto.FLOAT, ["rows_many", len(classes)]),
    ]
    graph = helper.make_graph(nodes, "network", graph_inputs(inputs), outputs, constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto)
    return proto
