"""Files of an evaluation: exact, strictly checked, and readable by other programs."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from discrete_ae.errors import DataError
from discrete_ae.evaluation.results import Evaluation, Failure, FileScores, Run, SavedClip


def scores(path, duration_s, **found):
    return FileScores(path=path, duration_s=duration_s, scores=found, sha256="00")


EVALUATION = Evaluation(
    codec="runs/ste/best.ckpt",
    files=(
        scores("a/x.wav", 0.1 + 0.2, si_sdr_db=1 / 3, pesq=None, bitrate_bps=1e-300),
        scores('b, "c"\n.wav', 7.0, si_sdr_db=-100.0, pesq=None, bitrate_bps=5.0),
        scores("café.wav", 2.5, si_sdr_db=4.5, pesq=1.25, bitrate_bps=6.0),
    ),
    overall={"usage": 0.1, "perplexity": None, "parameters": 12},
    code_counts=((3, 0), (1, 2, 0)),
    sample_rate=16000,
    model_hash="ab" * 32,
    run=Run(name="ste", quantizer="ste", config={"seed": 0, "trainer": {"max_steps": 3}}),
    versions={"pesq": "1"},
    settings={"codebooks": 2, "entropy_model": None, "segment_seconds": 30.0, "device": "cpu"},
    failures=(Failure(path="bad.wav", reason="bad.wav: no audio"),),
    clips=(SavedClip(recording="a/x.wav", start_s=0.0, duration_s=0.3, decoded="x.clips/1.flac", original="o.flac"),),
)


def test_json_gives_back_every_bit_with_the_means_and_no_nan(tmp_path):
    nothing = EVALUATION.model_copy(update={"files": (), "code_counts": (), "model_hash": None})
    for evaluation in (nothing, EVALUATION):
        evaluation.write_json(tmp_path / "x.json")
        assert Evaluation.read_json(tmp_path / "x.json") == evaluation
    read = json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail)
    means = read["means"]
    assert means["si_sdr_db"]["mean"] == pytest.approx((1 / 3 - 100 + 4.5) / 3)
    assert means["si_sdr_db"]["low"] < means["si_sdr_db"]["mean"] < means["si_sdr_db"]["high"]
    assert means["pesq"] == {"recordings": 1, "mean": 1.25, "low": None, "high": None}


def test_csv_is_read_by_others(tmp_path):
    EVALUATION.write_csv(tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "duration_s", "si_sdr_db", "pesq", "bitrate_bps"]
    assert [float(row["bitrate_bps"]) for row in rows] == EVALUATION.values("bitrate_bps").tolist()
    assert np.isnan(EVALUATION.values("pesq")).tolist() == [True, True, False]
    for row, scores in zip(rows, EVALUATION.files, strict=True):
        assert row["path"] == scores.path
        assert float(row["duration_s"]) == scores.duration_s
        for name, score in scores.scores.items():
            assert row[name] == ("" if score is None else repr(score))


FRONT = b'{"format": "discrete-ae evaluation", "version": '


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b"[]", "dictionary|object"),
        (FRONT + b"2}", "version"),
        (b'{"format": "discrete-ae comparison", "version": 1}', "format"),
        (FRONT + b"1}", "codec"),
        (FRONT + b'1, "codec": "x", "sample_rate": NaN, "files": []}', "sample_rate"),
        (FRONT + b'1, "codec": "x", "sample_rate": "16000", "files": []}', "sample_rate"),
        (FRONT + b'1, "codec": "x", "sample_rate": 8000, "files": [], "code_counts": [[3, true]]}', "code_counts"),
    ],
)
def test_what_is_no_evaluation_is_refused(tmp_path, content, words):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(DataError, match=f"({words}).*docs/evaluation"):
        Evaluation.read_json(tmp_path / "x.json")


def test_clips_of_others_do_not_lead_out_of_their_folder(tmp_path):
    for name in ("../secret.wav", "/etc/secret.wav"):
        EVALUATION.write_json(tmp_path / "x.json")
        (tmp_path / "x.json").write_text((tmp_path / "x.json").read_text().replace("x.clips/1.flac", name))
        with pytest.raises(DataError, match="outside its folder"):
            Evaluation.read_json(tmp_path / "x.json")


def test_a_file_by_hand_is_read(tmp_path):
    """The example of docs/evaluation.md."""
    page = (Path(__file__).parents[2] / "docs/evaluation.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    (tmp_path / "x.json").write_text(example)
    found = Evaluation.read_json(tmp_path / "x.json")
    assert found.means()["mel_distance"].mean == pytest.approx(0.525)
    assert found.overall["nominal_bitrate_bps"] == 1100
    assert [name for name in Evaluation.model_fields if f"`{name}`" not in page] == []
