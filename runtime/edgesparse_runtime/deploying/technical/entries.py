"""What only the manufacturer knows: nothing of it is invented here, and gaps are said to be gaps.

Points are those of Annex VII of Regulation (EU) 2024/2847; Annex II is what its point 1 (d) requires.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path

from edgesparse_runtime.errors import InputError

_LONGEST = 20_000


@dataclass(frozen=True)
class Entry:
    """One entry for the manufacturer to fill in.

    Attributes:
        key: its name in the file of entries.
        point: of Annex VII.
        wanted: what belongs there.
    """

    key: str
    point: str
    wanted: str


ENTRIES = (
    Entry(
        "intended_purpose", "1 (a)", "The intended purpose of the product, and what this model does in it."
    ),
    Entry(
        "product_versions",
        "1 (b)",
        "Versions of the product that this bundle is part of, and of all other software in it that affects "
        "compliance.",
    ),
    Entry(
        "photographs",
        "1 (c)",
        "Of hardware: where photographs or illustrations of its outside, marking and inside are filed; else "
        "that it is no hardware.",
    ),
    Entry(
        "manufacturer",
        "1 (d)",
        "Annex II, 1: name or trademark, postal address, e-mail or other digital contact, and website.",
    ),
    Entry(
        "vulnerability_contact",
        "1 (d)",
        "Annex II, 2: single point of contact for vulnerabilities, and where the disclosure policy is found.",
    ),
    Entry(
        "security_environment",
        "1 (d)",
        "Annex II, 4: the security environment that you provide for, essential functions, and security "
        "properties.",
    ),
    Entry(
        "risky_use",
        "1 (d)",
        "Annex II, 5: known or foreseeable circumstances, misuse included, that may lead to significant "
        "cybersecurity risks.",
    ),
    Entry(
        "declaration_address",
        "1 (d)",
        "Annex II, 6: where applicable, the internet address of the EU declaration of conformity.",
    ),
    Entry(
        "support_end",
        "1 (d)",
        "Annex II, 7: technical security support that you offer, and the end date of the support period.",
    ),
    Entry(
        "user_instructions",
        "1 (d)",
        "Annex II, 8: where the instructions are filed: secure commissioning and use (a), effects of changes "
        "(b), installing security updates (c), decommissioning and removal of data (d), turning off "
        "automatic updates (e), integration into other products (f).",
    ),
    Entry(
        "sbom_address",
        "1 (d)",
        "Annex II, 9: where users find the bill of materials, if you give it to them.",
    ),
    Entry(
        "system_architecture",
        "2 (a)",
        "How the product is built around this model: what feeds it, what uses its output; drawings.",
    ),
    Entry(
        "vulnerability_handling",
        "2 (b)",
        "How vulnerabilities are identified, documented, fixed, tested for and published (Annex I, Part II).",
    ),
    Entry("disclosure_policy", "2 (b)", "The coordinated vulnerability disclosure policy."),
    Entry("update_distribution", "2 (b)", "Technical solutions chosen to distribute updates securely."),
    Entry("production", "2 (c)", "Production and monitoring processes, and how these are validated."),
    Entry(
        "risk_assessment",
        "3",
        "The cybersecurity risk assessment of the product (Article 13), or where it is filed.",
    ),
    Entry(
        "support_period",
        "4",
        "The support period and what it was determined from (Article 13 (8)): at least five years, or the "
        "time of expected use where that is shorter.",
    ),
    Entry(
        "standards",
        "5",
        "Harmonized standards, common specifications or certification schemes applied, in full or which "
        "parts; else the solutions adopted instead.",
    ),
    Entry(
        "security_tests",
        "6",
        "Reports of tests that verify conformity of the product and of vulnerability handling with Annex I.",
    ),
    Entry(
        "declaration", "7", "A copy of the EU declaration of conformity (Article 28), or where it is filed."
    ),
)
REQUIREMENT_KEYS = tuple(f"requirement_{letter}" for letter in "abcdefghijklm")


def read_entries(path: Path | None) -> dict[str, str]:
    """The manufacturer's entries: a JSON object of texts by key; those left empty are not filled in.

    Raises:
        InputError: it is not of that form, or a key is unknown.
    """
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}.") from None
    except ValueError as error:
        raise InputError(f"`--entries` {path} must be JSON in UTF-8: {error}.") from None
    if not isinstance(found, dict):
        raise InputError(f"`--entries` {path} must be a JSON object of texts by key.")
    known = [entry.key for entry in ENTRIES] + list(REQUIREMENT_KEYS)
    for key, value in found.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else "A technical file in JSON lists all keys."
            raise InputError(f"`--entries` {path}: unknown entry {key!r}. {hint}")
        if not isinstance(value, str) or len(value) > _LONGEST:
            raise InputError(f"`--entries` {path}: {key} must be a text of at most {_LONGEST:,} characters.")
    return {key: value.strip() for key, value in found.items() if value.strip()}
