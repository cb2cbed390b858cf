"""Audio tokenizers of transformers with random weights, small enough for a test, in folders as it saves them."""

from pathlib import Path
from typing import NamedTuple

import torch
import transformers

SMALL_LAYERS = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def encodec():
    config = transformers.EncodecConfig(
        hidden_size=8, num_filters=4, codebook_size=64, target_bandwidths=[0.9, 1.8, 3.6]
    )  # fmt: skip
    return transformers.EncodecModel(config), transformers.EncodecFeatureExtractor()


def encodec_stereo():
    """Make one that works in chunks of a second with a level each, like EnCodec's model for 48 kHz."""
    chunks = {"chunk_length_s": 1.0, "overlap": 0.01}
    config = transformers.EncodecConfig(
        hidden_size=8, num_filters=8, codebook_size=64, sampling_rate=48000, audio_channels=2, normalize=True,
        norm_type="time_group_norm", use_causal_conv=False, target_bandwidths=[1.8, 3.6], **chunks,
    )  # fmt: skip
    extractor = transformers.EncodecFeatureExtractor(feature_size=2, sampling_rate=48000, **chunks)
    return transformers.EncodecModel(config), extractor


def dac():
    """Build a tokenizer of 44100 / 512 frames per second, as DAC's model for 44.1 kHz."""
    config = transformers.DacConfig(
        encoder_hidden_size=4, decoder_hidden_size=64, n_codebooks=5, codebook_size=32, codebook_dim=4,
        sampling_rate=44100,
    )  # fmt: skip
    return transformers.DacModel(config), transformers.DacFeatureExtractor(sampling_rate=44100, hop_length=512)


def mimi(**others):
    config = transformers.MimiConfig(
        hidden_size=16, num_filters=2, num_key_value_heads=2, codebook_size=32, codebook_dim=8,
        vector_quantization_hidden_dimension=8, num_quantizers=6, upsample_groups=16, **SMALL_LAYERS, **others,
    )  # fmt: skip
    return transformers.MimiModel(config), transformers.EncodecFeatureExtractor()


def xcodec():
    acoustic = {"model_type": "dac", "encoder_hidden_size": 2, "decoder_hidden_size": 32, "hidden_size": 32}
    semantic = {"model_type": "hubert", "hidden_size": 16, "conv_dim": [8] * 7, "num_conv_pos_embeddings": 4}
    config = transformers.XcodecConfig(
        target_bandwidths=[0.5, 1, 2],
        codebook_size=32,
        acoustic_model_config=acoustic,
        semantic_model_config={**semantic, "num_conv_pos_embedding_groups": 2, **SMALL_LAYERS},
    )
    return transformers.XcodecModel(config), transformers.DacFeatureExtractor(hop_length=320)


def xcodec2():
    semantic = {"model_type": "wav2vec2-bert", "hidden_size": 16, "conv_depthwise_kernel_size": 3, **SMALL_LAYERS}
    config = transformers.Xcodec2Config(
        hidden_size=32, num_key_value_heads=2, head_dim=16, encoder_hidden_size=4, quantization_dim=48,
        quantization_levels=[4, 4, 4], initializer_range=0.3, semantic_model_config=semantic, **SMALL_LAYERS,
    )  # fmt: skip
    return transformers.Xcodec2Model(config), transformers.Xcodec2FeatureExtractor()


def hubert():
    """Make a model that encodes audio but has no codes."""
    config = transformers.HubertConfig(
        hidden_size=16, conv_dim=[8] * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, **SMALL_LAYERS
    )
    return transformers.HubertModel(config), transformers.Wav2Vec2FeatureExtractor()


def pocket():
    """Make a model with latents but no quantizer."""
    config = transformers.PocketTTSAudioTokenizerConfig(
        hidden_size=16, num_filters=2, num_key_value_heads=2, upsample_groups=16, latent_dim=4, **SMALL_LAYERS
    )
    return transformers.PocketTTSAudioTokenizerModel(config), transformers.EncodecFeatureExtractor()


class Expected(NamedTuple):
    """Properties of a tokenizer, computed by hand from its configuration."""

    sample_rate: int
    channels: int
    code_bps: float
    """Rate of one codebook."""
    rates: tuple[int, ...]
    """Numbers of codebooks to compare."""


EXPECTED = {
    encodec: Expected(24000, 1, 24000 / (8 * 5 * 4 * 2) * 6, (2, 4, 8)),  # 0.45 kbps each, of 0.9, 1.8 and 3.6
    encodec_stereo: Expected(48000, 2, 48000 / 320 * 6, (2, 4)),
    dac: Expected(44100, 1, 44100 / (2 * 4 * 8 * 8) * 5, (1, 2, 4, 5)),
    mimi: Expected(24000, 1, 12.5 * 5, (1, 2, 4, 6)),  # 24000 / (8 * 6 * 5 * 4) = 25, of which the last layer halves
    xcodec: Expected(16000, 1, 16000 / 320 * 5, (2, 4, 8)),
    xcodec2: Expected(16000, 1, 16000 / (2 * 2 * 4 * 4 * 5) * 3 * 2, (1,)),
}


def save(make, folder: Path, seed: int = 0, **others) -> Path:
    """Save a tokenizer with random codebooks, since transformers leaves some of them at 0."""
    torch.manual_seed(seed)
    model, extractor = make(**others)
    for name, tensor in model.state_dict().items():
        if name.endswith(("codebook.embed", "embed_sum")):
            tensor.normal_()
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder
