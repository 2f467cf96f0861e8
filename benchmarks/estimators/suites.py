"""The check suites of sktime, aeon and scikit-learn on our estimators, each in a process of its own.

`python -m benchmarks.estimators.suites sktime Classifier` prints the results of one as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tests.support.paths import ROOT

SUITES = [(peer, kind) for kind in ("Classifier", "Regressor") for peer in ("sktime", "aeon", "sklearn")]
# Checks that do not pass, and why; of any estimator.
EXCEPTIONS: dict[str, dict[str, str]] = {
    "sktime": {},
    "aeon": {},
    "sklearn": {
        "check_array_api_input": "skipped by scikit-learn itself unless SCIPY_ARRAY_API is set",
        "check_n_features_in": "rows are series of any length: there is no n_features_in_",
        "check_n_features_in_after_fitting": "as check_n_features_in",
        "check_classifiers_train": "wants rows of another length refused; series may have any length",
        "check_methods_subset_invariance": "wants equality to 1e-7; scores are float32, equal to 1e-6",
    },
}
Results = dict[str, str]


def run_suite(peer: str, kind: str) -> Results:
    """Verdict of each check: PASSED, or what went wrong."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.estimators.suites", peer, kind]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    if done.returncode:
        return {"the suite itself": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    found: Results = json.loads(done.stdout.splitlines()[-1])
    return found


def check_sktime(kind: str) -> Results:
    """Every test of sktime that applies."""
    suite = importlib.import_module("sktime.utils.estimator_checks")
    ours = importlib.import_module("edgesparse.estimators.for_sktime")
    found = suite.check_estimator(getattr(ours, f"SparseTransformer{kind}"), verbose=0)
    return {check: short(verdict) for check, verdict in found.items()}


def check_aeon(kind: str) -> Results:
    """Every check of aeon that applies."""
    suite = importlib.import_module("aeon.testing.estimator_checking")
    ours = importlib.import_module("edgesparse.estimators.for_aeon")
    found = suite.check_estimator(getattr(ours, f"SparseTransformer{kind}"))
    return {check: short(verdict) for check, verdict in found.items()}


def check_sklearn(kind: str) -> Results:
    """Every check of scikit-learn, on tables whose rows are series of one channel."""
    suite = importlib.import_module("sklearn.utils.estimator_checks")
    ours = importlib.import_module("edgesparse.estimators")
    estimator = getattr(ours, f"SparseTransformer{kind}")(model="small", settings={"model.filters": 4})
    found = suite.check_estimator(estimator, on_fail=None, on_skip=None)
    results = {}
    for number, entry in enumerate(found):
        passed = entry["status"] == "passed"
        results[f"{entry['check_name']}({number})"] = "PASSED" if passed else short(entry["exception"])
    return results


def short(verdict: Any) -> str:
    """The first line of what a check found."""
    return (str(verdict).strip().splitlines() or [type(verdict).__name__])[0][:200]


CHECKS: dict[str, Callable[[str], Results]] = {
    "sktime": check_sktime,
    "aeon": check_aeon,
    "sklearn": check_sklearn,
}

if __name__ == "__main__":
    print(json.dumps(CHECKS[sys.argv[1]](sys.argv[2])))
