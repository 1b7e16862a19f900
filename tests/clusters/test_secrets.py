"""No file holds a secret."""

import re

import pytest
from helpers.cluster_files import NAMES, ROOT, text

pytestmark = pytest.mark.cluster


SECRETS = [
    r"AKIA[0-9A-Z]{16}",
    r"-----BEGIN [A-Z ]*PRIVATE KEY",
    r"\b(?:ghp|gho|glpat|hf|xox[bap])[_-][A-Za-z0-9_-]{16,}",
    r"//[^\s/:@$]+:[^\s/@$]+@",
    r"(?i)\w*(?:password|passwd|secret|token|api_?key|access_?key)\w*[\"']?[ \t]*[:=][ \t]*[\"']?"
    r"(?![$~/]|YOUR_|null|required\b|token\b|auth_token\b)[A-Za-z0-9+/=_-]{6,}",
]


def leaks(content):
    return [match.group() for pattern in SECRETS for match in re.finditer(pattern, content)]


@pytest.mark.parametrize("name", NAMES)
def test_no_secret_in_a_file(name):
    assert leaks(text(name)) == []


@pytest.mark.parametrize(
    "planted",
    [
        "key: AKIA" + "ABCDEFGHIJKLMNOP",
        "POSTGRES_PASSWORD: " + "mlflow1",
        "RAY_AUTH_TOKEN=" + "0123456789abcdef",
        "aws_secret_access_key = " + "wJalrXUtnFEMI",
        "postgresql://mlflow:" + "hunter2@db/mlflow",
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        "token hf_" + "abcdefghijklmnopqrst",
    ],
)
def test_a_secret_would_be_seen(planted):
    assert leaks(planted)


def test_a_file_with_passwords_goes_nowhere():
    for ignore in (".gitignore", ".rayignore"):
        assert "*.env" in (ROOT / ignore).read_text().splitlines()
