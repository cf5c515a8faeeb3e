"""Two pipelines with a parameter worth searching. `python bowl.py` compiles them beside this file."""

from pathlib import Path

from kfp import compiler, dsl


@dsl.component(install_kfp_package=False)
def bowl(x: float, n: int, seconds: float, metrics: dsl.Output[dsl.Metrics]):
    """Lowest at x = 3 and n = 7; where x is above 9 it fails."""
    import time

    time.sleep(seconds)
    if x > 9:
        raise ValueError("x is too large")
    metrics.log_metric("loss", (x - 3) ** 2 + (n - 7) ** 2)


@dsl.component(install_kfp_package=False)
def curve(x: float, steps: int, seconds: float) -> float:
    """Logs a loss to MLflow at each step, as its REST has it: the client takes a while to import."""
    import json
    import os
    import time
    import urllib.request

    def post(path: str, body: dict) -> dict:
        asked = urllib.request.Request(  # noqa: S310  reason: the hub's own address
            os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/" + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310  reason: as above
            return json.load(answer)

    tags = json.loads(os.environ["MLFLOW_RUN_CONTEXT"])
    begun = {
        "experiment_id": os.environ["MLFLOW_EXPERIMENT_ID"],
        "start_time": int(time.time() * 1000),
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
    }
    run = post("runs/create", begun)["run"]["info"]["run_id"]
    loss = 0.0
    for step in range(1, steps + 1):
        loss = x * x + 1 / step
        now = int(time.time() * 1000)
        said = {"run_id": run, "key": "loss", "value": loss, "timestamp": now, "step": step}
        post("runs/log-metric", said)
        time.sleep(seconds)
    post("runs/update", {"run_id": run, "status": "FINISHED", "end_time": int(time.time() * 1000)})
    return loss


@dsl.pipeline(name="bowl")
def bowls(x: float, n: int, seconds: float = 0.0):
    """One step."""
    bowl(x=x, n=n, seconds=seconds).set_caching_options(False)


@dsl.pipeline(name="curve")
def curves(x: float, steps: int = 9, seconds: float = 0.2) -> float:
    """One step, whose metric can be read while it runs."""
    return curve(x=x, steps=steps, seconds=seconds).output


if __name__ == "__main__":
    here = Path(__file__).parent
    compiler.Compiler().compile(bowls, str(here / "bowl.yaml"))
    compiler.Compiler().compile(curves, str(here / "curve.yaml"))
