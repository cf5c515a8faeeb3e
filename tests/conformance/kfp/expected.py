"""What is right for Kubeflow's golden pipelines, by hand from their source.

Names are paths below ``test_data/sdk_compiled_pipelines/valid``, without ``.yaml``. Where chance decides,
only what holds either way is written down.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.conformance.kfp.chance import (
    accuracies,
    accuracy,
    charts,
    coin_and_number,
    irises,
    lucky_number,
    nested_coins,
    one_coin,
    says_the_coin,
)
from tests.conformance.kfp.wanted import Wanted, calls, file, gives, one_of, prints, words

__all__ = ["WANTED"]

CONFIGURED = words(
    "--epochs",
    "3",
    "--model_path",
    "out:artifacts/model",
    "--model_metadata",
    "{}",
    "--model_config_path",
    "out:params/model_config_path",
)
CONCATENATED = words("prefix-oneout:artifacts/text2", "--output_path", "out:params/output_path")
CHOSEN = words("given", "--dataset", "out:artifacts/dataset", "--output_path", "out:params/output_path")
ONE_OF = says_the_coin("flip-coin-pipeline/flip-coin", "print-artifact")
WORLD = "tally://runs/{run essential/pipeline_with_outputs}/Output"
FOO = {"crust-comp": "foo"}
HELLO = Wanted(logs={"echo": "hello world"})
FAILS = {"exit-handler-1/fail-op": "failed", "print-op": "succeeded"}
NOT_TOLD = "Pod annotation is None but is supposed to be None."
TRAINED = (
    "dataset_one_contents: message || dataset_two_contents: message || message: message || "
    "input_bool: True, type <class 'bool'> || input_dict: {'A': 1, 'B': 2}, type <class 'dict'> || "
    "input_list: ['a', 'b', 'c'], type <class 'list'> \n"
)


def all_of(prefix: str, *steps: str) -> Wanted:
    """All these steps succeed: they compare by themselves what they are given, and make nothing."""
    return Wanted(steps=dict.fromkeys((f"{prefix}{step}" for step in steps), "succeeded"))


WANTED: Mapping[str, Wanted] = {
    "arguments_parameters": Wanted(params={"param2": "there"}, logs={"echo": "hello-there"}),
    "artifacts_complex": Wanted(outputs={"datasets": [file("2"), file("4"), file("6")], "sum": file("42")}),
    "artifacts_simple": gives([file("2"), file("4"), file("6")]),
    "collected_artifacts": Wanted(
        logs={
            "collecting-artifacts/for-loop-1[2]/create-file": "s3",
            "collecting-artifacts/for-loop-1[1]/for-loop-2[0]/single-node-dag/create-dataset": "x",
        }
    ),
    "component_with_metadata_fields": Wanted(
        params={
            "dataset_a": WORLD,
            "dataset_b": "tally://runs/{run artifacts_complex}/sum",
        },
        outputs={"Output": "world\n42", "out_dataset": file("world\n42")},
    ),
    "component_with_task_final_status_GH-12033": Wanted(  # nothing gives it a status: whoever starts it does
        params={"status": {"state": "CANCELLED", "pipelineTaskName": "t", "pipelineJobResourceName": "j"}},
        logs={"exit-comp": "PipelineTaskFinalStatus(state='CANCELLED', pipeline_job_resource_name='j'"},
    ),
    "conditional_producer_and_consumers": gives(
        10
    ),  # of [1, 2, 3] those of at least 2, doubled: 4 + 6; one turn made none
    "container_io": calls(
        "my_program", {"output_path": words("a b", "--output_path", "out:params/output_path")}, text="a b"
    ),
    "container_with_artifact_output": calls(
        "run.sh",
        {
            "model": file(CONFIGURED),
            "model_config_path": CONFIGURED,
        },
        num_epochs=3,
    ),
    "container_with_concat_placeholder": calls(
        "my_program",
        {
            "output_path": CONCATENATED,
            "text2": file(CONCATENATED),
        },
        text1="one",
    ),
    "container_with_if_placeholder": calls(
        "my_program",
        {
            "output_path": CHOSEN,
            "dataset": file(CHOSEN),
        },
        optional_input="given",
    ),
    "container_with_placeholder_in_fstring": calls(
        "my_program",
        {"output_artifact": {"files": {"0": words("prefix-text!", "out:artifacts/output_artifact/0")},
                             "metadata": {}}},
    ),
    "create_pod_metadata_complex": Wanted(  # one of its steps wants to be told what nobody tells it, anywhere
        "failed",
        steps={"validate-no-pod-metadata": "failed"},
        logs={"validate-no-pod-metadata": NOT_TOLD},
    ),
    "critical/add_numbers": gives(12, a=5, b=7),
    "critical/artifact_cache": Wanted(logs=FOO),
    "critical/artifact_crust": Wanted(logs=FOO),
    "critical/collected_parameters": Wanted(
        logs={"consume-ids": "Consuming: model_id_s1\nConsuming: model_id_s2\nConsuming: model_id_s3"}
    ),
    "critical/component_with_optional_inputs": prints(component_op="input3: None, type: <class 'NoneType'>"),
    "critical/container_component_with_no_inputs": prints(hello_world_container="hello world"),
    "critical/flip_coin": Wanted(rule=coin_and_number),
    "critical/if_else_with_oneof_artifacts": Wanted(rule=ONE_OF),
    "critical/missing_kubernetes_optional_inputs": prints(log_message="baseline task"),
    "critical/mixed_parameters": prints(crust_comp="sum : 3"),
    "critical/multiple_artifacts_namedtuple": prints(crust_comp="ds1:  foo\nds2:  bar"),
    "critical/multiple_parameters_namedtuple": prints(crust_comp="val1:  foo\nval2:  bar"),
    "critical/notebook_component_simple": Wanted(
        packages="nbclient, ipykernel<7", logs={"run-train-notebook": "Execution complete"}
    ),
    "critical/parallel_for_after_dependency": Wanted(
        logs={"for-loop-2[2]/print-op": "foo", "print-op-2": "bar", "print-op-3": "baz"}
    ),
    "critical/parameter_cache": Wanted(logs=FOO),
    "critical/parameter_oneof": Wanted(
        rule=says_the_coin("mantle/core/flip-coin", "crust-comp", "input : Got {}!")
    ),
    "critical/parameters_simple": gives([2, 4, 6]),
    "critical/pipeline_with_artifact_custom_path": Wanted(steps={"validate-input-artifact": True}),
    "critical/pipeline_with_env": prints(print_env="val3", print_env_op="ENV1 val1\nENV2 None"),
    "critical/pipeline_with_importer_workspace": Wanted(
        outputs={
            "train_result": "123",
            "dir_result": "part-000.txt,part-001.txt",
        },
        logs={"import-stage/train": "Dataset: Hello from producer file"},
    ),
    "critical/pipeline_with_placeholders": prints(print_all_placeholders="pipeline-with-placeholders, "),
    "critical/pipeline_with_pod_metadata": Wanted(
        steps={
            "validate-no-pod-metadata": True,
            **{f"validate-pod-metadata-task-{name}": True for name in "abcd"},
        }
    ),
    "critical/pipeline_with_retry": Wanted(params={"a": 1.0, "b": 7.0}, steps={"add": 8.0}),
    "critical/pipeline_with_submit_request": all_of(  # without MULTI_USER they ask nobody
        "submit-request", "", "-2"
    ),
    "critical/pipeline_with_workspace": gives("Hello from workspace!"),
    "critical/producer_consumer_param_pipeline": prints(
        consumer="Hello world, this is an output parameter"
    ),
    "critical/pythonic_artifacts_test_pipeline": Wanted(
        artifacts={
            "gen-data:Output": file("some data", length=9),
            "train-model:Output": file("model trained"),
        }
    ),
    "critical/two_step_pipeline_containerized": prints(component2="Hello KFP Containerized!"),
    "cross_loop_after_topology": Wanted(
        logs={"for-loop-10[1]/print-op-5": "five", "for-loop-12[1]/for-loop-14[1]/print-op-7": "seven"}
    ),
    "env-var": gives("C.UTF-8", env_var="LANG"),
    "essential/component_with_env_variable": gives("env_var_value"),
    "essential/component_with_pip_index_urls": Wanted(packages="yapf", logs={"component-op": "yapf_api"}),
    "essential/component_with_pip_install": Wanted(
        packages="yapf", logs={"component-with-pip-install": "yapf_api"}
    ),
    "essential/component_with_pip_install_in_venv": Wanted(
        packages="yapf", logs={"component-with-pip-install": "yapf_api"}
    ),
    "essential/concat_message": gives("Hello World!", message1="Hello ", message2="World!"),
    "essential/container_no_input": prints(container_no_input="hello world"),
    "essential/dict_input": Wanted(params={"struct": {"A": 1}}, logs={"dict-input": "{'A': 1}"}),
    "essential/embedded_artifact": all_of("read-embedded-artifact-", "dir", "file"),
    "essential/iris_pipeline_compiled": Wanted(
        packages="pandas==2.2.0, scikit-learn==1.4.0",
        artifacts={
            "normalize-dataset:normalized_iris_dataset": file(None, state="Normalized"),
            "train-model:model": file(None, framework="scikit-learn"),
        },
        rule=irises,
    ),
    "essential/lightweight_python_functions_pipeline": Wanted(
        params={"message": "message"},
        artifacts={
            "preprocess:output_dataset_one": file("message"),
            "preprocess:output_dataset_two_path": file("message"),
            "train:model": file("".join(f"Step {n}\n{TRAINED}\n=====\n" for n in range(100)), accuracy=0.9),
        },
    ),
    "essential/lightweight_python_functions_with_outputs": Wanted(
        params={
            "first_message": "Hello", "second_message": " World", "first_number": 10, "second_number": 20,
        },
        steps={"concat-message": "Hello World", "add-numbers": 30, "output-named-tuple": "123"},
    ),
    "essential/pipeline_with_after": prints(print_text="1st task", print_text_3="3rd task"),
    "essential/pipeline_with_condition": Wanted(rule=one_coin),
    "essential/pipeline_with_metrics_outputs": Wanted(
        rule=accuracies("output-metrics", "for-loop-2[0]/output-metrics-2", "for-loop-2[1]/output-metrics-2")
    ),
    "essential/pipeline_with_nested_conditions": Wanted(rule=nested_coins),
    "essential/pipeline_with_nested_conditions_yaml": Wanted(rule=coin_and_number),
    "essential/pipeline_with_outputs": gives(file("world\n")),
    "essential/pipeline_with_params_containing_format": Wanted(
        logs={
            "print-op": "Hello KFP",
            "for-loop-2[1]/print-op2": "2 and KFP.",
            "print-op-2": "Hello KFP, again.",
        }
    ),
    "essential/pipeline_with_reused_component": Wanted(steps={"add-numbers-3": 17}),
    "essential/placeholder_with_if_placeholder_none_input_value": prints(
        component_with_optional_inputs="--arg0 input0 --arg2 default value"
    ),
    "failing/fail_v2": Wanted("failed", logs={"fail": "SystemExit: 1"}),
    "failing/pipeline_with_exit_handler": Wanted(
        "failed",
        steps=FAILS,
        logs={"exit-handler-1/fail-op": "Task failed.", "print-op": "Exit handler has worked!"},
    ),
    "failing/pipeline_with_multiple_exit_handlers": Wanted(
        "failed",
        steps=FAILS,
        logs={
            "exit-handler-1/fail-op": "Task failed.",
            "print-op": "First exit handler has worked!",
            "print-op-3": "Second exit handler has worked!",
            "print-op-5": "Third exit handler has worked!",
        },
    ),
    "hello_world": HELLO,
    "identity": gives("some value", value="some value"),
    "if_elif_else_complex": Wanted(rule=lucky_number),
    "if_elif_else_with_oneof_parameters": gives(one_of(["Got heads!", "Got tails!", "Draw!"])),
    "if_else_with_oneof_artifacts": Wanted(rule=ONE_OF),
    "if_else_with_oneof_parameters": gives(one_of(["Got heads!", "Got tails!"])),
    "local_execution/local_execution_pipeline_with_exit_handler": Wanted(
        steps={"exit-handler-1/echo": "hello", "record-exit": "exit:SUCCEEDED"}
    ),
    "local_execution/local_execution_pipeline_with_ignore_upstream_failure": Wanted(
        "failed", {"marker_path": "marker"}, steps={"fail-always": "failed", "write-marker": "cleanup_ran"}
    ),
    "local_execution/local_execution_pipeline_with_k8s_only_methods": Wanted(
        outputs={"Output": "hello"}, no_gpus=True
    ),
    "local_execution/local_execution_pipeline_with_oneof": gives("selected:A", pick_a=True),
    "local_execution/local_execution_pipeline_with_retry": Wanted(
        params={"counter_path": "{HOME}/counter"}, outputs={"Output": "attempt=2"}, walls=False
    ),
    "local_execution/pipeline_with_caching": gives(6, x=5),
    "local_execution/pipeline_with_collected_artifacts": gives("0,1,2"),
    "input_artifact": Wanted(
        params={"data": "tally://runs/{run pythonic_artifacts_with_multiple_returns}/Output"},
        logs={"input-artifact": "{'original_data': 'in_dataset'}"},
    ),
    "log_streaming_compiled": Wanted(long=True, logs={"print-message": "Hello world ("}),
    "long-running": Wanted(long=True, logs={"wait-op-2": "done1"}),
    "metrics_visualization_v2": Wanted(
        artifacts={
            "html-visualization:html_artifact": file(
                "<!DOCTYPE html><html><body><h1>Hello world</h1></body></html>"
            ),
            "markdown-visualization:markdown_artifact": file("## Hello world \n\n Markdown content"),
        },
        rule=charts,
    ),
    "mounted_cabundle_configmap": HELLO,
    "mounted_cabundle_secret": HELLO,
    "nested_return": gives([{"A_a": "1", "B_b": "2"}, {"A_a": "10", "B_b": "20"}]),
    "nested_with_parameters": gives([[4, 6, 8], [6, 8, 10], [8, 10, 12]]),
    "notebook_component_mixed": Wanted(
        packages="nbclient, ipykernel<7", logs={"evaluate-model": "Got score  11.0"}
    ),
    "output_metrics": Wanted(rule=accuracy("metrics")),
    "parallel_and_nested/loop_consume_upstream": Wanted(
        logs={"for-loop-1[0]/read-file": "component1", "for-loop-1[2]/read-file": "component3"}
    ),
    "parallel_and_nested/nested_pipeline_opt_input_child_level_compiled": all_of(
        "nested-pipeline/component-", "a-str", "a-int", "a-bool", "b-str", "b-int", "b-bool"
    ),
    "parallel_and_nested/nested_pipeline_opt_inputs_nil_compiled": all_of(
        "nested-pipeline/component-", "str", "int", "bool"
    ),
    "parallel_and_nested/nested_pipeline_opt_inputs_parent_level_compiled": all_of(
        "nested-pipeline-",
        *(f"nil-defaults/component-nil-{kind}-default" for kind in ("str", "int", "bool")),
        *(f"non-nil-defaults/component-{kind}-default" for kind in ("str", "int", "bool")),
    ),
    "parallel_and_nested/pipeline_in_pipeline": Wanted(
        logs={"print-op1": "Hello", "inner-pipeline/print-op2": "world"}
    ),
    "parallel_and_nested/pipeline_in_pipeline_complex": Wanted(
        steps={"for-loop-2[0]/inner-pipeline/condition-2": "skipped"},
        logs={
            "for-loop-2[0]/inner-pipeline/condition-1/print-op2": "world",
            "for-loop-2[1]/inner-pipeline/condition-2/print-op": "Bye!",
        },
    ),
    "parallel_and_nested/pipeline_in_pipeline_loaded_from_yaml": Wanted(logs={"print-op1": "world"}),
    "parallel_and_nested/pipeline_with_loops": Wanted(
        params={"loop_parameter": ["item1", "item2"]},
        logs={"for-loop-1[1]/print-text": "item2", "for-loop-4[1]/print-text-5": "20"},
    ),
    "parameters_complex": gives(306),  # 3 * (2 + 4 + 6) + 3 * 3 * (8 + 10 + 12)
    "pipeline_as_exit_task": Wanted(
        "failed",
        steps={"exit-handler-1/fail-op": "failed", "conditional-notification/get-run-state": "FAILED"},
        logs={"conditional-notification/condition-1/print-op": "notify task failure."},
    ),
    "pipeline_producer_consumer": gives(36),
    "pipeline_with_concat_placeholder": all_of("component-with-concat-placeholder", ""),
    "pipeline_with_loops_and_conditions": Wanted(
        logs={"for-loop-14[0]/condition-15/for-loop-16[1]/print-text-9": "msg: B, msg2: None"}
    ),
    "pipeline_with_metadata_fields": Wanted(
        params={"string": "Hello ", "in_dataset": WORLD},
        outputs={"Output": file("Hello world\n")},
    ),
    "pipeline_with_nested_loops": Wanted(
        logs={
            "for-loop-1[1]/for-loop-2[1]/print-op": "msg: 22, msg2: None",
            "for-loop-4[0]/for-loop-6[2]/print-op-3": "msg: 1, msg2: 300",
        }
    ),
    "pipeline_with_only_display_name": HELLO,
    "pipeline_with_parallelfor_list_artifacts_GH-12033": Wanted(
        logs={"for-loop-1[0]/print-artifact-name": "artifact"}
    ),
    "pipeline_with_parallelfor_parallelism": Wanted(
        params={"loop_parameter": ["item1", "item2"]}, logs={"for-loop-1[1]/print-text": "item2"}
    ),
    "pipeline_with_parallelfor_pipeline_param": Wanted(
        params={"prefix": "given", "loop_parameter": ["a", "b"]},
        logs={
            "for-loop-1[0]/print-with-prefix": "given: a",
            "for-loop-2[1]/print-with-prefix-2": "dynamic-prefix: b",
        },
    ),
    "pipeline_with_string_machine_fields_pipeline_input": Wanted(steps={"sum-numbers": 3}, no_gpus=True),
    "pipeline_with_string_machine_fields_task_output": Wanted(steps={"sum-numbers": 3}, no_gpus=True),
    "pipeline_with_task_final_status": Wanted(
        "failed",
        steps={"exit-handler-1/fail-op": "failed"},
        logs={"exit-op": "Pipeline status:  FAILED\nJob resource name:  pipeline-with-task-final-status-"},
    ),
    "pipeline_with_task_final_status_yaml": Wanted(
        logs={"exit-op": "user input: Hello World! pipeline status: {"}
    ),
    "pipeline_with_task_using_ignore_upstream_failure": Wanted(
        "failed", steps={"fail-op": "failed"}, logs={"fail-op": "message", "print-op": "default"}
    ),
    "pipeline_with_utils": all_of("echo", ""),
    "preprocess": Wanted(
        params={
            "message": "m", "input_dict_parameter": {"A": 1, "B": 2}, "input_list_parameter": ["a", "b", "c"],
        },
        outputs={
            "output_bool_parameter_path": True,
            "output_dict_parameter_path": {"A": 1, "B": 2},
            "output_list_parameter_path": ["a", "b", "c"],
            "output_parameter_path": "m",
        },
    ),
    "pythonic_artifacts_with_list_of_artifacts": gives(file("Hello, world!")),
    "pythonic_artifacts_with_multiple_returns": gives(file("Hello,", original_data="in_dataset")),
    "run_as_user_cache_disabled": HELLO,
    "run_as_user_cache_enabled": HELLO,
    "sequential_v1": Wanted(
        params={"param1": "First", "param2": "Second"}, logs={"echo": "First", "echo-2": "Second"}
    ),
    "take_nap_compiled": Wanted(params={"naptime_secs": 1}, logs={"wake-up": "I'm awake now."}),
    "take_nap_pipeline_root_compiled": Wanted(
        params={"naptime_secs": 1}, logs={"wake-up": "I'm awake now."}
    ),
}  # fmt: skip
