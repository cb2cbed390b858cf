"""Fine-tune the included model on a voice, and score it before and after on other recordings of that voice.

    python benchmarks/fine_tuning.py corpus en_allison

`corpus` is written by speech_corpus.py --licences all; the second argument is the voice, a folder below corpus/train.
Other voices are scored, too, which shows what the model forgets. Writes benchmarks/results/fine_tuning.md. The runs
stay in logs/fine_tuning, and finished runs there are not trained again. Needs 'discrete-ae[quality]'.
"""

import argparse
import re
from pathlib import Path

import soundfile
from _common import REPOSITORY, machine, publish, table, versions
from _runs import train
from _scores import heads, mean_cells, plan_of

import discrete_ae
from discrete_ae.evaluation.evaluate import evaluate_model
from discrete_ae.evaluation.recordings import find_sources
from discrete_ae.paths import PRETRAINED

NAMES = ("pesq", "visqol", "stoi", "si_sdr_db", "mel_distance")
CODEBOOKS = (8, 16)
FOLDER = REPOSITORY / "logs" / "fine_tuning"


def scores(checkpoint: str | Path, folder: Path, count: int) -> list[str]:
    """Return the mean scores of a model that is decoded from its first `count` codebooks."""
    sources = find_sources([folder]).sources
    found = evaluate_model(discrete_ae.load(checkpoint), sources, str(checkpoint), plan_of(NAMES), count)
    return mean_cells(found, NAMES)


def main() -> None:
    """Train, score and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder written by speech_corpus.py")
    parser.add_argument("voice", help="folder below corpus/train")
    parser.add_argument("--candidate", action="append", metavar="OVERRIDES", help="overrides of a run; '' for none")
    given = parser.parse_args()
    recordings, test = given.corpus / "train" / given.voice, given.corpus / "test"
    models = {"the included model": (PRETRAINED, "–")}
    for overrides in given.candidate or [""]:
        folder = FOLDER / (re.sub("[ /=]", "-", overrides) or "default")
        spent_s = train(folder, ["experiment=fine_tune", f"data.root={recordings.resolve()}", *overrides.split()])
        checkpoint = folder / "run" / "checkpoints" / "best.ckpt"
        models[f"`{overrides}`" if overrides else "after `experiment=fine_tune`"] = (checkpoint, f"{spent_s / 60:.1f}")
    tests = {"this voice": test / "other_texts" / given.voice, "other voices": test / "other_voices"}
    rows = []
    for label, (checkpoint, minutes) in models.items():
        for where, folder in tests.items():
            for count in CODEBOOKS:
                rows.append([label, minutes, where, str(count), *scores(checkpoint, folder, count)])
                print(*rows[-1], flush=True)
    heard = sum(soundfile.info(path).duration for path in recordings.rglob("*.flac")) / 60
    publish(
        [
            "# Fine-tuning the included model on one voice",
            "",
            f"`python benchmarks/fine_tuning.py corpus {given.voice}`; {machine('cpu', 1)}; "
            f"{versions('pesq', 'visqol-python')}. Trained on {heard:.1f} minutes of a voice that the model has never "
            "heard. Means over recordings of other texts.",
            "",
            *table(["model", "processor time, min", "tested on", "codebooks", *heads(NAMES)], rows),
        ],
        "fine_tuning",
    )


if __name__ == "__main__":
    main()
