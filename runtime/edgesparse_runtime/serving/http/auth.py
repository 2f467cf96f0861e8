"""Access control: a bearer token, or, for a server without one, protection against web pages.

Every page in a browser on the same machine can reach a server on loopback. Two checks keep them out: the
request must name this machine as its host (a page whose own name resolves to 127.0.0.1 does not), and the
origin of a request that a page made must be such a host too.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Mapping, Sequence

from edgesparse_runtime.serving.protocol.refusal import Refusal

# Supervisors and load balancers need no secret for health checks.
OPEN_PATHS = ("/v2/health/live", "/v2/health/ready")
# A name or an address and a port, and nothing that another reader may take for the host: no user, path, zone.
_AUTHORITY = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?", re.ASCII)


class AccessControl:
    """Admits requests or raises.

    Args:
        token: that `Authorization: Bearer` must carry; None = none is required.
        host_names: names that a request may give this machine, besides loopback ones; None = any name.
    """

    def __init__(self, token: bytes | None, host_names: Sequence[str] | None) -> None:
        self._token = token
        self._names = None if host_names is None else {name.lower() for name in host_names}
        # The last one that passed: clients of a server name it alike.
        self._known = ""

    def check(self, path: str, headers: Mapping[str, str]) -> None:
        """Pass, or raise.

        Raises:
            Refusal: 401 without the right token, 403 for a host or origin that is not this machine.
        """
        if self._token is not None:
            if path not in OPEN_PATHS and not self._holds_token(headers.get("authorization", "")):
                raise Refusal(401, "A bearer token is required.", {"WWW-Authenticate": "Bearer"})
            return
        if self._names is None:
            return
        if not self._is_this_machine(headers.get("host", "")):
            raise Refusal(403, "The request's Host is not a name of this server; allow it with --host-name.")
        origin = headers.get("origin")
        if origin is not None and not self._is_this_machine(_authority(origin)):
            raise Refusal(403, "Requests from web pages of other hosts are not allowed.")

    def _holds_token(self, authorization: str) -> bool:
        kind, _, given = authorization.partition(" ")
        assert self._token is not None
        return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token)

    def _is_this_machine(self, authority: str) -> bool:
        if authority and authority == self._known:
            return True
        if not self._is_name_of_it(authority):
            return False
        self._known = authority
        return True

    def _is_name_of_it(self, authority: str) -> bool:
        found = _AUTHORITY.fullmatch(authority)
        if found is None:
            return False
        name = found[1].strip("[]").lower()
        assert self._names is not None
        if name == "localhost" or name in self._names:
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False


def _authority(origin: str) -> str:
    return origin.partition("://")[2]
