"""The families of docs/guides/dropin.md's table: right in PyTorch, padded on either side, or refused.

`python -m benchmarks.dropin.families` also exports each, which takes seconds.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.dropin.family_models import FAMILIES, Family, difference
from edgesparse.dropin.sparsify import sparsify
from edgesparse_runtime.errors import InputError
from tests.support.paths import ROOT

pytest.importorskip("transformers", reason="needs pip install 'edgesparse[dropin]'")
WORKS = [family for family in FAMILIES if not family.is_refused]
REFUSED = [family for family in FAMILIES if family.is_refused]


def by_name(family: Family) -> str:
    return family.name


@pytest.mark.parametrize("family", WORKS, ids=by_name)
def test_with_every_block_kept_a_family_is_as_it_was(family: Family) -> None:
    for side in family.paddings:
        assert difference(family, is_left_padded=side) < 1e-5


@pytest.mark.parametrize("family", REFUSED, ids=by_name)
def test_a_family_that_does_not_fit_is_refused_in_a_sentence(family: Family) -> None:
    model, batch = family.make(), family.batch()
    with pytest.raises(InputError) as found:
        sparsify(model, [batch, batch], density=0.5, block_size=8)
    assert family.refused in str(found.value) and "\n" not in str(found.value)


@pytest.mark.parametrize("family", WORKS, ids=by_name)
def test_weights_of_attention_are_refused_and_never_empty(family: Family) -> None:
    """transformers collects them where the attention function returns them; ours has none to return."""
    model: Any = family.make()
    sparsify(model, block_size=8)
    batch = family.batch()
    with pytest.raises(InputError, match="`output_attentions` must be left out"):
        model(**batch, output_attentions=True)
    assert model(**batch).last_hidden_state is not None
    model.set_attn_implementation("eager")
    assert all(x is not None for x in model(**batch, output_attentions=True).attentions)


def test_a_failed_sparsify_leaves_no_hook() -> None:
    family = next(x for x in FAMILIES if x.name == "SigLIP")
    model = family.make()
    with pytest.raises(InputError, match="must accept the batches"):
        sparsify(model, [{"pixel_values": torch.zeros(2, 3, 5, 5)}], density=0.5)
    assert not model._forward_pre_hooks
    assert model(**family.batch(), output_attentions=True).last_hidden_state is not None


def test_the_page_has_a_row_for_every_family() -> None:
    page = (ROOT / "docs" / "guides" / "dropin.md").read_text()
    table = page.split("<!-- families: begin -->")[1].split("<!-- families: end -->")[0]
    rows = {line.split("|")[1].strip(): line for line in table.strip().splitlines()[2:]}
    assert list(rows) == [family.name for family in FAMILIES]
    assert all(("refused" in rows[family.name]) == family.is_refused for family in FAMILIES)


def test_a_layer_of_left_padding_alone_changes_nothing() -> None:
    """More padding than a block, on the left: nothing before the first real token is attended to."""
    family = next(x for x in FAMILIES if x.name == "Qwen3")
    model, batch = family.make(), family.batch(is_left_padded=True)
    sparsify(model, [batch, batch], density=0.7, block_size=8)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    with torch.no_grad():
        before = model(input_ids=ids, attention_mask=mask).last_hidden_state
        after = model(input_ids=torch.where(mask == 0, 50, ids), attention_mask=mask).last_hidden_state
    torch.testing.assert_close(after[mask.bool()], before[mask.bool()])
