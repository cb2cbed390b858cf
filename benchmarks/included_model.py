"""Make the included model from a checkpoint: the bundle in half precision, its card, and the codes for its test.

    python benchmarks/included_model.py CHECKPOINT

Afterwards `rates.py` and `limits.py` fill in the tables of the card. conf/experiment/speech_16k.yaml has the commands
of the training.
"""

import argparse
from pathlib import Path

from _common import REPOSITORY

from discrete_ae.build import read_saved, restore
from discrete_ae.codec import encode_files
from discrete_ae.codes.container import write_codes
from discrete_ae.saving.bundle import write_bundle
from discrete_ae.saving.saved import in_half_precision

BUNDLE = REPOSITORY / "discrete_ae" / "pretrained" / "speech_16k"
RECORDING = REPOSITORY / "data" / "validation" / "speech_ru_0473.flac"
GOLDEN = REPOSITORY / "tests" / "golden" / "pretrained_speech_ru_0473.npz"
LICENCE = "cc-by-3.0"
TRAINED_ON = (
    "146 minutes of speech of four voices, in Russian, Italian and Chinese, of Debian packages: festvox-ru (BSD-like), "
    "asterisk-core-sounds-it-g722, asterisk-core-sounds-ru-g722 and gcin-voice (CC-BY-3.0)"
)
SECTIONS = """## Training

`experiment=speech_16k` in three parts, about four hours on one CPU core: 20,000 steps without a quantizer, 12,000 steps
with it, and 30,000 more from the result, with a peak learning rate of 7e-4. (The first 6,000 of these followed the
schedule of a run of 60,000.) A step has 8 s of audio. The losses compare spectra and waveforms; there was no
discriminator.

## Quality by rate

Means over 36 recordings of three voices, in Bulgarian, French and Greek, that are not in the training data
(`benchmarks/rates.py`):

<!-- quality by rate -->
<!-- end of quality by rate -->

## Where it fails

The model knows clean speech of four voices. With all codebooks it is below Opus at 6 kbps for bird song, and by some
scores for the Danish and Spanish voices. By ViSQOL nothing is left of speech in strong noise, with either codec
(`benchmarks/limits.py`):

<!-- limits -->
<!-- end of limits -->

## Whom to name

- Italian prompts: © 2012 Carlo Flora, segreterietelefoniche.it, CC-BY-3.0 (asterisk-core-sounds-it-g722).
- Russian prompts: © 2010 Maxim Topal, ivrvoice.ru, CC-BY-3.0 (asterisk-core-sounds-ru-g722).
- Chinese syllables: ChionMeilin with the voice of Chu Lo, CC-BY-3.0 (gcin-voice).
- Russian sentences: © 2005 Nickolay V. Shmyrev, BSD-like (festvox-ru)."""


def main() -> None:
    """Write the bundle and the codes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    checkpoint = parser.parse_args().checkpoint
    saved = in_half_precision(read_saved(checkpoint))
    model = restore(checkpoint, saved)
    write_bundle(BUNDLE, saved, model, LICENCE, trained_on=TRAINED_ON, extras=[lambda _: SECTIONS], overwrite=True)
    (encoded,) = encode_files(model, [RECORDING])
    write_codes(encoded.code_file, GOLDEN, "npz")
    print(f"{BUNDLE}: {sum(path.stat().st_size for path in BUNDLE.iterdir()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
