"""Every limit and option of the server, validated once."""

from __future__ import annotations

import ipaddress
import stat
from dataclasses import dataclass
from pathlib import Path

from edgesparse_runtime.errors import InputError
from edgesparse_runtime.session import default_threads
from edgesparse_runtime.stream.monitor.rate import DEFAULT

_SHORTEST_TOKEN = 16
_LONGEST_TOKEN = 4096


@dataclass(frozen=True)
class Settings:
    """All options of `edgesparse serve`.

    Attributes:
        host, port: where to listen; port 0 = any free one.
        threads: of one model run.
        parallel: concurrent model runs; None = usable cores / `threads`.
        precision: "float32", "int8" or "auto" = the faster one here.
        max_batch: windows per model run.
        batch_wait: longest time in seconds that a window waits for others to share its run.
        queue: most requests in flight; more are answered with 429.
        timeout: seconds from a request's first byte to the last byte of its answer.
        grace: seconds that a shutdown waits for requests in flight.
        max_body: bytes of one request.
        max_bodies: bytes of all requests in flight.
        max_answers: bytes of all large answers that wait to be read.
        max_steps: longest window.
        max_windows: windows of one request.
        max_head: bytes of a request's line and headers.
        connections: most open connections.
        reload_every: seconds between checks for changed bundles; 0 = never.
        rehearse: run a bundle in a separate process before it is served.
        trusted_keys: files of Ed25519 public keys; with any, a bundle must be signed by one of them.
        token_file: holds the token that clients send as `Authorization: Bearer TOKEN`.
        tls_cert, tls_key: PEM files; both or none.
        host_names: further names of this server that requests without a token may use.
        log_requests: one line per request.
        monitor: folder for the monitor's state; None = no monitor.
        false_alarms: most false alarms of the monitor per model, as "1/90d".
    """

    host: str = "127.0.0.1"
    port: int = 8000
    threads: int = 1
    parallel: int | None = None
    precision: str = "auto"
    max_batch: int = 8
    batch_wait: float = 0.001
    queue: int = 256
    timeout: float = 10.0
    grace: float = 30.0
    max_body: int = 16 << 20
    max_bodies: int = 256 << 20
    max_answers: int = 256 << 20
    max_steps: int = 65_536
    max_windows: int = 64
    max_head: int = 16 << 10
    connections: int = 1024
    reload_every: float = 0.5
    rehearse: bool = True
    trusted_keys: tuple[Path, ...] = ()
    token_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    host_names: tuple[str, ...] = ()
    log_requests: bool = False
    monitor: Path | None = None
    false_alarms: str = DEFAULT

    def __post_init__(self) -> None:
        if self.precision not in ("auto", "float32", "int8"):
            raise InputError(f"`precision` must be auto, float32 or int8; got {self.precision}.")
        if self.monitor is None and self.false_alarms != DEFAULT:
            raise InputError("`--false-alarms` is for a monitor. Add --monitor FOLDER.")
        if not 0 <= self.port <= 65_535:
            raise InputError(f"`port` must be 0 to 65535; got {self.port}.")
        for name in (
            "threads",
            "max_batch",
            "queue",
            "max_body",
            "max_steps",
            "max_windows",
            "connections",
        ):
            if getattr(self, name) < 1:
                raise InputError(f"`{name}` must be at least 1; got {getattr(self, name)}.")
        if self.parallel is not None and self.parallel < 1:
            raise InputError(f"`parallel` must be at least 1; got {self.parallel}.")
        for name in ("timeout", "grace"):
            if not 0 < getattr(self, name) < 86_400:
                raise InputError(f"`{name}` must be above 0 and below a day; got {getattr(self, name)}.")
        for name in ("batch_wait", "reload_every"):
            if not 0 <= getattr(self, name) < 86_400:
                raise InputError(f"`{name}` must be 0 or more, below a day; got {getattr(self, name)}.")
        if self.max_bodies < self.max_body:
            raise InputError("`max_bodies` must be at least `max_body`.")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InputError("`--tls-cert` and `--tls-key` must be given together.")
        if not self.is_loopback and self.token_file is None and self.tls_cert is None:
            raise InputError(
                f"`--host {self.host}` must come with `--token-file` or `--tls-cert` and `--tls-key`; "
                "without them this server listens on loopback only."
            )

    @property
    def is_loopback(self) -> bool:
        """True when only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def runs(self) -> int:
        """Model runs at a time."""
        return self.parallel or max(1, default_threads() // self.threads)

    def token(self) -> bytes | None:
        """The token that clients must send, or None when none is required.

        Raises:
            InputError: the file cannot be read, anyone may write it, or it holds no usable token.
        """
        if self.token_file is None:
            return None
        try:
            with self.token_file.open("rb") as stream:
                mode = self.token_file.stat().st_mode
                token = stream.read(_LONGEST_TOKEN + 1).strip()
        except OSError as error:
            raise InputError(f"`--token-file` must be readable; {error}.") from None
        if mode & stat.S_IWOTH:
            raise InputError(f"`--token-file` {self.token_file} must not be writable by everyone.")
        if not _SHORTEST_TOKEN <= len(token) <= _LONGEST_TOKEN or not token.isascii() or b" " in token:
            raise InputError(
                f"`--token-file` must hold one ASCII token of {_SHORTEST_TOKEN} to {_LONGEST_TOKEN} "
                "characters without blanks. Make one with: openssl rand -hex 32"
            )
        return token
