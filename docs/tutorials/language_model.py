"""A toy language model of audio: a transformer learns the codes of the recordings in data/, and writes some of its own.

    python docs/tutorials/language_model.py [--data data] [--minutes 2] [--out logs/language_model]

It encodes data/train and data/validation by the model that comes with the package, trains on the delay pattern, and
decodes what it writes to OUT/written.wav. docs/language_models.md says what to expect.

Axes: B batch, K codebooks, L positions.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

import discrete_ae
from discrete_ae.codec.patterns import Pattern
from discrete_ae.codes import CodesDataset
from discrete_ae.data import recordings_root

CODEBOOKS = 4  # of the 16 that the model has: 1.6 kbps
FRAMES = 100  # of a crop: 2 s
STEPS_BETWEEN_LOOKS = 25  # at the validation loss; 161 seconds are soon learnt by heart
FIRST_FRAMES, FRAMES_WRITTEN = 50, 150  # what it is given to go on from, and how far it goes


class Transformer(nn.Module):
    """At each position it reads the sum of K embeddings, and predicts the next token of each codebook."""

    def __init__(self, pattern: Pattern, length: int, dim: int = 128, depth: int = 4, dropout: float = 0.3) -> None:
        super().__init__()
        codebooks, ids = pattern.num_codebooks, pattern.vocabulary_size
        self.embeddings = nn.ModuleList(nn.Embedding(ids, dim) for _ in range(codebooks))
        self.positions = nn.Embedding(length, dim)
        layer = nn.TransformerEncoderLayer(dim, dim // 32, 4 * dim, dropout, F.gelu, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.heads = nn.ModuleList(nn.Linear(dim, ids) for _ in range(codebooks))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (B, ids, K, L) of what follows each of the positions of tokens (B, K, L)."""
        length = tokens.shape[-1]
        x = sum(embed(tokens[:, k]) for k, embed in enumerate(self.embeddings)) + self.positions.weight[:length]
        x = self.layers(x, nn.Transformer.generate_square_subsequent_mask(length), is_causal=True)
        return torch.stack([head(x) for head in self.heads], dim=2).permute(0, 3, 2, 1)


def loss_of(model: nn.Module, tokens: Tensor, pattern: Pattern) -> Tensor:
    """Return the mean over all tokens but padding, in nats."""
    return F.cross_entropy(model(tokens[..., :-1]), tokens[..., 1:], ignore_index=pattern.pad_id)


def unigram_bits(plain: CodesDataset, validation: CodesDataset) -> float:
    """Return the bits per code of validation under the frequencies of each codebook in training, with one added."""
    assert validation.pattern
    counts, bits = [np.ones(size) for size in plain.codebook_sizes], []
    for item in plain:
        for k, row in enumerate(item.codes.numpy()):
            counts[k] += np.bincount(row, minlength=len(counts[k]))
    for item in validation:
        codes = validation.pattern.invert(item.codes)
        bits += [-np.log2(counts[k] / counts[k].sum())[row] for k, row in enumerate(codes)]
    return float(np.concatenate(bits).mean())


def train(model: nn.Module, crops: CodesDataset, validation: CodesDataset, minutes: float) -> float:
    """Train for so long, printing losses, and leave the best weights in the model; return their bits per code."""
    assert crops.pattern
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.1)
    held_out = torch.stack([item.codes for item in validation])
    end, epoch, steps, losses = time.monotonic() + 60 * minutes, 0, 0, []
    best, best_state = math.inf, model.state_dict()
    while True:
        crops.set_epoch(epoch)  # other crops
        for item in DataLoader(crops, batch_size=8):
            is_last = time.monotonic() >= end
            if is_last or steps % STEPS_BETWEEN_LOOKS == 0:
                with torch.no_grad():
                    bits = loss_of(model.eval(), held_out, crops.pattern).item() / math.log(2)
                model.train()
                if bits < best:
                    best, best_state = bits, {name: value.clone() for name, value in model.state_dict().items()}
                seen = f"{np.mean(losses) / math.log(2):.2f}" if losses else "–"
                print(f"step {steps:4}: training {seen}, validation {bits:.2f} bits per code", flush=True)
                losses = []
            if is_last:
                model.load_state_dict(best_state)
                return best
            loss = loss_of(model, item.codes, crops.pattern)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
            steps += 1
        epoch += 1


@torch.no_grad()
def write(model: nn.Module, pattern: Pattern, codes: np.ndarray[Any, Any], frames: int) -> np.ndarray[Any, Any]:
    """Return codes (K, frames) that begin with those given, and go on as the model likes."""
    model.eval()
    # Padding stands where the pattern has it, and is not the model's to choose.
    template = pattern.apply(np.zeros((len(codes), frames), int), begin=True)
    given = pattern.apply(codes, begin=True)[:, : 1 + codes.shape[1]]  # without the positions that are not full yet
    tokens = torch.from_numpy(given)[None]
    for position in range(tokens.shape[-1], template.shape[-1]):
        logits = model(tokens)[0, :, :, -1]
        column = []
        for k in range(len(codes)):
            ids = pattern.ids(k)
            choice = torch.multinomial((logits[ids.start : ids.stop, k] / 0.9).softmax(0), 1) + ids.start
            is_padding = template[k, position] == pattern.pad_id
            column.append(torch.tensor([pattern.pad_id]) if is_padding else choice)
        tokens = torch.cat([tokens, torch.stack(column)[None]], dim=-1)
    return pattern.invert(tokens[0])


def main() -> None:
    """Encode, train, write, decode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=recordings_root())
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--out", type=Path, default=Path("logs/language_model"))
    arguments = parser.parse_args()
    torch.manual_seed(0)
    codec = discrete_ae.load()
    folders = {part: arguments.out / part for part in ("train", "validation")}
    for part, folder in folders.items():
        discrete_ae.encode_corpus(codec, arguments.data / part, folder, num_codebooks=CODEBOOKS, existing="skip")

    plain, held_out = CodesDataset(folders["train"]), CodesDataset(folders["validation"])
    crops = CodesDataset(folders["train"], FRAMES, pattern="delay")
    validation = CodesDataset(folders["validation"], FRAMES, pattern="delay")
    pattern = crops.pattern
    assert pattern
    model = Transformer(pattern, length=pattern.shape(FRAMES_WRITTEN)[-1] + 2)
    print(f"{plain.total_frames} frames, {sum(p.numel() for p in model.parameters())} parameters")
    print(
        f"unigram {unigram_bits(plain, validation):.2f}, uniform {math.log2(plain.codebook_sizes[0]):.2f} bits per code"
    )
    best = train(model, crops, validation, arguments.minutes)
    print(f"best {best:.2f} bits per code")

    item = max(held_out, key=lambda item: "speech" in item.key)  # the package's model was trained on speech
    codes = write(model, pattern, item.codes[:, :FIRST_FRAMES].numpy(), FRAMES_WRITTEN)
    audio = codec.decode(torch.from_numpy(codes)[None])[0, 0]
    soundfile.write(arguments.out / "written.wav", audio.numpy(), codec.sample_rate)
    print(
        f"{arguments.out / 'written.wav'}: {len(audio) / codec.sample_rate:.1f} s, the first "
        f"{FIRST_FRAMES / codec.frame_rate_hz:.1f} s of them those of {item.key}"
    )


if __name__ == "__main__":
    main()
