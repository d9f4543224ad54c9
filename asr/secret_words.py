"""Finds secrets among settings and variables, by name or by value."""

from __future__ import annotations

import re
from collections.abc import Mapping

# Words of names. Some may follow another word directly (PGPASSWORD, SSHKEY); what they are part of else is left alone
# (MONKEY, BYPASS, TOKENIZERS).
_END = r"S?(?=[_\d]|$)"
_NAME = re.compile(
    r"PASS(WORD|WD|PHRASE)|SECRET|CREDENTIAL|CONN(ECTION)?_?STR|SIGNATURE|AUTHORIZATION|BEARER|WEBHOOK"
    rf"|(?<!BY)(?<!COM)(?<!SUR)PASS{_END}|(?<!DON)(?<!HOC)(?<!JOC)(?<!MON)(?<!TUR)(?<!WHIS)KEY{_END}"
    rf"|(TOKEN|PWD|CRED|COOKIE|JWT){_END}|(^|_)(PAT|SAS|SIG|DSN){_END}|AUTH$",
    re.IGNORECASE,
)
_VALUE = re.compile(
    r"://[^/@\s]*:[^/@\s]+@|-----BEGIN |^(bearer|basic)\s+\S"  # an address with a password, a PEM file, a header
    r"|\b(hf_|gh[oprsu]_|github_pat_|glpat-|npm_|pypi-|sk-|xox[a-z]-|wf-)[\w-]{10}|\b(AKIA|ASIA)[A-Z0-9]{12}|\bAIza[\w-]{30}"
    r"|\beyJ[\w-]+\.[\w-]+\.",
    re.IGNORECASE,
)
# NAME=VALUE in a value (an address, Azure's connection string), NAME: VALUE, and --name VALUE (a program's options).
_INNER = re.compile(r"([A-Za-z][\w.-]*)[\"']?\s*[=:]\s*[^\s=&;,]|(?:^|\s)--?([A-Za-z][\w.-]*)(?=\s+[^\s-])")


def is_secret_name(name: str) -> bool:
    """Return whether what is called so holds a secret: a variable, a setting, an option."""
    return bool(_NAME.search(re.sub(r"[^A-Za-z0-9]", "_", name)))


def is_secret_value(value: str) -> bool:
    """Return whether a text looks like a secret, or names one with its value in it."""
    return bool(_VALUE.search(value)) or any(is_secret_name(one[1] or one[2]) for one in _INNER.finditer(value))


def may_be_told(key: str, value: object) -> bool:
    """Return whether a message may repeat what was given for a dotted key: not where either looks like a secret."""
    if any(is_secret_name(part) for part in key.split(".")):
        return False
    if isinstance(value, Mapping):
        return all(may_be_told(str(name), inner) for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        return all(may_be_told("", inner) for inner in value)
    return not is_secret_value(str(value))
