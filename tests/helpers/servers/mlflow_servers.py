"""A real MLflow server on this machine; ended by its process ids."""

import os
import subprocess
import sys

import psutil

from helpers.servers.buckets import wait_for
from helpers.servers.ports import free_ports

# Without it the server starts some twenty processes more, which evaluate traces and which no sweep asks for.
NO_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


class Server:
    """`mlflow server`, which may be killed and started again on the same port."""

    def __init__(self, store, folder):
        (self.port,) = free_ports(1)
        self.store, self.folder, self.process = store, folder, None
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self):
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--workers",
            "1",
            "--backend-store-uri",
            self.store,
            "--artifacts-destination",
            str(self.folder / "artifacts"),
        ]
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env=os.environ | NO_JOBS
            )
        wait_for(f"{self.url}/health", 120)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        everyone = [*psutil.Process(self.process.pid).children(recursive=True), psutil.Process(self.process.pid)]
        for each in everyone:
            each.kill()
        psutil.wait_procs(everyone, timeout=10)
        self.process.wait(10)
