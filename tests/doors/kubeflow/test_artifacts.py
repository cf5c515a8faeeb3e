"""Artifacts that the stock ``kfp.Client`` gives to a pipeline."""

from __future__ import annotations


def test_artifacts_are_given_to_a_pipeline_or_not(script):
    said = script("""
import urllib.request

@dsl.component
def size(data: dsl.Input[dsl.Dataset] = None) -> int:
    return len(open(data.path).read()) if data else -1

@dsl.component
def write(made: dsl.Output[dsl.Dataset]):
    with open(made.path, "w") as file:
        file.write("four")

@dsl.pipeline(name="perhaps")
def perhaps(data: dsl.Input[dsl.Dataset] = None) -> int:
    write()
    return size(data=data).output

compiler.Compiler().compile(perhaps, "perhaps.yaml")

def given(**arguments):
    run = client.create_run_from_pipeline_package("perhaps.yaml", arguments)
    assert done(run.run_id).state == "SUCCEEDED"
    # kfp 2.17 has no words for what tasks put out, and passes over it.
    with urllib.request.urlopen(f"{url}/apis/v2beta1/runs/{run.run_id}") as answer:
        tasks = json.load(answer)["run_details"]["task_details"]
    return {task["display_name"]: task["outputs"] for task in tasks if "outputs" in task}

nothing = given()
(made,) = nothing["write"]["artifacts"][0]["artifacts"]
each = (nothing, given(data=None), given(data=made["uri"]))
said["put_out"] = [one["size"]["parameters"][0]["value"] for one in each]
said["root"] = nothing["root"]["parameters"][0]["value"]
said["lost"] = refused(given, data="tally://artifacts/sha256:" + "0" * 64)
""")
    assert said["put_out"] == [-1, -1, 4]
    assert said["root"] == -1
    assert said["lost"][:2] == [404, 5]
