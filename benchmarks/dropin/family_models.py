"""Families of transformers as models of random weights, small enough to run in a fraction of a second.

What `python -m benchmarks.dropin.families` makes its table of, and what the tests run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

TOKENS, REAL = 40, 29
_SIZE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
_DECODER = {**_SIZE, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 64}
_TEXT = {**_SIZE, "vocab_size": 64, "max_position_embeddings": 128}
_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        name: as people call it.
        used_by: models that belong to it.
        make: a model in evaluation mode.
        kind: "text", "causal" (text whose tokens see the past only) or "image".
        refused: what the sentence says where the family cannot be made sparse; "" = it can.
        layers: attention layers of the model.
        is_windows_only: every layer has a sliding window, which is exact: there is nothing to calibrate.
    """

    name: str
    used_by: str
    make: Callable[[], Any]
    kind: str = "text"
    refused: str = ""
    layers: int = 1
    is_windows_only: bool = False

    @property
    def is_refused(self) -> bool:
        """It cannot be made sparse, and a sentence says so."""
        return bool(self.refused)

    @property
    def paddings(self) -> tuple[bool, ...]:
        """Whether inputs are padded on the left, for each way in which they may be padded."""
        return (False,) if self.kind == "image" else (False, True)

    def real_tokens(self, batch: dict[str, torch.Tensor]) -> Any:
        """What of an output counts: bool [2, tokens], or all of it."""
        return batch["attention_mask"].bool().numpy() if "attention_mask" in batch else ...

    def batch(self, *, is_left_padded: bool = False) -> dict[str, torch.Tensor]:
        """Two inputs; of text the second is padded."""
        torch.manual_seed(1)
        if self.kind == "image":
            return {"pixel_values": torch.randn(2, 3, 48, 48)}
        mask = torch.ones(2, TOKENS, dtype=torch.int64)
        mask[1, REAL:] = 0
        ids = torch.randint(3, 60, (2, TOKENS)) * mask
        if is_left_padded:
            ids, mask = ids.flip(1), mask.flip(1)
        return {"input_ids": ids, "attention_mask": mask}


def _of(model: str, config: str, **facts: Any) -> Callable[[], Any]:
    def make() -> Any:
        import transformers as t

        torch.manual_seed(0)
        made = getattr(t, model)(getattr(t, config)(**facts))
        with torch.no_grad():
            # Random weights attend evenly; larger ones make some keys matter.
            for name, weight in made.named_parameters():
                if any(x in name for x in ("query.", "key.", "q_proj", "k_proj", "q_lin", "k_lin", "qkv")):
                    weight.mul_(8.0)
        return made.eval().requires_grad_(False)

    return make


_OWN = "it computes its own, which cannot be exchanged. Use a model of another family: BERT"
_IMAGE = {**_SIZE, "image_size": 48, "patch_size": 8}
FAMILIES = (
    Family("BERT", "MiniLM, BGE small to large, E5, GTE", _of("BertModel", "BertConfig", **_TEXT)),
    Family("RoBERTa", "all-distilroberta", _of("RobertaModel", "RobertaConfig", **_TEXT)),
    Family("XLM-RoBERTa", "BGE-M3, multilingual E5", _of("XLMRobertaModel", "XLMRobertaConfig", **_TEXT)),
    Family(
        "DistilBERT",
        "msmarco-distilbert",
        _of(
            "DistilBertModel", "DistilBertConfig",
            dim=32, n_layers=1, n_heads=4, hidden_dim=48, vocab_size=64, max_position_embeddings=128,
        ),
    ),
    Family("ELECTRA", "ELECTRA", _of("ElectraModel", "ElectraConfig", embedding_size=32, **_TEXT)),
    Family("nomic-bert", "nomic-embed-text", _of("NomicBertModel", "NomicBertConfig", **_TEXT)),
    Family(
        "EuroBERT", "EuroBERT, jina-v5-nano",
        _of("EuroBertModel", "EuroBertConfig", **_DECODER, **_IDS, mask_token_id=4),
    ),
    Family("Qwen3", "Qwen3-Embedding, jina-v5", _of("Qwen3Model", "Qwen3Config", **_DECODER), "causal"),
    Family("Llama", "Llama, SmolLM2", _of("LlamaModel", "LlamaConfig", **_DECODER), "causal"),
    Family("ViT", "ViT", _of("ViTModel", "ViTConfig", **_IMAGE), "image"),
    Family("SigLIP", "SigLIP, vision", _of("SiglipVisionModel", "SiglipVisionConfig", **_IMAGE), "image"),
    Family(
        "ModernBERT",
        "gte-modernbert, granite-embedding R2, mmBERT",
        _of(
            "ModernBertModel", "ModernBertConfig",
            **{**_TEXT, **_IDS, "num_hidden_layers": 2, "local_attention": 8},
            global_attn_every_n_layers=2,
        ),
        layers=2,
    ),
    Family(
        "Gemma 3", "Gemma 3",
        _of(
            "Gemma3TextModel", "Gemma3TextConfig",
            **{**_DECODER, "num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"],
               "sliding_window": 8, "query_pre_attn_scalar": 8},
        ),
        "causal", layers=2,
    ),
    Family(
        "Gemma 3, both directions",
        "EmbeddingGemma",
        _of(
            "Gemma3TextModel", "Gemma3TextConfig",
            **{**_DECODER, "num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"],
               "sliding_window": 8, "query_pre_attn_scalar": 8, "use_bidirectional_attention": True},
        ),
        layers=2,
        refused="Attention masks must be padding, plain causal or a sliding window",
    ),
    Family(
        "Mistral", "e5-mistral",
        _of("MistralModel", "MistralConfig", **_DECODER, sliding_window=8), "causal", is_windows_only=True,
    ),
    Family("DeBERTa", "DeBERTa v2, v3", _of("DebertaV2Model", "DebertaV2Config", **_TEXT), refused=_OWN),
    Family("MPNet", "all-mpnet-base", _of("MPNetModel", "MPNetConfig", **_TEXT), refused=_OWN),
    Family(
        "Longformer", "Longformer",
        _of("LongformerModel", "LongformerConfig", attention_window=[8], **_TEXT), refused=_OWN,
    ),
    Family(
        "BigBird", "BigBird",
        _of("BigBirdModel", "BigBirdConfig", attention_type="original_full", sep_token_id=3, **_TEXT),
        refused=_OWN,
    ),
    Family(
        "T5", "T5, sentence-t5",
        _of(
            "T5EncoderModel", "T5Config",
            d_model=32, d_kv=8, num_heads=4, d_ff=48, num_layers=1, vocab_size=64,
        ),
        refused="Attention with `position_bias` must stay dense",
    ),
)  # fmt: skip


def difference(family: Family, *, is_left_padded: bool = False) -> float:
    """How far sparse attention that keeps every block is from the family's own, of the largest value.

    Raises:
        InputError: the family is refused.
    """
    from edgesparse.dropin.outputs import run_model
    from edgesparse.dropin.sparsify import sparsify

    model, batch = family.make(), family.batch(is_left_padded=is_left_padded)
    with torch.no_grad():
        expected = run_model(model, batch)
        actual = run_model(sparsify(model, block_size=8), batch)
    real = family.real_tokens(batch)
    return float((actual - expected)[real].abs().max() / expected[real].abs().max())
