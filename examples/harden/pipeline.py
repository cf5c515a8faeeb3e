"""Harden: four ways to a model that withstands more than another one, as a stock Kubeflow pipeline.

Compile it with the stock SDK (kfp 2.x):

    python examples/harden/pipeline.py      # writes pipeline.yaml beside this file

`tally harden MODEL` submits it and judges what comes out beside the original. Whatever the hub is, this file
does not know it: rows and model come in by URI, the hardened model goes out as an MLflow model in ONNX. What
the steps do stands in `rows.py`, `network.py` and `graphs.py`; kfp copies it into each step.

``about`` says what the model's record and the gate's policy know: ``of`` (NAME@VERSION), ``label`` (the
column), ``domain`` (what an attacker may change), ``inputs``, and ``names`` of the outputs (label, scores).
``settings`` are the way's own: ``epochs``, ``temperature``, ``bits``, ``sigma``, ``draws``, ``base``.
"""

import sys
from pathlib import Path
from typing import NamedTuple

from graphs import (
    answers_of,
    around,
    asked,
    element_type,
    example_of,
    graph_inputs,
    joined,
    keep_model,
    load_graph,
    places,
    signature_of,
    smoothed,
    squeezed,
)
from kfp import compiler, dsl
from kfp.dsl import Dataset, Input, Model, Output
from network import (
    as_network,
    backward,
    batch_of,
    forward,
    in_units,
    learn,
    network_graph,
    new_layers,
    turns,
)
from rows import chosen_columns, fingerprints, quiet, read_rows, set_apart

IMAGE = "python:3.11"
TABLES = ["numpy", "pandas", "pyarrow", "threadpoolctl"]
MODELS = ["mlflow", "onnx", "onnxruntime", "pyyaml"]
ART = ["adversarial-robustness-toolbox", "scikit-learn"]
READ = [quiet, chosen_columns, read_rows]
KEEP = [element_type, places, signature_of, example_of, keep_model]
NETWORK = [
    new_layers,
    forward,
    backward,
    as_network,
    batch_of,
    in_units,
    learn,
    turns,
    joined,
    graph_inputs,
    network_graph,
]


@dsl.component(base_image=IMAGE, packages_to_install=TABLES, additional_funcs=[fingerprints, set_apart])
def part(
    data: Input[Dataset], held_out: Input[Dataset], about: dict, share: float, seed: int,
    train: Output[Dataset], test: Output[Dataset],
):  # fmt: skip
    """Rows to train on and rows to judge by, none of them in both."""
    known = set_apart(data.path, held_out.path, about["label"], share, seed, train.path, test.path)
    for out, name, count in zip((train, test), ("train", "test"), known, strict=True):
        out.metadata |= {"part": name, "rows": count}
        print(f"{name}: {count} rows")


@dsl.component(
    base_image=IMAGE,
    packages_to_install=[*TABLES, *MODELS, *ART],
    additional_funcs=[*READ, *KEEP, *NETWORK],
)
def adversarial(
    rows: Input[Dataset], about: dict, settings: dict, eps: float, seed: int, hardened: Output[Model]
):
    """Adversarial training (Madry et al. 2018) with ART: a network that learns from attacks on itself.

    Each batch is replaced by its projected-gradient attack within ``eps`` (L-infinity). The network is a new
    one; of the original it keeps the inputs, and the outputs' names.
    """
    import contextlib
    import io

    import numpy as np

    quiet()
    from art.attacks.evasion import ProjectedGradientDescentNumpy
    from art.defences.trainer import AdversarialTrainer

    inputs, epochs, steps = about["inputs"], settings["epochs"], 5
    known = read_rows(rows.path, about["label"], about["domain"], inputs)
    network = as_network(known.x.shape[1], len(known.classes), seed)
    x, y = in_units(known), np.eye(len(known.classes), dtype=np.float32)[known.y]
    batch = batch_of(len(x))
    network.fit(x, y, batch_size=batch, nb_epochs=min(5, epochs))
    width = np.where(known.high > known.low, known.high - known.low, 1.0)
    # One radius for each feature, 0 for those that nobody can change.
    radius = (eps * known.reach / width)[None].astype(np.float32)
    attack = ProjectedGradientDescentNumpy(
        network, eps=radius, eps_step=np.maximum(2.5 * radius / steps, 1e-12), max_iter=steps,
        num_random_init=1, batch_size=batch, verbose=False,
    )  # fmt: skip
    trainer = AdversarialTrainer(network, attack, ratio=1.0)
    # ART draws from numpy's global state, and has progress bars that no argument turns off.
    np.random.seed(seed)
    fastest = network.rate
    for share, count in turns(len(x), epochs):
        network.rate = fastest * share
        with contextlib.redirect_stderr(io.StringIO()):
            trainer.fit(x, y, batch_size=batch, nb_epochs=count)
    right = float((network.predict(x).argmax(axis=1) == known.y).mean())
    proto = network_graph(network, known, inputs, about["names"])
    notes = {"how": "adversarial", "of": about["of"], "eps": eps, "seed": seed, **settings}
    keep_model(proto, notes, rows.path, known, inputs, {"train_accuracy": right}, hardened)
    print(f"adversarial training at eps {eps:g}: accuracy {right:.3f} on its own rows")


