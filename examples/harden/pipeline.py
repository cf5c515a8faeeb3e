"""Harden: four ways to a model that withstands more than another one, as a stock Kubeflow pipeline.

Compile it with the stock SDK (kfp 2.x):

    python examples/harden/pipeline.py      # writes pipeline.yaml beside this file

`tally harden MODEL` submits it and judges what comes out beside the original. Whatever the hub is, this file
does not know it: rows and model come in by URI, the hardened model goes out as an MLflow model in ONNX. What
the steps do stands in the files beside this one; kfp copies it into each step.

``about`` says what the model's record and the gate's policy know: ``of`` (NAME@VERSION), ``label`` (the
column), ``domain`` (what an attacker may change), ``inputs``, ``names`` of the outputs (label, scores), and
whether the rows to judge by were ``taken_from`` the data. ``settings`` are the way's own: ``epochs``,
``temperature``, ``kind``, ``bits``, ``window``, ``quality``, ``sigma``, ``draws``, ``base``.
"""

import sys
from pathlib import Path
from typing import NamedTuple

from before import behind, compressed, filtered, picture_of, quantization, seen_as_pictures, squeezed
from domain import allowed, as_attack, bounds, category
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
from smoothing import smoothed

IMAGE = "python:3.11"
TABLES = ["numpy", "pandas", "pyarrow", "threadpoolctl"]
MODELS = ["mlflow", "onnx", "onnxruntime", "pyyaml"]
ART = ["adversarial-robustness-toolbox", "scikit-learn"]
READ = [quiet, chosen_columns, read_rows]
RULES = [bounds, allowed, category]
BEFORE = [behind, squeezed, picture_of, seen_as_pictures, filtered, quantization, compressed]
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
    told = set_apart(data.path, held_out.path, about, share, seed, train.path, test.path)
    test.metadata |= {"part": "test", "rows": told["test"], "found": told["found"]}
    train.metadata |= {"part": "train", "rows": told["train"], "left_out": told["left_out"]}
    print(f"train: {told['train']} rows; {told['left_out']} more are among those to judge by, and left out")
    print(f"test: {told['test']} rows, of which {told['found']} were found in the data")


@dsl.component(
    base_image=IMAGE,
    packages_to_install=[*TABLES, *MODELS, *ART],
    additional_funcs=[*READ, *RULES, as_attack, *KEEP, *NETWORK],
)
def adversarial(
    rows: Input[Dataset], about: dict, settings: dict, eps: float, seed: int, hardened: Output[Model]
):
    """Adversarial training (Madry et al. 2018) with ART: a network that learns from attacks on itself.

    Each batch is replaced by what projected gradient makes of it within ``eps`` (L-infinity) and within the
    domain's rules. The network is a new one; of the original it keeps the inputs, and the outputs' names.
    """
    import contextlib
    import io

    import numpy as np

    quiet()
    from art.defences.trainer import AdversarialTrainer

    inputs, epochs = about["inputs"], settings["epochs"]
    known = read_rows(rows.path, about["label"], about["domain"], inputs)
    network = as_network(known, seed)
    y = np.eye(len(known.classes), dtype=np.float32)[known.y]
    network.fit(known.x, y, batch_size=batch_of(len(y)), nb_epochs=min(5, epochs))
    trainer = AdversarialTrainer(network, as_attack(network, known, eps, 5, seed), ratio=1.0)
    np.random.seed(seed)  # ART draws from numpy's global state

    def fit(x, y, batch, count):
        with contextlib.redirect_stderr(io.StringIO()):  # ART has progress bars that no argument turns off
            trainer.fit(x, y, batch_size=batch, nb_epochs=count)

    learn(network, known, epochs, fit)
    right = float((network.predict(known.x).argmax(axis=1) == known.y).mean())
    proto = network_graph(network, known, inputs, about["names"])
    notes = {"how": "adversarial", "of": about["of"], "eps": eps, "seed": seed, **settings}
    keep_model(proto, notes, rows.path, known, inputs, {"train_accuracy": right}, hardened)
    print(f"adversarial training at eps {eps:g}: accuracy {right:.3f} on its own rows")


