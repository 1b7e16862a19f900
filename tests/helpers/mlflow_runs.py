"""All that an MLflow holds of a sweep, to compare one with another."""

from mlflow import MlflowClient

OWN = ("mlflow.", "system/")  # what MLflow adds by itself, and the load of the machine


def held(uri, sweep):
    """By run: parameters, metrics by step, tags, files, and when it began, in seconds."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("raydistill").experiment_id
    runs = client.search_runs([experiment], f"tags.`raydistill.sweep` = '{sweep}'")
    return {
        run.data.tags["mlflow.runName"]: {
            "status": run.info.status,
            "params": run.data.params,
            "tags": {k: v for k, v in run.data.tags.items() if not k.startswith(OWN)},
            "metrics": {
                name: {p.step: p.value for p in client.get_metric_history(run.info.run_id, name)}
                for name in run.data.metrics
                if not name.startswith(OWN)
            },
            "files": sorted(listed(client, run.info.run_id)),
            "times": (run.info.start_time / 1000, run.info.end_time / 1000),
        }
        for run in runs
    }


def listed(client, run_id, path=None):
    for file in client.list_artifacts(run_id, path):
        if file.is_dir:
            yield from listed(client, run_id, file.path)
        else:
            yield file.path