@dsl.component(
    base_image=IMAGE,
    packages_to_install=[*TABLES, *MODELS, *ART],
    additional_funcs=[*READ, *KEEP, *NETWORK, load_graph, asked, answers_of],
)
def distill(
    rows: Input[Dataset], model: Input[Model], about: dict, settings: dict, eps: float, seed: int,
    hardened: Output[Model],
):  # fmt: skip
    """Distillation (Papernot et al. 2016) with ART: a network learns the original's soft answers.

    It learns them on the rows and on three noisy copies of them (Gaussian, of deviation ``eps``). No defence
    by itself: Carlini and Wagner (2017) broke it. What it is worth, the verdict says.
    """
    import numpy as np

    quiet()
    from art.defences.transformer.evasion import DefensiveDistillation

    inputs, warmth = about["inputs"], settings["temperature"]
    known, proto = read_rows(rows.path, about["label"], about["domain"], inputs), load_graph(model.path)
    _, _, chances = answers_of(proto, known, inputs)
    noise = np.random.default_rng(seed).standard_normal((3, *known.x.shape)) * (eps * known.reach)
    noisy = np.clip(known.x + noise, known.low, known.high).astype(np.float32)
    known.x = np.concatenate([known.x, *noisy])
    told = np.log(np.maximum(chances(known.x), 1e-6)) / warmth
    told = np.exp(told - told.max(axis=1, keepdims=True))
    told = (told / told.sum(axis=1, keepdims=True)).astype(np.float32)
    # ART asks its teacher for all rows at once, in their order: what it says is known by now.
    teacher = as_network(known.x.shape[1], len(known.classes), seed)
    teacher.predict = lambda x, batch_size=128, **kwargs: told
    student = as_network(known.x.shape[1], len(known.classes), seed, warmth)
    x, fastest = in_units(known), student.rate
    for share, count in turns(len(x), settings["epochs"]):
        student.rate = fastest * share
        DefensiveDistillation(teacher, batch_size=batch_of(len(x)), nb_epochs=count)(x, student)
    said = student.predict(x).argmax(axis=1)
    agreed = float((said == told.argmax(axis=1)).mean())
    right = float((said[: len(known.y)] == known.y).mean())
    notes = {"how": "distill", "of": about["of"], "eps": eps, "seed": seed, **settings}
    made = network_graph(student, known, inputs, about["names"])
    figures = {"train_accuracy": right, "agreement": agreed}
    keep_model(made, notes, rows.path, known, inputs, figures, hardened)
    print(f"distilled at temperature {warmth:g}: says what {about['of']} says of {agreed:.1%} of the rows")


