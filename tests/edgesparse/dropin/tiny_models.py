"""Small models of random weights: what transformers and PyTorch users bring."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def tiny(kind: str, *, tokens: int = 70) -> tuple[Any, dict[str, torch.Tensor]]:
    """A model of transformers in evaluation mode and a batch of two for it."""
    import transformers as t

    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    ids = torch.randint(3, 60, (2, tokens))
    mask = torch.ones(2, tokens, dtype=torch.int64)
    mask[1, 50:] = 0
    text = {"input_ids": ids, "attention_mask": mask}
    if kind == "bert":
        model = t.BertModel(t.BertConfig(vocab_size=64, max_position_embeddings=max(128, tokens), **size))
    elif kind == "roberta":
        model = t.RobertaModel(t.RobertaConfig(vocab_size=64, max_position_embeddings=128, **size))
    elif kind == "vit":
        model = t.ViTModel(t.ViTConfig(image_size=64, patch_size=8, num_channels=1, **size))
        return model.eval(), {"pixel_values": torch.randn(2, 1, 64, 64)}
    elif kind == "whisper":
        config = t.WhisperConfig(
            d_model=32, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=48, num_mel_bins=8,
            max_source_positions=70, decoder_layers=1, decoder_attention_heads=4, decoder_ffn_dim=48,
            vocab_size=64,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        )  # fmt: skip
        return t.WhisperModel(config).get_encoder().eval(), {"input_features": torch.randn(2, 8, 140)}
    else:
        assert kind == "llama"
        config = t.LlamaConfig(vocab_size=64, num_key_value_heads=2, max_position_embeddings=128, **size)
        return t.LlamaForCausalLM(config).eval(), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return model.eval(), text


def sharpen(model: nn.Module) -> None:
    """Random weights attend evenly and change little; larger ones make some keys matter."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if any(part in name for part in ("query.weight", "key.weight", "q_proj.weight", "k_proj.weight")):
                weight.mul_(12.0)
            if any(part in name for part in ("value.weight", "v_proj.weight", "output.dense.weight")):
                weight.mul_(6.0)


KINDS = ("bert", "roberta", "vit", "whisper", "llama")


class OwnAttention(nn.Module):
    """A hand-written block that calls `scaled_dot_product_attention`."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(32, 96)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [p.unflatten(-1, (4, 8)).transpose(1, 2) for p in self.project(x).chunk(3, dim=-1)]
        mixed = torch.nn.functional.scaled_dot_product_attention(*parts)
        return x + mixed.transpose(1, 2).flatten(2)
