"""Bills of materials in CycloneDX 1.6 JSON: of a bundle (ML-BOM), and of what is installed here.

Written without a package for it, so that a device can print them; the same input gives the same bytes but
for versions installed. Names come from files of others: everything is a JSON string, nothing is interpreted.
"""

from __future__ import annotations

import hashlib
import platform
import re
import uuid
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.bundle.version import tool_version
from edgesparse_runtime.engine import get_library_path
from edgesparse_runtime.errors import InputError

SPEC_VERSION = "1.6"
# What runs a bundle.
RUNNERS = ("numpy", "onnxruntime")
_NAMESPACE = uuid.UUID("0d9f6d5e-6b0f-5c62-9d0b-2f6f2f0a8f53")
_LONGEST_LICENSE = 100
_SPDX = re.compile(r"[A-Za-z0-9.+() -]+")
Component = dict[str, Any]


def bundle_bom(bundle: Bundle, *, license_of: str = "", data: Path | None = None) -> dict[str, Any]:
    """The ML-BOM of a bundle: model, files with hashes, training data and what runs it.

    Args:
        license_of: SPDX expression of the model's license; "" = not stated.
        data: the training data, a file or a folder, whose files are listed with their hashes.

    Raises:
        InputError: there is nothing at `data`, or the license is no SPDX expression.
    """
    if license_of and not _SPDX.fullmatch(license_of):
        raise InputError(f"`--license` must be an SPDX expression such as Apache-2.0; got {license_of!r}.")
    manifest = bundle.manifest
    sources = _sources(bundle, data)
    files = [_file(name, entry["sha256"]) for name, entry in sorted(manifest["files"].items())]
    packages = [_package(distribution(name)) for name in RUNNERS]
    model: Component = {
        "type": "machine-learning-model",
        "bom-ref": f"model:{bundle.sha256}",
        "name": bundle.name,
        "version": str(manifest.get("release", 0)),
        "hashes": [{"alg": "SHA-256", "content": bundle.sha256}],
        "modelCard": _model_card(bundle, [source["bom-ref"] for source in sources]),
        "properties": _properties(bundle),
    }
    if license_of:
        model["licenses"] = [{"expression": license_of}]
    parts = [*files, *sources, *packages]
    dependencies = [
        {"ref": model["bom-ref"], "dependsOn": [part["bom-ref"] for part in parts]},
        *({"ref": part["bom-ref"]} for part in parts),
    ]
    return _document(model, parts, dependencies, manifest["created"], manifest["edgesparse"])


def installed_bom(created: str) -> dict[str, Any]:
    """The SBOM of this distribution as it is installed: packages that it requires, and its native library.

    Packages of extras have the scope `optional`.

    Args:
        created: time of the document, as ISO 8601.

    Raises:
        InputError: it is not installed.
    """
    try:
        ours = distribution("edgesparse")
    except PackageNotFoundError:
        raise InputError(
            "`edgesparse sbom` without a bundle needs the installed package; it runs from source."
        ) from None
    found: dict[str, Component] = {}
    edges: dict[str, list[str]] = {}
    _collect(ours, "required", found, edges)
    main = found.pop(_normal("edgesparse"))
    main.pop("scope")
    main["type"] = "application"
    library = get_library_path()
    parts = list(found.values())
    if library is not None:
        content = Path(library).read_bytes()
        parts.append(_file(Path(library).name, hashlib.sha256(content).hexdigest()))
        edges[main["bom-ref"]].append(parts[-1]["bom-ref"])
    dependencies = [{"ref": ref, "dependsOn": sorted(set(to))} for ref, to in edges.items()]
    return _document(main, parts, dependencies, created, tool_version())


def _document(
    subject: Component, parts: list[Component], dependencies: list[dict[str, Any]], created: str, tool: str
) -> dict[str, Any]:
    named = f"{subject['bom-ref']} {' '.join(part['bom-ref'] for part in parts)}"
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, named)}",
        "version": 1,
        "metadata": {
            "timestamp": created,
            "tools": {"components": [{"type": "application", "name": "edgesparse", "version": tool}]},
            "component": subject,
        },
        "components": parts,
        "dependencies": dependencies,
    }


def _model_card(bundle: Bundle, data_references: list[str]) -> dict[str, Any]:
    manifest = bundle.manifest
    mode = manifest.get("attention", {}).get("mode", "none")
    channels = ", ".join(bundle.channels)
    unknown = manifest.get("unknown")
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": bundle.task,
            "architectureFamily": "linear" if mode == "none" else "transformer",
            "modelArchitecture": f"attention: {mode}",
            "datasets": [{"ref": reference} for reference in data_references],
            "inputs": [{"format": f"float32 [batch, channels, time]: {channels}" if channels else "tensors"}],
            "outputs": [{"format": ", ".join(bundle.classes) or "numbers"}],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                {
                    "type": metric["name"],
                    "value": f"{metric['value']:.6g}",
                    "slice": name,
                    "confidenceInterval": {
                        "lowerBound": f"{metric['low']:.6g}",
                        "upperBound": f"{metric['high']:.6g}",
                    },
                }
                for name, metric in manifest.get("metrics", {}).items()
            ]
        },
        "considerations": {
            "technicalLimitations": [
                "Measured on the series named here only; new machines, sensors and rates must be measured.",
                "Windows unlike all training windows are called unknown."
                if unknown
                else "A window of anything else gets one of the outputs too.",
            ]
        },
    }


