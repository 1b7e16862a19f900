"""No secret of an address is shown, and nothing else is hidden."""

import re

import pytest
from helpers.secret_addresses import AWKWARD, PLAIN, SECRET
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from raydistill.redaction import HIDDEN, redact, redact_environment, redact_values

PIECES = [*"ab:/@?&=#;.1 '*-\n", "http://", "pg://", "s3://", "sig=", "***"]
PASSWORD = st.text(st.sampled_from("ab1/@:?#=.;,'\"%+-*!$~()"), min_size=1)


@pytest.mark.parametrize("address", AWKWARD.values(), ids=AWKWARD)
@pytest.mark.parametrize(
    "text",
    ["{}", "MLflow at {} is away", "({}), and '{}': no", 'said "{}".', "{}, {}", "first\n{}\nlast: a@b.example"],
)
def test_no_secret_is_shown(address, text):
    shown = redact(text.replace("{}", address))
    assert SECRET not in shown
    assert HIDDEN in shown
    assert redact(shown) == shown
    for word in re.findall(r"[A-Za-z.]+", text):
        assert word in shown


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://user:p@ss@host:5000", "http://***@host:5000"),
        ("postgresql://u:pa/ss@h/db", "postgresql://***@h/db"),
        ("postgresql://u:pa ss@h/db", "postgresql://***@h/db"),
        ("https://token@host/x", "https://***@host/x"),
        ("gs://me:token@bucket/x", "gs://***@bucket/x"),
        ("https://h/c?sv=1&sig=abc%3D&x=2", "https://h/c?sv=1&sig=***&x=2"),
        ("('https://h/?api_key=abc'), that", "('https://h/?api_key=***'), that"),
        ("https://h/?X-Amz-Date=1&X-Amz-Signature=f0", "https://h/?X-Amz-Date=***&X-Amz-Signature=***"),
        ("http://a:b@h:1 and http://c:d@i:2", "http://***@h:1 and http://***@i:2"),
    ],
)
def test_the_rest_stays(address, shown):
    assert redact(address) == shown


@pytest.mark.parametrize("text", PLAIN)
def test_a_text_without_secrets_stays(text):
    assert redact(text) == text
    assert redact(f"tracked in {text}\n") == f"tracked in {text}\n"


@given(st.lists(st.sampled_from(PIECES)).map("".join))
@example("http://u:p@h:5000: ask a@b")
@example("pg://#;&sig=12/:&@sig=#")
def test_what_is_redacted_stays(text):
    assert redact(redact(text)) == redact(text)


@given(PASSWORD, st.sampled_from(["postgresql", "mysql+pymysql", "mssql"]))
@example("://", "postgresql")
def test_what_sqlalchemy_takes_for_a_password_is_hidden(password, scheme):
    address = f"{scheme}://user:MARK{password}MARK@host:5432/db"
    try:
        assert "MARK" in (make_url(address).password or "")
    except (ArgumentError, ValueError):  # an @ and then a colon: what follows is no port
        assert "@" in password
    assert redact(address) == f"{scheme}://***@host:5432/db"


def test_texts_inside_of_values_are_redacted():
    values = {"a": ["http://x:y@h", 1, None], "b": {"c": ("http://h/?sig=1", "plain")}}
    assert redact_values(values) == {"a": ["http://***@h", 1, None], "b": {"c": ["http://h/?sig=***", "plain"]}}


def test_the_environments_secrets_are_hidden(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    monkeypatch.setenv("SHORT_TOKEN", "the")
    assert redact_environment(f"the key is {SECRET}, at http://a:b@h") == "the key is ***, at http://***@h"
