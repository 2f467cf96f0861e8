"""All models of a server, and how a new bundle replaces an old one.

Bundles on disk are checked periodically. A changed one is rehearsed, loaded and then put in place by one
assignment: earlier requests are answered by the old model, later ones by the new. A bundle that does not
load, or whose task, channels or classes differ, is reported once, and the old model keeps answering.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from edgesparse_runtime.errors import BundleError, EdgeSparseError
from edgesparse_runtime.serving.addresses import Address
from edgesparse_runtime.serving.log import log
from edgesparse_runtime.serving.protocol.refusal import Refusal
from edgesparse_runtime.serving.sandbox import rehearse
from edgesparse_runtime.serving.served_model import ServedModel
from edgesparse_runtime.serving.served_text import load_any
from edgesparse_runtime.serving.settings import Settings

# More files than any bundle has; a folder with more is not listed to its end.
_MOST_FILES = 100

Stamp = tuple[object, ...]


class Registry:
    """The served models by name and version.

    Args:
        addresses: what to serve.
        on_reload: called after each attempt with the address, the outcome ("loaded" or "refused") and the
            model in place.

    Raises:
        EdgeSparseError: one of the bundles does not load; the server starts with all of them or not at all.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        settings: Settings,
        on_reload: Callable[[Address, str, ServedModel], None] = lambda address, outcome, model: None,
    ) -> None:
        self._settings = settings
        self._on_reload = on_reload
        self._models: dict[str, dict[str, ServedModel]] = {}
        self._seen: dict[Address, Stamp] = {}
        self._tried: dict[Address, Stamp] = {}
        for address in addresses:
            self._seen[address] = self._tried[address] = stamp(address)
            self._put(self._load(address))

    def models(self) -> list[ServedModel]:
        """All models."""
        return [model for versions in self._models.values() for model in versions.values()]

    def versions(self, name: str) -> list[str]:
        """Versions of a name, lowest first."""
        return sorted(self._models.get(name, {}), key=int)

    def find(self, name: str, version: str | None) -> ServedModel:
        """The model of a name and version; without a version, the highest.

        Raises:
            Refusal: 404.
        """
        versions = self._models.get(name)
        if versions is None:
            raise Refusal(404, f"There is no model {name[:80]!r}; this server has {', '.join(self._models)}.")
        if version is None:
            version = max(versions, key=int)
        if version not in versions:
            raise Refusal(
                404, f"Model {name} has no version {version[:80]!r}; it has {', '.join(self.versions(name))}."
            )
        return versions[version]

    def reload_changed(self) -> bool:
        """Check every bundle on disk and load those that changed; called from one thread at a time.

        Returns:
            True when a model was replaced.

        Raises:
            OSError: one could not be read for want of something; all others were checked.
        """
        before = self.models()
        failed: OSError | None = None
        for model in self.models():
            address = model.address
            now = stamp(address)
            settled, self._seen[address] = now == self._seen[address], now
            if now == self._tried[address]:
                continue
            # A folder that is being copied file by file is left alone until it stops changing; one that was
            # moved into place whole is a new folder and is loaded at once.
            if not settled and now[:1] == self._tried[address][:1]:
                continue
            tried, self._tried[address] = self._tried[address], now
            try:
                self._reload(address, model)
            except OSError as error:
                # The machine had no descriptor or process to spare, or the bundle is gone: the next check
                # tries again, and other models do not wait for it.
                self._tried[address] = tried
                failed = failed or error
        if failed is not None:
            raise failed
        return self.models() != before

    def _reload(self, address: Address, old: ServedModel) -> None:
        try:
            model = self._load(address)
            check_same_interface(old, model)
        except EdgeSparseError as error:
            if stamp(address) != self._tried[address]:
                return  # It was replaced while being read; the next check finds the newer one.
            log(
                "reload refused",
                model=address.name,
                version=address.version,
                bundle=str(address.path),
                reason=" ".join(str(error).split()),
                still=old.bundle_hash,
            )
            self._on_reload(address, "refused", old)
            return
        if model.bundle_hash == old.bundle_hash:
            return
        self._put(model)
        log(
            "reloaded",
            model=address.name,
            version=address.version,
            bundle_sha256=model.bundle_hash,
            was=old.bundle_hash,
        )
        self._on_reload(address, "loaded", model)

    def _load(self, address: Address) -> ServedModel:
        rehearsed = rehearse(address, self._settings) if self._settings.rehearse else None
        return load_any(address, self._settings, rehearsed)

    def _put(self, model: ServedModel) -> None:
        self._models.setdefault(model.address.name, {})[model.address.version] = model


def check_same_interface(old: ServedModel, new: ServedModel) -> None:
    """Clients of `old` keep working with `new`: their windows fit, and scores mean the same.

    Raises:
        BundleError: task, channels or classes differ; the order counts.
    """
    for what, was, now in (
        ("task", [old.bundle.task], [new.bundle.task]),
        ("channels", list(old.bundle.channels), list(new.bundle.channels)),
        ("classes", list(old.bundle.classes), list(new.bundle.classes)),
    ):
        if was != now:
            raise BundleError(
                f"{new.address.path} must have the {what} of the model in place ({_short(was)}); "
                f"got {_short(now)}. Serve a different model under its own name or version."
            )


def _short(names: list[str]) -> str:
    text = ", ".join(names) or "none"
    return text if len(text) <= 80 else text[:77] + "..."


def stamp(address: Address) -> Stamp:
    """Changes when the bundle does; its first part changes when it is another file or folder."""
    try:
        own = os.stat(address.path)
        entries: list[Stamp] = []
        if os.path.isdir(address.path):
            with os.scandir(address.path) as found:
                for entry in found:
                    facts = entry.stat(follow_symlinks=False)
                    entries.append((entry.name, facts.st_ino, facts.st_size, facts.st_mtime_ns))
                    if len(entries) > _MOST_FILES:
                        break
        return (own.st_dev, own.st_ino), own.st_size, own.st_mtime_ns, tuple(sorted(entries))
    except OSError:
        return (None,)
