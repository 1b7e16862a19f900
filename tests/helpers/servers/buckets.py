"""A real S3 server on this machine, for tests of storage that is no path."""

import os
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

from helpers.servers.ports import free_ports

BUCKET = "sweeps"


@contextmanager
def s3_server(log):
    """Starts moto's server and a bucket; yields the environment that its users need. Ended by its process id."""
    import boto3

    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    environment = {
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=out, stderr=out
        )
    before = {name: os.environ.get(name) for name in environment}
    try:
        wait_for(url)
        client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="nobody",
            aws_secret_access_key="nothing",
        )
        client.create_bucket(Bucket=BUCKET)
        os.environ.update(environment)
        yield environment
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
        server.terminate()
        server.wait(10)


def wait_for(url, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
