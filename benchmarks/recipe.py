"""Train the candidates of recipe.yaml for equal processor time, and score them on held-out speech.

    python benchmarks/recipe.py corpus runs ROUND...      train and score what is missing; ROUND/NAME: one candidate
    python benchmarks/recipe.py corpus runs --table       write benchmarks/results/recipe.md from finished candidates

`corpus` is written by speech_corpus.py. A trial of some steps determines how many steps of a candidate fit into its
round's minutes on one core, so a larger model or a costlier loss sees less audio. A round may start all of its
candidates `from` the weights of a checkpoint, a path below `runs`. A round or a candidate may be scored from its first
`codebooks` only. `runs` holds one folder per candidate, with the run and evaluation.json; candidates with an evaluation
are not trained again.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from _common import REPOSITORY, composed, cpu_model, publish, table, versions
from _runs import processor_seconds, train

from discrete_ae.training import build_training

SCORES = {
    "pesq": ("PESQ ↑", 2),
    "visqol": ("ViSQOL ↑", 2),
    "dnsmos_p808": ("DNSMOS ↑", 2),
    "stoi": ("STOI ↑", 3),
    "si_sdr_db": ("SI-SDR, dB ↑", 2),
    "mel_distance": ("mel distance ↓", 3),
}
HEADER = """# The search for the recipe of speech_16k

`python benchmarks/recipe.py corpus runs {rounds} --table`,
with `corpus` by `benchmarks/speech_corpus.py`; one thread of {machine}; {versions}.

