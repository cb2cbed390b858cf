"""Write your own quantizer, check its contract, train it beside `ste`, and encode with it.

    python docs/tutorials/own_quantizer.py [--steps 300] [--out logs/own_quantizer]

Cells begin with `# %%`: run the file as a whole, or cell by cell in an editor that knows them.
"""

# %% Settings
import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

import torch

import discrete_ae

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=300, help="of each training run")
parser.add_argument("--out", type=Path, default=Path("logs/own_quantizer"), help="folder for the runs")
parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="more overrides for train.py")
given = parser.parse_args([] if "ipykernel" in sys.modules else None)
HERE = Path("docs/tutorials").resolve()  # run from the root of the repository
sys.path.insert(0, str(HERE))

# %% [markdown]
# A quantizer maps latents (batch, channels, frames) to integer codes and back. The base class `Quantizer` asks for two
# methods, `quantize` and `dequantize`. `docs/tutorials/companded.py` has both in 20 lines.

# %% The contract
from companded import Companded  # noqa: E402

quantizer = Companded(num_codebooks=4)
latents = torch.randn(2, 4, 50, requires_grad=True)
found = quantizer(latents)
assert found.codes.shape == (2, 4, 50)
# Evaluation decodes the codes: the decoder must see the same numbers in training.
assert torch.allclose(found.latents, quantizer.decode(found.codes), atol=1e-6)
# A gradient reaches every channel.
found.latents.square().sum().backward()
assert (latents.grad.abs().sum(dim=(0, 2)) > 0).all()
# Small latents have finer steps than large ones.
steps = quantizer.decode(torch.tensor([[[127, 128, 254, 255]]] * 1).expand(1, 4, 4)).diff(dim=-1)[0, 0]
print(f"step near 0: {steps[0]:.4f}, near 1: {steps[2]:.4f}")

# %% Train it beside `ste`, with the same seed and so on the same crops
environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
runs = {}
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # subprocess.run then also ends the training
for name in ("ste", "companded"):
    runs[name] = given.out / name
    command = [sys.executable, "train.py", "--config-dir", str(HERE / "conf"), f"quantizer={name}"]
    command += [f"trainer.max_steps={given.steps}", f"trainer.val_check_interval={given.steps}"]
    command += [f"hydra.run.dir={runs[name]}", "force=true", *given.set]
    if status := subprocess.run(command, check=False, env=environment).returncode:
        sys.exit(status)  # the training has said what is wrong

# %% Compare: `trust` allows the package that the checkpoint names
report = discrete_ae.compare_runs(
    list(runs.values()), given.out / "comparison", metrics="si_sdr_db", baselines=False, trust=["companded"], force=True
)
print(*report.findings, report.page, sep="\n")

# %% Encode and decode
model = discrete_ae.load(runs["companded"] / "checkpoints/last.ckpt", trust=["companded"])
audio = 0.1 * torch.randn(1, model.channels, model.sample_rate)
codes = model.encode(audio)
decoded = model.decode(codes, num_samples=audio.shape[-1])
print(
    f"codes {tuple(codes.shape)} below {model.quantizer.codebook_sizes[0]}, {model.bitrate_bps / 1000:g} kbps, "
    f"audio {tuple(decoded.shape)}"
)