@dsl.component(
    base_image=IMAGE,
    packages_to_install=[*TABLES, *MODELS, *ART],
    additional_funcs=[*READ, *RULES, *KEEP, *NETWORK, load_graph, asked, answers_of],
)
def distill(
    rows: Input[Dataset], model: Input[Model], about: dict, settings: dict, eps: float, seed: int,
    hardened: Output[Model],
):  # fmt: skip
    """Distillation (Papernot et al. 2016) with ART: a network learns the original's soft answers.

    It learns them on the rows and on three noisy copies of them (Gaussian, of deviation ``eps``), kept to
    what the domain allows. No defence by itself: Carlini and Wagner (2017) broke it.
    """
    import numpy as np

    quiet()
    from art.defences.transformer.evasion import DefensiveDistillation

    inputs, warmth = about["inputs"], settings["temperature"]
    known, proto = read_rows(rows.path, about["label"], about["domain"], inputs), load_graph(model.path)
    _, _, chances = answers_of(proto, known, inputs)
    noise = np.random.default_rng(seed).standard_normal((3, *known.x.shape)) * (eps * known.reach)
    plain = len(known.y)
    known.x = np.concatenate([known.x, *(allowed(known.x + n, known.x, known, np.inf) for n in noise)])
    told = np.log(np.maximum(chances(known.x), 1e-6)) / warmth
    told = np.exp(told - told.max(axis=1, keepdims=True))
    told = (told / told.sum(axis=1, keepdims=True)).astype(np.float32)
    # ART asks its teacher for all rows at once, in their order: what it says is known by now.
    teacher = as_network(known, seed)
    teacher.predict = lambda x, batch_size=128, **kwargs: told
    student = as_network(known, seed, warmth)

    def fit(x, y, batch, count):
        DefensiveDistillation(teacher, batch_size=batch, nb_epochs=count)(x, student)

    learn(student, known, settings["epochs"], fit)
    said = student.predict(known.x).argmax(axis=1)
    agreed = float((said == told.argmax(axis=1)).mean())
    right = float((said[:plain] == known.y).mean())
    notes = {"how": "distill", "of": about["of"], "eps": eps, "seed": seed, **settings}
    made = network_graph(student, known, inputs, about["names"])
    figures = {"train_accuracy": right, "agreement": agreed}
    keep_model(made, notes, rows.path, known, inputs, figures, hardened)
    print(f"distilled at temperature {warmth:g}: says what {about['of']} says of {agreed:.1%} of the rows")


@dsl.component(
    base_image=IMAGE,
    packages_to_install=[*TABLES, *MODELS],
    additional_funcs=[*READ, *KEEP, load_graph, around, *BEFORE, asked],
)
def preprocess(
    rows: Input[Dataset], model: Input[Model], about: dict, settings: dict, eps: float, seed: int,
    hardened: Output[Model],
):  # fmt: skip
    """The original's own graph behind one that rounds (feature squeezing), a median filter, or JPEG.

    No defence by itself: an attacker who knows of it aims through it (He et al. 2017; Athalye et al. 2018).
    """
    import numpy as np

    quiet()
    inputs, domain, kind = about["inputs"], about["domain"], settings["kind"]
    known = read_rows(rows.path, about["label"], domain, inputs)
    original = load_graph(model.path)
    if kind == "squeeze":
        proto = squeezed(original, known, inputs, settings["bits"])
    elif kind == "median":
        proto = filtered(original, inputs, domain, settings["window"])
    else:
        proto = compressed(original, inputs, domain, settings["quality"])
    before, after = (asked(graph, inputs)(known.x[:2000]) for graph in (original, proto))
    name = next(iter(before))
    same = float(np.mean(np.asarray(before[name]) == np.asarray(after[name])))
    notes = {"how": "preprocess", "of": about["of"], "eps": eps, "seed": seed, **settings}
    keep_model(proto, notes, rows.path, known, inputs, {"unchanged_answers": same}, hardened)
    print(f"behind {kind}: {name} is the same for {same:.1%} of the rows")


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
        network, draw = as_network(known, seed), np.random.default_rng(seed)
        spread = (sigma * known.reach).astype(np.float32)

        def fit(x, y, batch, count):
            for _ in range(count):
                noisy = x + draw.standard_normal(x.shape, np.float32) * spread
                network.fit(np.clip(noisy, known.low, known.high), y, batch_size=batch)

        learn(network, known, settings["epochs"], fit)
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
