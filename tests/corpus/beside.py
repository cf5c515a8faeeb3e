"""In the kfp SDK's own Python: compile every pipeline of the corpus, and run each case with kfp.local.

    .venv-kfp/bin/python tests/corpus/beside.py PIPELINES OUT FILES

Writes ``OUT/MODULE/FUNCTION.yaml``, and ``OUT/local.json``: by the case's name its state, its outputs and
what its steps said, as :mod:`tests.corpus.runs` shows them of the hub.
"""

import contextlib
import importlib
import io
import json
import logging
import os
import re
import sys
import tempfile
import warnings
from pathlib import Path

warnings.simplefilter("ignore")  # kfp's own, about what its next version will do

SAID = re.compile(r"^ *said: (.*)$", re.MULTILINE)


def shown(value):
    """An output as the corpus writes it down: a value as it is, an artifact as what is in it."""
    from kfp import dsl

    if isinstance(value, list) and value and all(isinstance(one, dsl.Artifact) for one in value):
        return [shown(one) for one in value]
    if not isinstance(value, dsl.Artifact):
        return value
    path, metadata = Path(value.custom_path or value.path), dict(value.metadata)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return {
            "files": {str(file.relative_to(path)): file.read_text() for file in files},
            "metadata": metadata,
        }
    text = path.read_text() if path.is_file() else ""
    return {"text": text, "metadata": metadata} if text else {"metadata": metadata}


def run(pipeline, params):
    """One case with kfp.local, at its quickest setting."""
    from kfp import local

    printed, outputs, error = io.StringIO(), {}, ""
    with tempfile.TemporaryDirectory() as root:
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=root)
        with contextlib.redirect_stdout(printed):
            try:
                ended = pipeline(**params)
                outputs = {name: shown(value) for name, value in ended.outputs.items()}
            except Exception as wrong:  # noqa: BLE001  reason: whatever it does wrong is what is to be known
                error = f"{type(wrong).__name__}: {wrong}"
    return {
        "state": "failed" if error else "succeeded",
        "outputs": outputs,
        "said": sorted(SAID.findall(printed.getvalue())),
        "error": error,
    }


def compile_all(modules, out):
    """Every pipeline that a case names, and what its platform is told."""
    import yaml
    from kfp import compiler

    for name, module in modules.items():
        (out / name).mkdir(parents=True)
        for function in sorted({case["pipeline"] for case in module.CASES}):
            file = out / name / f"{function}.yaml"
            compiler.Compiler().compile(getattr(module, function), str(file))
            if platform := getattr(module, "PLATFORMS", {}).get(function):
                file.write_text(file.read_text() + "---\n" + yaml.safe_dump(platform))


def main(pipelines, out, files):
    """All of it."""
    logging.disable(logging.CRITICAL)
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    sys.path.insert(0, str(pipelines))
    modules = {file.stem: importlib.import_module(file.stem) for file in sorted(pipelines.glob("*.py"))}
    compile_all(modules, out)
    found = {}
    for name, module in modules.items():
        for n, case in enumerate(module.CASES):
            params = json.loads(json.dumps(case["params"]).replace("{FILES}", str(files)))
            found[f"{name}-{case['pipeline']}-{n}"] = run(getattr(module, case["pipeline"]), params)
    (out / "local.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*(Path(word) for word in sys.argv[1:]))
