"""All models of a server, and how a new bundle takes the place of an old one.

A bundle on disk is looked at every so often. When it changed, the new one is rehearsed, loaded and then put
in place by one assignment: requests that came before are answered by the old model, later ones by the new.
One that does not load, or is a model of something else (task, channels or classes differ), leaves the old one
answering, and is reported once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from edgesparse_runtime.errors import BundleError, EdgeSparseError
from edgesparse_runtime.serving.addresses import Place
from edgesparse_runtime.serving.log import log
from edgesparse_runtime.serving.refusal import Refusal
from edgesparse_runtime.serving.sandbox import rehearse
from edgesparse_runtime.serving.served_model import ServedModel, load
from edgesparse_runtime.serving.settings import Settings

# More files than any bundle has; a folder that holds more is not listed to its end.
_MOST_FILES = 100

Stamp = tuple[object, ...]


class Shelf:
    """The served models by name and version.

    Args:
        places: what to serve.
        on_reload: told of each attempt: place, outcome ("loaded" or "refused"), the model in place.

    Raises:
        EdgeSparseError: one of the bundles does not load; a server starts whole or not at all.
    """

    def __init__(
        self,
        places: Sequence[Place],
        settings: Settings,
        on_reload: Callable[[Place, str, ServedModel], None] = lambda place, outcome, model: None,
    ) -> None:
        self._settings = settings
        self._on_reload = on_reload
        self._models: dict[str, dict[str, ServedModel]] = {}
        self._seen: dict[Place, Stamp] = {}
        self._tried: dict[Place, Stamp] = {}
        for place in places:
            self._seen[place] = self._tried[place] = stamp(place)
            self._put(self._load(place))

    def models(self) -> list[ServedModel]:
        """All models, by name and version."""
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
            raise Refusal(404, f"There is no model {name[:80]!r}; served are {', '.join(self._models)}.")
        if version is None:
            version = max(versions, key=int)
        if version not in versions:
            raise Refusal(
                404, f"Model {name} has no version {version[:80]!r}; it has {', '.join(self.versions(name))}."
            )
        return versions[version]

    def reload_changed(self) -> bool:
        """Look at every bundle on disk and load those that changed; called from one thread at a time.

        Returns:
            True when a model was replaced.
        """
        before = self.models()
        for model in self.models():
            place = model.place
            now = stamp(place)
            settled, self._seen[place] = now == self._seen[place], now
            if now == self._tried[place]:
                continue
            # A folder that is copied into file by file is left alone until nothing changes any more; one that
            # was put in place whole is a new folder and is taken at once.
            if not settled and now[:1] == self._tried[place][:1]:
                continue
            self._tried[place] = now
            self._reload(place, model)
        return self.models() != before

    def _reload(self, place: Place, old: ServedModel) -> None:
        try:
            model = self._load(place)
            check_same_interface(old, model)
        except EdgeSparseError as error:
            if stamp(place) != self._tried[place]:
                return  # It was replaced while it was read; the next look finds the newer one.
            log(
                "reload refused",
                model=place.name,
                version=place.version,
                bundle=str(place.path),
                reason=" ".join(str(error).split()),
                still=old.bundle_hash,
            )
            self._on_reload(place, "refused", old)
            return
        if model.bundle_hash == old.bundle_hash:
            return
        self._put(model)
        log(
            "reloaded",
            model=place.name,
            version=place.version,
            bundle_sha256=model.bundle_hash,
            was=old.bundle_hash,
        )
        self._on_reload(place, "loaded", model)

    def _load(self, place: Place) -> ServedModel:
        if self._settings.rehearse:
            rehearse(place, self._settings)
        return load(place, self._settings)

    def _put(self, model: ServedModel) -> None:
        self._models.setdefault(model.place.name, {})[model.place.version] = model


def check_same_interface(old: ServedModel, new: ServedModel) -> None:
    """Clients of `old` go on with `new` unchanged: windows fit it, and its scores mean what they meant.

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
                f"{new.place.path} must have the {what} of the model in place ({_short(was)}); "
                f"got {_short(now)}. Serve another model under a name or version of its own."
            )


def _short(names: list[str]) -> str:
    text = ", ".join(names) or "none"
    return text if len(text) <= 80 else text[:77] + "..."


def stamp(place: Place) -> Stamp:
    """Changes when the bundle at the place does; its first part when it is another file or folder."""
    try:
        own = os.stat(place.path)
        entries: list[Stamp] = []
        if os.path.isdir(place.path):
            with os.scandir(place.path) as found:
                for entry in found:
                    facts = entry.stat(follow_symlinks=False)
                    entries.append((entry.name, facts.st_ino, facts.st_size, facts.st_mtime_ns))
                    if len(entries) > _MOST_FILES:
                        break
        return (own.st_dev, own.st_ino), own.st_size, own.st_mtime_ns, tuple(sorted(entries))
    except OSError:
        return (None,)
