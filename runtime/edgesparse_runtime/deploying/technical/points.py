"""What is known under each point of Annex VII: every value comes from a source that is named beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgesparse_runtime.bundle.manifest_types import Manifest, Metric
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.column_names import with_unit
from edgesparse_runtime.evaluation.verify import Check

MANIFEST, BOM, GOLDEN = "manifest.json", "bill of materials", "verification"
SOFTWARE = "EdgeSparse"
# Of Annex VII, in short.
TITLES = {
    "1 (a)": "Intended purpose",
    "1 (b)": "Versions of software that affect compliance",
    "1 (c)": "Photographs or illustrations of hardware",
    "1 (d)": "Information and instructions for users (Annex II)",
    "2 (a)": "Design, development and system architecture",
    "2 (b)": "Vulnerability handling",
    "2 (c)": "Production and monitoring",
    "3": "Assessment of cybersecurity risks",
    "4": "Support period",
    "5": "Harmonized standards and other specifications",
    "6": "Test reports",
    "7": "EU declaration of conformity",
    "8": "Software bill of materials",
}


@dataclass(frozen=True)
class Fact:
    """One value, and where it was found."""

    what: str
    value: str
    source: str


def facts_of_point(point: str, bundle: Bundle, bom: dict[str, Any], checks: list[Check]) -> list[Fact]:
    """What the bundle, its bill of materials and its golden vectors tell of one point."""
    found = {
        "1 (a)": lambda: _purpose(bundle),
        "1 (b)": lambda: _versions(bundle, bom),
        "1 (d)": lambda: _identification(bundle),
        "2 (a)": lambda: _design(bundle),
        "2 (b)": lambda: _handling(bundle, bom),
        "2 (c)": lambda: _production(bundle, checks),
        "4": lambda: _support(bundle),
        "5": lambda: _specifications(bundle, bom),
        "6": lambda: _tests(checks),
        "8": lambda: _bill(bom),
    }.get(point)
    return [] if found is None else list(found())


def _purpose(bundle: Bundle) -> Iterator[Fact]:
    manifest = bundle.manifest
    facts = manifest["input"]
    channels = ", ".join(with_unit(c["name"], c.get("unit")) for c in manifest["channels"])
    yield Fact("model", f"{bundle.name}, {bundle.task}", MANIFEST)
    if channels:
        yield Fact("input", channels, MANIFEST)
    if period := facts.get("period"):
        yield Fact("sampling period", f"{period:.6g} s", MANIFEST)
    if "shortest" in facts and "longest" in facts:
        ends = sorted({facts["shortest"], facts["longest"]})
        yield Fact("length of training windows", f"{' to '.join(f'{n:,}' for n in ends)} steps", MANIFEST)
    if bundle.classes:
        yield Fact("output", f"one of {', '.join(bundle.classes)}, each with a probability", MANIFEST)
    elif forecast := manifest.get("forecast"):
        yield Fact("output", f"the next {forecast['horizon']:,} steps of {forecast['channel']}", MANIFEST)
    unknown = manifest.get("unknown")
    if bundle.task == "classification":
        yield Fact(
            "windows of anything else",
            f"are called unknown where they are unlike all training windows{_refused(unknown)}"
            if unknown
            else "get one of the outputs too",
            MANIFEST,
        )
    if "card.md" in manifest["files"]:
        yield Fact("intended use, data by group, limits", "card.md of the bundle", MANIFEST)


def _refused(unknown: dict[str, Any]) -> str:
    return f", as {unknown['refused']:.0%} of good ones are" if "refused" in unknown else ""


def _versions(bundle: Bundle, bom: dict[str, Any]) -> Iterator[Fact]:
    manifest = bundle.manifest
    yield Fact("release of the bundle", str(manifest.get("release", 0)), MANIFEST)
    yield Fact("written", f"{manifest['created']} by EdgeSparse {manifest['edgesparse']}", MANIFEST)
    yield Fact("sha256 of manifest.json", bundle.sha256, MANIFEST)
    if parent := manifest.get("parent"):
        yield Fact("release before", parent, MANIFEST)
    for part in _libraries(bom):
        yield Fact(part["name"], part["version"], BOM)


def _libraries(bom: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for part in bom["components"] if part["type"] == "library"]


def _identification(bundle: Bundle) -> Iterator[Fact]:
    yield Fact("identification of the model (3)", f"{bundle.name}, sha256 {bundle.sha256}", MANIFEST)
    yield Fact(
        "installing updates (8 c)",
        "edgesparse rollout replaces a bundle and goes back unless the new one is confirmed; the runner is a "
        "Python package. Nothing updates itself (8 e).",
        SOFTWARE,
    )


def _design(bundle: Bundle) -> Iterator[Fact]:
    manifest = bundle.manifest
    yield Fact(
        "processing",
        "raw windows enter model.onnx, which normalizes them and outputs scores; onnxruntime runs it, with "
        "EdgeSparse's kernels or with standard operators",
        SOFTWARE,
    )
    if attention := manifest.get("attention"):
        layers = f", {len(attention['layers'])} layer(s)" if attention["layers"] else ""
        yield Fact("attention", f"{attention['mode']}{layers}", MANIFEST)
    if "parameters" in manifest:
        yield Fact("trained weights", f"{manifest['parameters']:,}", MANIFEST)
    yield Fact("precisions", ", ".join(bundle.precisions), MANIFEST)
    if training := manifest.get("training"):
        series = f"{training['series']:,} series of {training['source']}"
        yield Fact("training data", series, MANIFEST)
    yield from _measured(manifest)


def _measured(manifest: Manifest) -> Iterator[Fact]:
    """New series first; training series, which tell nothing of new ones, last."""
    fields: dict[str, Any] = dict(manifest)
    for group, metric in ((fields.get("cross_validation") or {}).get("groups") or {}).items():
        yield _metric(metric, f"group {group}, by a model not trained on it")
    if skip := fields.get("skip"):
        yield _metric(skip["left_out"], "leave-one-out over the training series")
    metrics = manifest.get("metrics", {})
    if held := metrics.get("validation"):
        yield _metric(held, "validation split, not trained on")
    if fitted := metrics.get("training"):
        yield _metric(fitted, "training series, which tells nothing of new ones")


def _metric(metric: Metric, which: str) -> Fact:
    value = f"{metric['value']:.3f} [{metric['low']:.3f}, {metric['high']:.3f}], n={metric['n']:,}"
    return Fact(f"{metric['name']}, {which}", value, MANIFEST)


def _handling(bundle: Bundle, bom: dict[str, Any]) -> Iterator[Fact]:
    parts = bom["components"]
    told = f"{len(parts):,} components, {len(_libraries(bom)):,} of them packages; point 8"
    yield Fact("bill of materials", told, BOM)
    signed = "no" if bundle.signature is None else "yes, Ed25519 over manifest.json"
    yield Fact("bundle is signed", signed, MANIFEST)
    if expires := bundle.manifest.get("expires"):
        yield Fact("may be rolled out until", expires, MANIFEST)
    yield Fact(
        "vulnerabilities of EdgeSparse",
        "are reported and published as SECURITY.md of its source says",
        SOFTWARE,
    )


def _production(bundle: Bundle, checks: list[Check]) -> Iterator[Fact]:
    held = sum(check.holds for check in checks)
    value = f"{held} of {len(checks)} boundaries hold on this machine; point 6"
    yield Fact("recorded answers are reproduced", value, GOLDEN)
    files = bundle.manifest["files"]
    for name, what in (
        ("monitor.json", "reference to detect drift with"),
        ("events.json", "rules of events"),
    ):
        yield Fact(what, name if name in files else "none in this bundle", MANIFEST)


def _support(bundle: Bundle) -> Iterator[Fact]:
    yield Fact(
        "support of EdgeSparse",
        f"the bundle was written by version {bundle.manifest['edgesparse']}; which versions get security "
        "fixes, and for how long, is in SECURITY.md of its source",
        MANIFEST,
    )


def _specifications(bundle: Bundle, bom: dict[str, Any]) -> Iterator[Fact]:
    yield Fact("harmonized standards", "EdgeSparse claims none", SOFTWARE)
    names = ["ONNX (model files)", f"CycloneDX {bom['specVersion']} (bill of materials)", "SHA-256 (files)"]
    if bundle.signature is not None:
        names.append("Ed25519 (signature)")
    yield Fact("other technical specifications", ", ".join(names), BOM)


def _tests(checks: list[Check]) -> Iterator[Fact]:
    for check in checks:
        state = "holds" if check.holds else "BROKEN"
        yield Fact(check.boundary, f"{state}: {check.detail}" if check.detail else state, GOLDEN)


def _bill(bom: dict[str, Any]) -> Iterator[Fact]:
    yield Fact("form", f"{bom['bomFormat']} {bom['specVersion']}, JSON, {bom['serialNumber']}", BOM)
    for part in _libraries(bom):
        stated = [entry.get("expression") or entry["license"]["name"] for entry in part.get("licenses", [])]
        license_of = ", ".join(stated) or "license not stated"
        yield Fact(part["name"], f"{part['version']}, {license_of}", BOM)
