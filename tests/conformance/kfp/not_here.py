"""Which of Kubeflow's golden pipelines cannot run here, and why."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["NOT_HERE"]

_IMAGE = "it runs a program of an image"
_GOOGLE = "it runs a program of an image, on Google Cloud"
_HIDDEN = "it reads a secret of Kubernetes"
_VOLUME = "it writes to a volume of Kubernetes"
_BUCKET = "it imports from a bucket, over the network"

NOT_HERE: Mapping[str, str] = {
    "components_with_optional_artifacts": _BUCKET,
    "containerized_python_component": _IMAGE,
    "critical/modelcar": "it imports a model out of a registry of images",
    "critical/pipeline_with_artifact_upload_download": "it downloads a data set",
    "critical/pipeline_with_input_status_state": (
        "it wants the state COMPLETE, as Kubeflow's backend says; another wants SUCCEEDED, as the SDK says"
    ),
    "critical/pipeline_with_secret_as_env": _HIDDEN,
    "critical/pipeline_with_volume_long_name": _VOLUME,
    "gpu-scheduling/nvidia_gpu_scheduling_check": "it checks that a cluster gives it a GPU",
    "integration/ray_integration_compiled": "it makes a Ray cluster on Kubernetes",
    "parallel_and_nested/nested_parallel_for_secret": _HIDDEN,
    "parallel_and_nested/parallel_for_mount_pvc": _VOLUME,
    "parallel_and_nested/parallel_for_secret": _HIDDEN,
    "pipeline_with_condition_dynamic_task_output_custom_training_job": _GOOGLE,
    "pipeline_with_dynamic_importer_metadata": _BUCKET,
    "pipeline_with_dynamic_task_output_custom_training_job": _GOOGLE,
    "pipeline_with_google_artifact_type": _BUCKET,
    "pipeline_with_importer": _BUCKET,
    "pipeline_with_importer_and_gcpc_types": _BUCKET,
    "pipeline_with_secret_as_volume": _HIDDEN,
    "pipeline_with_various_io_types": _IMAGE,
    "pipeline_with_volume": _VOLUME,
    "pipeline_with_volume_no_cache": _VOLUME,
    "pvc_mount": _VOLUME,
    "pythonic_artifact_with_single_return": _BUCKET,
    "sequential_v2": _GOOGLE,
    "two_step_pipeline": _GOOGLE,
    "upload_download_compiled": "it writes to a bucket, and reads it with a client of its own",
    "xgboost_sample_pipeline": "it downloads a data set",
}
"""Why each of these cannot come out right on a machine without network, images and a cluster."""