def _properties(bundle: Bundle) -> list[dict[str, str]]:
    """Facts that CycloneDX has no field for."""
    manifest = bundle.manifest
    units = [f"{c['name']}: {c.get('unit') or 'not stated'}" for c in manifest["channels"]]
    found = {
        "edgesparse:release": str(manifest.get("release", 0)),
        "edgesparse:parent": str(manifest.get("parent", "")),
        "edgesparse:units": "; ".join(units),
        "edgesparse:period_seconds": str(manifest["input"].get("period") or ""),
        "edgesparse:precisions": ", ".join(bundle.precisions),
        "edgesparse:signed": "no" if bundle.signature is None else "yes",
    }
    return [{"name": name, "value": value} for name, value in found.items() if value]


def _sources(bundle: Bundle, data: Path | None) -> list[Component]:
    """Training data by name; with hashes where the files are at hand, or `edgesparse update` stored them."""
    found = []
    if data is not None:
        if not data.exists():
            raise InputError(f"{data}: no such file or folder.")
        files = [data] if data.is_file() else sorted(path for path in data.rglob("*") if path.is_file())
        for path in files:
            name = path.name if path == data else str(path.relative_to(data))
            found.append(_data(name, hashlib.sha256(path.read_bytes()).hexdigest()))
    else:
        found.append(_data(str(bundle.manifest.get("training", {}).get("source", "not stated")), ""))
    for name, value in bundle.manifest.get("update", {}).get("data", {}).items():
        if isinstance(value, dict):
            stored = f"update, {name}: {value.get('source', 'not stated')}"
            found.append(_data(stored, str(value.get("sha256", ""))))
    return list({source["bom-ref"]: source for source in found}.values())


def _data(name: str, sha256: str) -> Component:
    component: Component = {
        "type": "data",
        "bom-ref": f"data:{name}",
        "name": name,
        "data": [{"type": "dataset", "name": name}],
    }
    if re.fullmatch(r"[0-9a-f]{64}", sha256):
        component["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    return component


def _file(name: str, sha256: str) -> Component:
    return {
        "type": "file",
        "bom-ref": f"file:{name}",
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": sha256}],
    }


def _package(found: Distribution) -> Component:
    name, version = _normal(found.name), found.version
    component: Component = {
        "type": "library",
        "bom-ref": f"pkg:pypi/{name}@{version}",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
    }
    if license_of := _license(found):
        component["licenses"] = [license_of]
    return component


def _license(found: Distribution) -> dict[str, Any] | None:
    """As the package states it: an SPDX expression, else its license field's first line, or a classifier."""
    metadata = found.metadata
    if "License-Expression" in metadata:
        return {"expression": metadata["License-Expression"]}
    stated = metadata["License"].strip().splitlines() if "License" in metadata else []
    if stated and len(stated[0]) <= _LONGEST_LICENSE:
        return {"license": {"name": stated[0]}}
    classifiers = [str(c) for c in metadata.get_all("Classifier") or [] if str(c).startswith("License ::")]
    return {"license": {"name": classifiers[0].split("::")[-1].strip()}} if classifiers else None


def _collect(
    found: Distribution, scope: str, components: dict[str, Component], edges: dict[str, list[str]]
) -> str:
    """Adds a package and, of what it requires, what is installed; returns its reference."""
    name = _normal(found.name)
    if name in components:
        if scope == "required":
            components[name]["scope"] = scope
        return str(components[name]["bom-ref"])
    component = components[name] = {**_package(found), "scope": scope}
    reference = str(component["bom-ref"])
    targets = edges.setdefault(reference, [])
    # Extras of other packages are nobody's choice here.
    takes_extras = name == "edgesparse"
    for required, is_extra in _requirements(found):
        if (is_extra and not takes_extras) or _normal(required) == name:
            continue
        try:
            other = distribution(required)
        except PackageNotFoundError:
            continue
        targets.append(_collect(other, "optional" if is_extra else scope, components, edges))
    return reference


def _requirements(found: Distribution) -> Iterator[tuple[str, bool]]:
    """Required names, and whether an extra brings them; those required in any case first."""
    parsed = []
    for text in found.requires or []:
        stated, _, marker = text.partition(";")
        match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", stated)
        if match and not _is_for_another_system(marker):
            parsed.append((match[1], "extra" in marker))
    yield from sorted(set(parsed), key=lambda pair: (pair[1], pair[0]))


def _is_for_another_system(marker: str) -> bool:
    match = re.search(r"(?:sys_platform|platform_system)\s*==\s*['\"](\w+)['\"]", marker)
    return match is not None and match[1].lower() != platform.system().lower()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
