"""The MLflow server for a team asks for every password and checks hosts and people."""

import configparser
import re
import shlex
from urllib.parse import urlsplit

import pytest
from helpers.cluster_files import README, compose, joined, text

pytestmark = pytest.mark.cluster


def test_compose_asks_for_every_password():
    services = compose()["services"]
    assert set(services) == {"postgres", "s3", "mlflow"}
    for service in services.values():
        assert "privileged" not in service
        for key, value in service["environment"].items():
            if re.search("PASSWORD|SECRET|KEY", key):
                assert re.fullmatch(r"\$\{\w+:\?\}", value), key
    for published in [port for service in services.values() for port in service.get("ports", [])]:
        assert published.startswith("127.0.0.1:")
    assert compose()["networks"]["inside"] == {"internal": True}
    assert services["postgres"]["networks"] == services["s3"]["networks"] == ["inside"]


def test_the_environment_that_the_guide_writes_is_all_that_compose_asks_for():
    asked = set(re.findall(r"\$\{(\w+):\?\}", text("mlflow/compose.yaml")))
    written = set(re.findall(r"^([A-Z0-9_]+)=", README.read_text(), re.M))
    assert asked <= written
    needed = set(re.findall(r"\$\{(\w+):\?\}", text("mlflow/serve-team.sh")))
    assert needed <= compose()["services"]["mlflow"]["environment"].keys()


def test_mlflow_checks_hosts_and_people():
    alone, team = server("mlflow/serve.sh"), server("mlflow/serve-team.sh")
    assert alone["host"] == "127.0.0.1"
    assert "*" not in alone["allowed_hosts"]
    assert team["app_name"] == "basic-auth"
    assert team["allowed_hosts"] == "$MLFLOW_SERVER_ALLOWED_HOSTS"
    assert not alone["disable_security_middleware"]
    assert not team["disable_security_middleware"]
    auth = configparser.ConfigParser()
    auth.read_string(text("mlflow/auth.ini"))
    assert "admin_password" not in auth["mlflow"]
    for uri in (auth["mlflow"]["database_uri"], team["backend_store_uri"]):
        parts = urlsplit(uri)
        assert parts.scheme == "postgresql+psycopg2", "without a driver SQLAlchemy takes one that is not in the image"
        assert parts.username == "mlflow"
        assert parts.password is None
    for name in ("mlflow/serve.sh", "mlflow/serve-team.sh"):
        assert "MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false" in text(name)


def server(name):
    """The options of the command that a script starts, as MLflow parses them."""
    from mlflow.cli import cli

    words = shlex.split(re.search(r"mlflow server (.*)", joined(text(name))).group(1).replace("$port", "5000"))
    return cli.commands["server"].make_context("server", words).params