@dsl.component(
    base_image=IMAGE,
    packages_to_install=[*TABLES, *MODELS],
    additional_funcs=[*READ, *KEEP, load_graph, around, squeezed, asked],
)
def preprocess(
    rows: Input[Dataset], model: Input[Model], about: dict, settings: dict, eps: float, seed: int,
    hardened: Output[Model],
):  # fmt: skip
    """Feature squeezing (Xu et al. 2018): the original's own graph behind inputs of 2^bits levels.

    No defence by itself: an attacker who knows of it aims across the levels (He et al. 2017).
    """
    import numpy as np

    quiet()
    inputs, bits = about["inputs"], settings["bits"]
    known = read_rows(rows.path, about["label"], about["domain"], inputs)
    original = load_graph(model.path)
    proto = squeezed(original, known, inputs, bits)
    before, after = (asked(graph, inputs)(known.x[:2000]) for graph in (original, proto))
    name = next(iter(before))
    same = float(np.mean(np.asarray(before[name]) == np.asarray(after[name])))
    notes = {"how": "preprocess", "of": about["of"], "eps": eps, "seed": seed, "bits": bits}
    keep_model(proto, notes, rows.path, known, inputs, {"unchanged_answers": same}, hardened)
    print(f"{2**bits} levels: {name} is the same for {same:.1%} of the rows")


@dsl.component(
    base_image=IMAGE,
    packages_to_install=[*TABLES, *MODELS, *ART],
    additional_funcs=[*READ, *KEEP, *NETWORK, load_graph, around, smoothed, asked, answers_of],
)
def smooth(
    rows: Input[Dataset], model: Input[Model], about: dict, settings: dict, eps: float, seed: int,
    hardened: Output[Model],
):  # fmt: skip
    """Randomized smoothing (Cohen et al. 2019) with fixed noise: the mean answer of a model under noise.

    Asked is the ``original``, or a ``network`` that learned from noisy rows, as the paper does.
    """
    import numpy as np

    quiet()
    inputs, names, sigma, draws = about["inputs"], about["names"], settings["sigma"], settings["draws"]
    known = read_rows(rows.path, about["label"], about["domain"], inputs)
    if settings["base"] == "original":
        proto = load_graph(model.path)
        names = list(answers_of(proto, known, inputs)[:2])
    else:
        network = as_network(known.x.shape[1], len(known.classes), seed)
        draw = np.random.default_rng(seed)
        width = np.where(known.high > known.low, known.high - known.low, 1.0)
        spread = (sigma * known.reach / width).astype(np.float32)

        def noisy(x):
            return np.clip(x + draw.standard_normal(x.shape, np.float32) * spread, 0, 1)

        learn(network, known, settings["epochs"], noisy)
        proto = network_graph(network, known, inputs, names)
    made = smoothed(proto, known, inputs, sigma, draws, seed, names)
    said = asked(made, inputs)
    parts = [said(known.x[at : at + 256])[names[1]] for at in range(0, len(known.x), 256)]
    right = float((np.concatenate(parts).argmax(axis=1) == known.y).mean())
    notes = {"how": "smooth", "of": about["of"], "eps": eps, "seed": seed, **settings}
    keep_model(made, notes, rows.path, known, inputs, {"train_accuracy": right}, hardened)
    print(f"the mean over {draws} draws of noise {sigma:g}: accuracy {right:.3f} on the rows")


class Outputs(NamedTuple):
    hardened: Model
    train: Dataset
    test: Dataset


@dsl.pipeline(name="harden", description="A model that withstands more than another one.")
def harden(  # noqa: PLR0913, PLR0917 (a pipeline's parameters are its interface)
    model: str,
    data: str,
    held_out: str,
    how: str,
    about: dict,
    settings: dict,
    eps: float = 0.1,
    seed: int = 7,
    share: float = 0.2,
) -> Outputs:
    original = dsl.importer(artifact_uri=model, artifact_class=Model).output
    table = dsl.importer(artifact_uri=data, artifact_class=Dataset).output
    apart = dsl.importer(artifact_uri=held_out, artifact_class=Dataset).output
    parts = part(data=table, held_out=apart, about=about, share=share, seed=seed)
    rows = parts.outputs["train"]
    said = {"rows": rows, "about": about, "settings": settings, "eps": eps, "seed": seed}
    with dsl.If(how == "adversarial"):
        first = adversarial(**said)
    with dsl.Elif(how == "distill"):
        second = distill(model=original, **said)
    with dsl.Elif(how == "preprocess"):
        third = preprocess(model=original, **said)
    with dsl.Else():
        fourth = smooth(model=original, **said)
    made = dsl.OneOf(*(step.outputs["hardened"] for step in (first, second, third, fourth)))
    return Outputs(hardened=made, train=rows, test=parts.outputs["test"])


if __name__ == "__main__":
    target = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("pipeline.yaml")
    compiler.Compiler().compile(harden, str(target))
