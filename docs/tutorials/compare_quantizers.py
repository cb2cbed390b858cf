"""Compare two quantizers on your own recordings: train both with two seeds, and read the result.

    python docs/tutorials/compare_quantizers.py [RECORDINGS] [--quantizers ste rvq] [--steps 1200] [--out logs/tutorial]

Cells begin with `# %%`: run the file as a whole, or cell by cell in an editor that knows them.
"""

# %% Settings
import argparse
import signal
import subprocess
import sys
from pathlib import Path

import soundfile
import torch

import discrete_ae

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("recordings", type=Path, nargs="?", default=Path("data/train"), help="a folder of audio files")
parser.add_argument("--quantizers", nargs="+", default=["ste", "rvq"])
parser.add_argument("--steps", type=int, default=1200, help="of each training run; 1200 take 3 minutes on two cores")
parser.add_argument("--out", type=Path, default=Path("logs/tutorial"), help="folder for the runs")
parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="more overrides for train.py")
given = parser.parse_args([] if "ipykernel" in sys.modules else None)

# %% [markdown]
# One command trains every combination. Runs with the same seed see the same crops in the same order, so that their
# difference is due to the quantizer. A second seed shows how much a run differs from its repetition.

# %% Train
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # subprocess.run then also ends the training
command = [sys.executable, "train.py", "-m", f"quantizer={','.join(given.quantizers)}", "seed=0,1"]
command += [f"data.root={given.recordings}", f"trainer.max_steps={given.steps}"]
command += [f"trainer.val_check_interval={given.steps}", f"hydra.sweep.dir={given.out}", *given.set]
if status := subprocess.run(command, check=False).returncode:
    sys.exit(status)  # the training has said what is wrong
runs = sorted(path.parent.parent for path in given.out.glob("*/checkpoints/best.ckpt"))

# %% Compare on the files that were held out for validation
report = discrete_ae.compare_runs(
    runs, given.out / "comparison", metrics="si_sdr_db,mel_distance", baselines=False, clips=2, force=True
)
print(*report.findings, f"the page: {report.page}", sep="\n")

# %% How evenly are the codes used? With a perplexity close to the codebook's size, all entries are used equally often.
AUDIO = (".wav", ".flac", ".mp3", ".ogg", ".opus")
path = next(path for path in sorted(given.recordings.rglob("*")) if path.suffix.lower() in AUDIO)
for run in runs:
    model = discrete_ae.load(run / "checkpoints/best.ckpt")
    codes = torch.from_numpy(discrete_ae.Codec(model).encode_file(path).codes.astype("int64"))  # (channels, K, frames)
    for k, size in list(enumerate(model.quantizer.codebook_sizes))[:2]:
        share = torch.bincount(codes[:, k].flatten(), minlength=size) / codes[:, k].numel()
        print(f"{run.name}, codebook {k}: perplexity {torch.special.entr(share).sum().exp():.0f} of {size}")

# %% Listen: decoded beside the original
for run in runs:
    codec = discrete_ae.Codec(discrete_ae.load(run / "checkpoints/best.ckpt"))
    decoded = codec.decode_file(codec.encode_file(path))
    soundfile.write(given.out / f"{run.name}.wav", decoded.T, codec.model.sample_rate)
print(f"{path} decoded: {given.out}/*.wav")
