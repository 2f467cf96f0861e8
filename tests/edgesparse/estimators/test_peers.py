"""A sample of the peers' own checks; `make prove-people` runs all of them."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
from sklearn.utils import estimator_checks

from edgesparse.estimators import SparseTransformerClassifier
from tests.edgesparse.estimators.panels import SMALL, make_batch

pytestmark = [pytest.mark.contract, pytest.mark.filterwarnings("ignore")]
KINDS = ["Classifier", "Regressor"]
SKTIME = [
    "test_constructor",
    "test_get_params",
    "test_set_params",
    "test_clone",
    "test_object_tags",
    "test_handles_single_class",
    "test_raises_not_fitted_error",
    "test_class_has_doctest_example",
]
AEON = [
    "check_multithreading_param",
    "check_constructor",
    "check_clone",
    "check_get_params",
    "check_tag_usage",
]


@pytest.mark.parametrize("kind", KINDS)
def test_sktime_accepts_it(kind: str) -> None:
    checks = pytest.importorskip("sktime.utils.estimator_checks")
    ours = importlib.import_module("edgesparse.estimators.for_sktime")
    found = checks.check_estimator(getattr(ours, f"SparseTransformer{kind}"), tests_to_run=SKTIME, verbose=0)
    assert len(found) > len(SKTIME)
    assert set(found.values()) == {"PASSED"}


@pytest.mark.parametrize("kind", KINDS)
def test_aeon_accepts_it(kind: str) -> None:
    checks = pytest.importorskip("aeon.testing.estimator_checking")
    ours = importlib.import_module("edgesparse.estimators.for_aeon")
    found = checks.check_estimator(getattr(ours, f"SparseTransformer{kind}"), checks_to_run=AEON)
    assert len(found) >= 4
    assert set(found.values()) == {"PASSED"}


def test_the_adapters_do_the_same_work() -> None:
    X, y = make_batch()
    expected = SparseTransformerClassifier(settings=SMALL).fit(X, y).predict_proba(X)
    for peer in ("sktime", "aeon"):
        pytest.importorskip(peer)
        adapter = importlib.import_module(f"edgesparse.estimators.for_{peer}").SparseTransformerClassifier
        assert (adapter(settings=SMALL, n_jobs=1).fit(X, y).predict_proba(X) == expected).all()


def test_peers_load_when_asked_for_and_are_named_where_missing() -> None:
    script = """
import sys
import edgesparse.estimators
assert not {"sktime", "aeon", "matplotlib", "onnx"} & set(sys.modules), "loaded"
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("sktime", "aeon", "matplotlib"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Refuse())
for peer in ("sktime", "aeon"):
    try:
        __import__(f"edgesparse.estimators.for_{peer}")
    except edgesparse.estimators.errors.InputError:
        raise
    except Exception as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "`edgesparse.estimators.for_sktime` needs sktime. Install with: pip install 'edgesparse[data]'",
        "`edgesparse.estimators.for_aeon` needs aeon. Install with: pip install 'edgesparse[aeon]'",
    ], done.stderr


@pytest.mark.parametrize(
    "check",
    ["check_no_attributes_set_in_init", "check_dict_unchanged", "check_classifiers_classes"],
)
def test_scikit_learn_accepts_it(check: str) -> None:

    estimator = SparseTransformerClassifier(settings=SMALL)
    getattr(estimator_checks, check)("SparseTransformerClassifier", estimator)
