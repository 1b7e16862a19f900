"""Hide secrets in text: passwords and tokens of addresses, and what the environment keeps secret.

The rule for what stands before a host is stricter than SQLAlchemy's `hide_password`, which shows the second half of
`u:p@ss@host`, shows a token that stands alone (`https://TOKEN@host`), and knows no queries. The tests hold that
nothing which SQLAlchemy takes for a password is shown. In doubt, more is hidden rather than less.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
MIN_SECRET_LENGTH = 6  # characters of an environment variable; shorter values are found in innocent words

_SECRET_VARIABLE = re.compile(r"TOKEN$|PASSWORD|SECRET|API_KEY|CREDENTIAL", re.IGNORECASE)
# A password may hold slashes, spaces and @. What is hidden already stays as it is; a port is no password.
_NAME_AND_PASSWORD = re.compile(
    r"""
    (?<![a-z0-9+.-]) ( (?P<web>https?://) | (?!https?://) [a-z0-9+.-]++:// ) (?! \*\*\*@ )
    [^/\s:]* : (?!//)
    (?! \d* ['")\]>,.;:]* (?:\s|$) )
    (?! \d+/ [^\s@]* (?:\s|$) )
    (?(web) (?! \d+ [/?\#] ) )
    (?: [^@\s]*+ @ | (?: (?!://) [^@\n] )* @ ) (?: \S* @ )?
    """,
    re.VERBOSE | re.IGNORECASE,
)
# A token alone; but before a storage's host there is a container or a user.
_TOKEN = re.compile(
    r"""
    (?<![a-z0-9+.-]) (?! (?:abfss?|wasbs?|gs|gcs|hdfs|viewfs|s3):// ) ( [a-z0-9+.-]++:// ) (?! \*\*\*@ )
    [^/\s]* @
    """,
    re.VERBOSE | re.IGNORECASE,
)
# Of the punctuation that ends a value, quotes and brackets are taken for the sentence's.
_FIELD = re.compile(
    r"""
    ( [?&;\#]
      (?= [^=&?;\#/\s]*
          (?: token | pass | pwd | secret | key | sig | credential | auth | jwt | x-amz- | x-goog- | odbc_connect ) )
      [^=&?;\#/\s]*+ = )
    [^&\s]* [^&\s'")\]>,.;]
    """,
    re.VERBOSE | re.IGNORECASE,
)


# docs/architecture.md#one-module-for-secrets
def redact(text: str) -> str:
    """Return the text with `***` in place of passwords, tokens and signatures of the addresses in it."""
    shown = _NAME_AND_PASSWORD.sub(rf"\1{HIDDEN}@", text)
    shown = _TOKEN.sub(rf"\1{HIDDEN}@", shown)
    shown = _FIELD.sub(rf"\1{HIDDEN}", shown)
    # Addresses can be nested so that one shows up only when another is hidden.
    return shown if shown == text else redact(shown)


def redact_values(value: Any) -> Any:
    """Return nested lists and mappings with every text in them redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: redact_values(each) for key, each in value.items()}
    return [redact_values(each) for each in value] if isinstance(value, list | tuple) else value


def redact_environment(text: str) -> str:
    """Return the redacted text, also without the values that this process's environment keeps secret."""
    text = redact(text)
    for name, value in os.environ.items():
        if len(value) >= MIN_SECRET_LENGTH and _SECRET_VARIABLE.search(name):
            text = text.replace(value, HIDDEN)
    return text
