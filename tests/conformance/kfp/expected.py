"""What is right for Kubeflow's golden pipelines, by hand from their source; and which cannot run here.

Names are paths below ``test_data/sdk_compiled_pipelines/valid``, without ``.yaml``. Where chance decides,
only what holds either way is written down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["NOT_HERE", "WANTED", "Wanted", "one_of"]


@dataclass(frozen=True)
class one_of:  # noqa: N801  reason: it reads as what it says in the table
    """Any of these."""

    values: list[Any]


@dataclass(frozen=True)
class Wanted:
    """How a run with ``params`` ends, its outputs, the states of steps, and what stands in their logs.

    ``packages`` are what it needs installed, ``long`` says that it only waits for minutes.
    """

    state: str = "succeeded"
    params: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, str] = field(default_factory=dict)
    logs: Mapping[str, str] = field(default_factory=dict)
    packages: str = ""
    long: bool = False

    @property
    def words(self) -> str:
        """What was compared."""
        what = {"outputs": self.outputs, "steps": self.steps, "logs": self.logs}
        found = [f"{len(value)} {name}" for name, value in what.items() if value]
        return ", ".join([self.state, *found])


def prints(**logs: str) -> Wanted:
    """It succeeds, and its steps (with ``_`` for ``-``) say this."""
    return Wanted(logs={name.replace("_", "-"): text for name, text in logs.items()})


def gives(value: Any, /, **params: Any) -> Wanted:
    """It succeeds with one output."""
    return Wanted(params=params, outputs={"Output": value})


def file(text: str, **metadata: Any) -> dict[str, Any]:
    """An artifact with this text."""
    return {"text": text, "metadata": metadata}


FOO = {"crust-comp": "foo"}
HELLO = Wanted(logs={"echo": "hello world"})
FAILS = {"exit-handler-1/fail-op": "failed", "print-op": "succeeded"}

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
    "conditional_producer_and_consumers": gives(
        10
    ),  # of [1, 2, 3] those of at least 2, doubled: 4 + 6; one turn made none
    "critical/add_numbers": gives(12, a=5, b=7),
    "critical/artifact_cache": Wanted(logs=FOO),
    "critical/artifact_crust": Wanted(logs=FOO),
    "critical/collected_parameters": Wanted(
        logs={"consume-ids": "Consuming: model_id_s1\nConsuming: model_id_s2\nConsuming: model_id_s3"}
    ),
    "critical/component_with_optional_inputs": prints(component_op="input3: None, type: <class 'NoneType'>"),
    "critical/container_component_with_no_inputs": prints(hello_world_container="hello world"),
    "critical/flip_coin": Wanted(),
    "critical/if_else_with_oneof_artifacts": Wanted(steps={"print-artifact": "succeeded"}),
    "critical/missing_kubernetes_optional_inputs": prints(log_message="baseline task"),
    "critical/mixed_parameters": prints(crust_comp="sum : 3"),
    "critical/multiple_artifacts_namedtuple": prints(crust_comp="ds1:  foo\nds2:  bar"),
    "critical/multiple_parameters_namedtuple": prints(crust_comp="val1:  foo\nval2:  bar"),
    "critical/notebook_component_simple": Wanted(packages="nbclient, ipykernel<7"),
    "critical/parallel_for_after_dependency": Wanted(
        logs={"for-loop-2[2]/print-op": "foo", "print-op-2": "bar", "print-op-3": "baz"}
    ),
    "critical/parameter_cache": Wanted(logs=FOO),
    "critical/parameter_oneof": Wanted(steps={"crust-comp": "succeeded"}),
    "critical/parameters_simple": gives([2, 4, 6]),
    "critical/pipeline_with_artifact_custom_path": Wanted(steps={"validate-input-artifact": "succeeded"}),
    "critical/pipeline_with_env": prints(print_env="val3", print_env_op="ENV1 val1\nENV2 None"),
    "critical/pipeline_with_placeholders": prints(print_all_placeholders="pipeline-with-placeholders, "),
    "critical/pipeline_with_retry": Wanted(steps={"add": "succeeded"}),
    "critical/pipeline_with_submit_request": Wanted(),  # without MULTI_USER it asks nobody
    "critical/pipeline_with_workspace": Wanted(),
    "critical/producer_consumer_param_pipeline": prints(
        consumer="Hello world, this is an output parameter"
    ),
    "critical/pythonic_artifacts_test_pipeline": Wanted(steps={"train-model": "succeeded"}),
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
    "essential/dict_input": Wanted(params={"struct": {"A": 1}}),
    "essential/embedded_artifact": Wanted(steps={"read-embedded-artifact-dir": "succeeded"}),
    "essential/iris_pipeline_compiled": Wanted(packages="pandas==2.2.0, scikit-learn==1.4.0"),
    "essential/lightweight_python_functions_pipeline": Wanted(
        params={"message": "message"}, steps={"train": "succeeded"}
    ),
    "essential/lightweight_python_functions_with_outputs": Wanted(
        params={"first_message": "Hello", "second_message": " World", "first_number": 10, "second_number": 20}
    ),
    "essential/pipeline_with_after": prints(print_text="1st task", print_text_3="3rd task"),
    "essential/pipeline_with_condition": Wanted(),
    "essential/pipeline_with_metrics_outputs": Wanted(steps={"for-loop-2[1]/output-metrics-2": "succeeded"}),
    "essential/pipeline_with_nested_conditions": Wanted(),
    "essential/pipeline_with_nested_conditions_yaml": Wanted(),
    "essential/pipeline_with_outputs": gives(file("world\n")),
    "essential/pipeline_with_params_containing_format": Wanted(
        logs={
            "print-op": "Hello KFP",
            "for-loop-2[1]/print-op2": "2 and KFP.",
            "print-op-2": "Hello KFP, again.",
        }
    ),
    "essential/pipeline_with_reused_component": Wanted(steps={"add-numbers-3": "succeeded"}),
    "essential/placeholder_with_if_placeholder_none_input_value": prints(
        component_with_optional_inputs="--arg0 input0 --arg2 default value"
    ),
    "failing/fail_v2": Wanted("failed", steps={"fail": "failed"}),
    "failing/pipeline_with_exit_handler": Wanted("failed", steps=FAILS),
    "failing/pipeline_with_multiple_exit_handlers": Wanted("failed", steps=FAILS),
    "hello_world": HELLO,
    "identity": gives("some value", value="some value"),
    "if_elif_else_complex": Wanted(),
    "if_elif_else_with_oneof_parameters": gives(one_of(["Got heads!", "Got tails!", "Draw!"])),
    "if_else_with_oneof_artifacts": Wanted(steps={"print-artifact": "succeeded"}),
    "if_else_with_oneof_parameters": gives(one_of(["Got heads!", "Got tails!"])),
    "local_execution/local_execution_pipeline_with_exit_handler": Wanted(steps={"record-exit": "succeeded"}),
    "local_execution/local_execution_pipeline_with_ignore_upstream_failure": Wanted(
        "failed", {"marker_path": "marker"}, steps={"fail-always": "failed", "write-marker": "succeeded"}
    ),
    "local_execution/local_execution_pipeline_with_oneof": gives("selected:A", pick_a=True),
    "local_execution/pipeline_with_caching": gives(6, x=5),
    "local_execution/pipeline_with_collected_artifacts": gives("0,1,2"),
    "log_streaming_compiled": Wanted(long=True, logs={"print-message": "Hello world ("}),
    "long-running": Wanted(long=True, logs={"wait-op-2": "done1"}),
    "metrics_visualization_v2": Wanted(steps={"wine-classification": "succeeded"}),
    "mounted_cabundle_configmap": HELLO,
    "mounted_cabundle_secret": HELLO,
    "nested_return": gives([{"A_a": "1", "B_b": "2"}, {"A_a": "10", "B_b": "20"}]),
    "nested_with_parameters": gives([[4, 6, 8], [6, 8, 10], [8, 10, 12]]),
    "output_metrics": Wanted(steps={"output-metrics": "succeeded"}),
    "parallel_and_nested/loop_consume_upstream": Wanted(
        logs={"for-loop-1[0]/read-file": "component1", "for-loop-1[2]/read-file": "component3"}
    ),
    "parallel_and_nested/nested_pipeline_opt_input_child_level_compiled": Wanted(
        steps={"nested-pipeline/component-b-str": "succeeded"}
    ),
    "parallel_and_nested/nested_pipeline_opt_inputs_nil_compiled": Wanted(
        steps={"nested-pipeline/component-str": "succeeded"}
    ),
    "parallel_and_nested/nested_pipeline_opt_inputs_parent_level_compiled": Wanted(
        steps={"nested-pipeline-nil-defaults/component-nil-bool-default": "succeeded"}
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
    "pipeline_as_exit_task": Wanted("failed", steps={"exit-handler-1/fail-op": "failed"}),
    "pipeline_producer_consumer": gives(36),
    "pipeline_with_loops_and_conditions": Wanted(
        logs={"for-loop-14[0]/condition-15/for-loop-16[1]/print-text-9": "msg: B, msg2: None"}
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
    "pipeline_with_task_final_status": Wanted("failed", steps={"exit-handler-1/fail-op": "failed"}),
    "pipeline_with_task_final_status_yaml": Wanted(
        logs={"exit-op": "user input: Hello World! pipeline status: {"}
    ),
    "pipeline_with_task_using_ignore_upstream_failure": Wanted("failed", steps={"fail-op": "failed"}),
    "pipeline_with_utils": Wanted(),
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

_IMAGE = "it runs a program of an image"
_NO_PROGRAM = "compiled by upstream and never run: its program is in no image"
_CLUSTER = "it asks for what only a cluster has"
_FOREIGN = "it imports from a bucket or registry of others"
_GPU = "it asks for a GPU"
_GIVEN = "its input is an artifact, which nobody can hand in"

NOT_HERE: Mapping[str, str] = {
    "component_with_metadata_fields": _GIVEN,
    "component_with_task_final_status_GH-12033": "it asks for the status of nothing: upstream leaves it out",
    "components_with_optional_artifacts": _FOREIGN,
    "container_io": _NO_PROGRAM,
    "container_with_artifact_output": _NO_PROGRAM,
    "container_with_concat_placeholder": _NO_PROGRAM,
    "container_with_if_placeholder": _NO_PROGRAM,
    "container_with_placeholder_in_fstring": _NO_PROGRAM,
    "containerized_python_component": _IMAGE,
    "create_pod_metadata_complex": _CLUSTER,
    "critical/modelcar": _FOREIGN,
    "critical/pipeline_with_artifact_upload_download": "it downloads a data set",
    "critical/pipeline_with_importer_workspace": "it imports a path of the machine",
    "critical/pipeline_with_input_status_state": (
        "it wants the state COMPLETE, as Kubeflow's backend says; the SDK says SUCCEEDED"
    ),
    "critical/pipeline_with_pod_metadata": _CLUSTER,
    "critical/pipeline_with_secret_as_env": _CLUSTER,
    "critical/pipeline_with_volume_long_name": _CLUSTER,
    "gpu-scheduling/nvidia_gpu_scheduling_check": _GPU,
    "input_artifact": _GIVEN,
    "integration/ray_integration_compiled": _CLUSTER,
    "local_execution/local_execution_pipeline_with_k8s_only_methods": _GPU,
    "local_execution/local_execution_pipeline_with_retry": (
        "its tries share a path of the machine, which steps behind a wall do not"
    ),
    "notebook_component_mixed": "it needs ipykernel<7, and a program of its image",
    "parallel_and_nested/nested_parallel_for_secret": _CLUSTER,
    "parallel_and_nested/parallel_for_mount_pvc": _CLUSTER,
    "parallel_and_nested/parallel_for_secret": _CLUSTER,
    "pipeline_with_concat_placeholder": "its shell must be busybox's: it says [[ in sh",
    "pipeline_with_condition_dynamic_task_output_custom_training_job": _IMAGE,
    "pipeline_with_dynamic_importer_metadata": _FOREIGN,
    "pipeline_with_dynamic_task_output_custom_training_job": _IMAGE,
    "pipeline_with_google_artifact_type": _FOREIGN,
    "pipeline_with_importer": _FOREIGN,
    "pipeline_with_importer_and_gcpc_types": _FOREIGN,
    "pipeline_with_metadata_fields": _GIVEN,
    "pipeline_with_secret_as_volume": _CLUSTER,
    "pipeline_with_string_machine_fields_pipeline_input": _GPU,
    "pipeline_with_string_machine_fields_task_output": _GPU,
    "pipeline_with_various_io_types": _GIVEN,
    "pipeline_with_volume": _CLUSTER,
    "pipeline_with_volume_no_cache": _CLUSTER,
    "pvc_mount": _CLUSTER,
    "pythonic_artifact_with_single_return": _FOREIGN,
    "sequential_v2": _FOREIGN,
    "two_step_pipeline": _FOREIGN,
    "upload_download_compiled": "it needs a bucket of one's own",
    "xgboost_sample_pipeline": "it downloads a data set",
}
"""Why each of these cannot come out right on a machine without network, images and a cluster."""