Every candidate of a round has the same processor time, so that what costs more a step sees less audio; "ms" is that of
a step, "–" was not measured. Scores are means over 36
clips of three voices that are in no training set (`test/other_voices`), and PESQ also over `test/other_texts` of the
voices trained on. "Predicted" was written down before the candidate ran. Short runs say which way to go, not how good a
codec becomes; there is one seed of each. Times of a step were taken beside other work and vary by some percent.
`objective` and `optimization` ran in a working copy close to commit 79f8f9a, `defaults` and `continued` at 9d728de to
6bb5d18, where nothing else is said. What was tried and taken out again is in the code of an earlier commit, which its
round names; the command above runs in that commit alone for such a candidate."""


class Stopwatch(pl.Callback):
    """A callback that measures the processor time of the steps after the first few."""

    WARMUP, STEPS = 10, 40

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """See Callback."""
        if trainer.global_step == self.WARMUP:
            self.since = time.process_time()
        elif trainer.global_step == self.WARMUP + self.STEPS:
            self.step_s = (time.process_time() - self.since) / self.STEPS


def step_seconds(overrides: list[str]) -> float:
    """Return the processor time of a step on one thread, without other callbacks."""
    watch = Stopwatch()
    steps = watch.WARMUP + watch.STEPS
    fixed = ["+trainer.limit_val_batches=0", "+trainer.enable_checkpointing=false", f"trainer.max_steps={steps}"]
    with tempfile.TemporaryDirectory() as folder:
        run = build_training(composed(*overrides, f"run_dir={folder}", *fixed))
        run.trainer.callbacks.append(watch)
        run.trainer.fit(run.module, run.data)
    return watch.step_s


def run(name: str, round_: dict[str, Any], candidate: dict[str, Any], corpus: Path, runs: Path) -> None:
    """Train and score a candidate, unless it has an evaluation."""
    folder = runs / name
    if (folder / "evaluation.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    corpus = corpus.with_name(candidate["corpus"]) if "corpus" in candidate else corpus
    data = [f"data.root={corpus / 'train'}", f"data.validation_root={corpus / 'validation'}", "trainer=cpu"]
    given = [*data, *round_["overrides"].split(), *candidate["overrides"].split()]
    overrides = list({override.partition("=")[0]: override for override in given}.values())  # a candidate's come last
    if "from" in round_:
        overrides.append(f"init_from={runs / round_['from']}")
    length = folder / "training.json"
    if not length.exists():
        step_s = step_seconds(overrides)
        length.write_text(json.dumps({"steps": round(round_["minutes"] * 60 / step_s), "step_s": step_s}))
    found = json.loads(length.read_text())
    steps = found["steps"]
    print(f"{name}: {found['step_s'] * 1000:.0f} ms a step, {steps} steps", flush=True)
    without = [f"callbacks.{name}=null" for name in ("entropy_model", "clips", "code_histograms")]
    train(folder, [*overrides, f"trainer.max_steps={steps}", f"trainer.val_check_interval={steps // 4}", *without])
    program = str(Path(sys.executable).with_name("discrete-ae"))
    scored = [f"--metrics={','.join(SCORES)}", "--jobs=1", f"--out={folder / 'evaluation.json'}"]
    if "codebooks" in round_ | candidate:
        scored.append(f"--codebooks={(round_ | candidate)['codebooks']}")
    checkpoint = str(folder / "run/checkpoints/last.ckpt")
    processor_seconds([program, "evaluate", str(corpus / "test"), "-c", checkpoint, *scored], folder / "log.txt")
    print(
        f"{name}: "
        + ", ".join(f"{score} {value}" for score, value in scores(folder, names(corpus / "test/other_voices")).items()),
        flush=True,
    )


def scores(folder: Path, voices: list[str]) -> dict[str, str]:
    """Return the mean scores over the test recordings of the given voices."""
    files = json.loads((folder / "evaluation.json").read_text())["files"]
    means = {}
    for score, (_, digits) in SCORES.items():
        values = [
            file["scores"][score]
            for file in files
            if Path(file["path"]).parent.name in voices and file["scores"].get(score) is not None
        ]
        means[score] = f"{sum(values) / len(values):.{digits}f}" if values else "–"
    return means


def names(folder: Path) -> list[str]:
    """Return the voices of a part of the corpus."""
    return [path.name for path in folder.iterdir()]


def lines(rounds: dict[str, Any], corpus: Path, runs: Path) -> list[str]:
    """Return the rounds as Markdown, with the candidates that were scored."""
    found = []
    for title, round_ in rounds.items():
        rows = []
        for name, candidate in round_["candidates"].items():
            folder = runs / title / name
            if not (folder / "evaluation.json").exists():
                continue
            training = json.loads((folder / "training.json").read_text())
            voices = scores(folder, names(corpus / "test/other_voices"))
            heard = scores(folder, names(corpus / "train"))
            overrides = f"`{candidate['overrides']}`" if candidate["overrides"] else "–"
            size = [str(training["steps"]), f"{1000 * training['step_s']:.0f}"]
            rows.append([name, overrides, *size, *voices.values(), heard["pesq"], candidate["predicted"]])
        if rows:
            labels = [label for label, _ in SCORES.values()]
            columns = ["candidate", "overrides", "steps", "ms", *labels, "PESQ, other texts", "predicted"]
            found += [f"## {title}", "", f"{round_['minutes']} minutes each; all with `{round_['overrides']}`.", ""]
            found += [*table(columns, rows), *round_.get("found", "").splitlines(), ""]
    return found


def main() -> None:
    """Run the program; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rounds = yaml.safe_load((REPOSITORY / "benchmarks/recipe.yaml").read_text())
    parser.add_argument("corpus", type=Path, help="folder written by speech_corpus.py")
    parser.add_argument("runs", type=Path, help="folder of the runs, created if missing")
    parser.add_argument("rounds", nargs="*", help=f"any of {', '.join(rounds)}; or a candidate ROUND/NAME")
    parser.add_argument("--table", action="store_true", help="write the table")
    given = parser.parse_args()
    known = {f"{title}/{name}": title for title, round_ in rounds.items() for name in round_["candidates"]}
    for chosen in given.rounds:
        if chosen not in (*known, *rounds):
            sys.exit(f"{chosen}: expected one of {', '.join(rounds)}, or one of {', '.join(known)}")
    if not (given.rounds or given.table):
        parser.error("name a round, or --table")
    if not (given.corpus / "train").is_dir():
        sys.exit(f"{given.corpus}: expected a folder with train, validation and test, as speech_corpus.py writes it")
    torch.set_num_threads(1)
    for name, title in known.items():
        if name in given.rounds or title in given.rounds:
            candidate = rounds[title]["candidates"][name.partition("/")[2]]
            run(name, rounds[title], candidate, given.corpus.resolve(), given.runs.resolve())
    if given.table:
        publish(
            [
                *HEADER.format(rounds=" ".join(rounds), machine=cpu_model(), versions=versions()).splitlines(),
                "",
                *lines(rounds, given.corpus, given.runs),
            ],
            "recipe",
        )


if __name__ == "__main__":
    main()
