"""`edgesparse rollout`: try a new bundle, and go back."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from edgesparse_runtime.bundle.read import open_bundle
from edgesparse_runtime.cli.options import Request, TrustedKeys
from edgesparse_runtime.cli.output import print_fields, print_json, print_table
from edgesparse_runtime.errors import GateError, InputError
from edgesparse_runtime.evaluation.verify import verify
from edgesparse_runtime.operation.rollout.store import Store, Trial
from edgesparse_runtime.stream.monitor.rate import parse_duration

ACTIONS = ("try", "status", "confirm", "promote", "rollback")


@dataclass(frozen=True, kw_only=True)
class RolloutRequest(Request):
    """Arguments and options of `edgesparse rollout`."""

    words: Annotated[
        list[str],
        typer.Argument(
            metavar="try BUNDLE | status | confirm | promote | rollback",
            help="What to do.",
            show_default=False,
        ),
    ]
    store: Annotated[Path, typer.Option(help="Folder of the store.")] = Path("rollout")
    shadow: Annotated[
        bool, typer.Option("--shadow", help="try: beside the current bundle, which keeps answering.")
    ] = False
    for_time: Annotated[
        str, typer.Option("--for", help="try: without confirm or promote until then, it goes back: 24h.")
    ] = "24h"
    least: Annotated[int, typer.Option(help="promote: windows that the shadow must have answered.")] = 100
    require_signature: TrustedKeys = None


def rollout(request: RolloutRequest) -> None:
    """Try a bundle beside the current one or in its place; it goes back unless it is accepted in time.

    Example: edgesparse rollout try pump_2.edgesparse --shadow --for 24h --store /var/lib/pump

    Example: edgesparse rollout promote --store /var/lib/pump
    """
    action, words = request.words[0], request.words[1:]
    if action not in ACTIONS:
        raise InputError(f"`edgesparse rollout` must be one of {', '.join(ACTIONS)}; got {action}.")
    if len(words) != (action == "try"):
        what = "one bundle" if action == "try" else "nothing more"
        given = " ".join(words) or "none"
        raise InputError(f"`edgesparse rollout {action}` must be given {what}; got {given}.")
    if action == "try":
        _try(Path(words[0]), request)
        return
    store = Store(request.store)
    try:
        if action == "confirm":
            _check_confirm(store.trial())
            store.accept(action)
        elif action == "promote":
            _check_promote(store.trial(), request.least)
            store.accept(action)
        elif action == "rollback":
            store.back(f"by user {os.getuid()}")
        _show(store, as_json=request.as_json)
    finally:
        store.close()


def _try(path: Path, request: RolloutRequest) -> None:
    seconds = parse_duration(request.for_time, "--for")
    bundle = open_bundle(path, trusted_keys=request.require_signature or ())
    if broken := [check for check in verify(bundle) if not check.holds]:
        raise GateError(
            f"{path} must pass its rehearsal; {broken[0].boundary}: {broken[0].detail}. It was not taken."
        )
    store = Store(request.store, create=True)
    try:
        store.begin(bundle, "shadow" if request.shadow else "live", seconds)
        _show(store, as_json=request.as_json)
    finally:
        store.close()


def _check_confirm(trial: Trial | None) -> None:
    if trial is None or trial.mode != "live":
        raise InputError("`edgesparse rollout confirm` must follow a trial that answers; none does.")


def _check_promote(trial: Trial | None, least: int) -> None:
    """Has the shadow shown enough?

    Raises:
        InputError: there is no shadow.
        GateError: too few windows, or some that it did not answer.
    """
    if trial is None or trial.mode != "shadow":
        raise InputError("`edgesparse rollout promote` must follow a shadow; there is none.")
    if trial.windows < least or trial.failed:
        raise GateError(
            f"A shadow must have answered at least {least} windows; it has seen {trial.windows} and failed "
            f"on {trial.failed}. See `edgesparse rollout status`."
        )


def _show(store: Store, *, as_json: bool) -> None:
    trial = store.trial()
    pointers = {name: store.pointer(name) for name in ("current", "previous", "trial")}
    found: dict[str, Any] = {
        "store": str(store.folder),
        **{name: _describe(store, sha256) for name, sha256 in pointers.items()},
        "answers": pointers["trial"] if trial is not None and trial.mode == "live" else pointers["current"],
    }
    compared = None if trial is None else asdict(trial)
    if as_json:
        print_json("rollout", {**found, "comparison": compared, "audit": store.audit()})
        return
    shown = {
        name: f"{entry['sha256'][:16]}, release {entry['release']}" if entry else "none"
        for name, entry in found.items()
        if name in pointers
    }
    if trial is not None:
        share = trial.equal / trial.windows if trial.windows else 0.0
        shown["mode"] = trial.mode
        shown["windows"] = f"{trial.windows:,}, {trial.failed} failed, {trial.late} late"
        if trial.mode == "shadow":
            shown["equal decisions"] = f"{share:.2%}"
            shown["latency"] = f"{trial.trial_ms:.3g} ms beside {trial.current_ms:.3g} ms"
    print_fields(shown)
    print()
    rows = [[row["time"], row["action"], row["sha256"][:16], row["detail"]] for row in store.audit()]
    print_table(["time", "action", "bundle", "detail"], rows)


def _describe(store: Store, sha256: str) -> dict[str, Any] | None:
    return {"sha256": sha256, "release": store.release(sha256)} if sha256 else None
