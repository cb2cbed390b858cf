"""What an evaluation leaves behind: exact, strict, and readable by others."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from discrete_ae.errors import DataError
from discrete_ae.evaluation.results import Evaluation, FileScores, overall_of

EVALUATION = Evaluation(
    codec="runs/ste/best.ckpt",
    files=(
        FileScores("a/x.wav", 0.1 + 0.2, {"si_sdr_db": 1 / 3, "pesq": None, "bitrate_bps": 1e-300}),
        FileScores('b, "c"\n.wav', 7.0, {"si_sdr_db": -100.0, "pesq": None, "bitrate_bps": 5.0}),
        FileScores("not utf-8 \udcff.wav", 2.5, {"si_sdr_db": 4.5, "pesq": 1.25, "bitrate_bps": 6.0}),
    ),
    overall=overall_of(usage=0.1, parameters=12),
    code_counts=((3, 0), (1, 2, 0)),
    sample_rate=16000,
    model_hash="ab" * 32,
    versions={"pesq": "1"},
    settings={"codebooks": 2, "entropy_model": None, "segment_seconds": 30.0, "device": "cpu"},
)


def test_json_gives_back_every_bit(tmp_path):
    EVALUATION.write_json(tmp_path / "x.json")
    assert Evaluation.read_json(tmp_path / "x.json") == EVALUATION
    nothing = replace(EVALUATION, files=(), code_counts=(), model_hash=None)
    nothing.write_json(tmp_path / "y.json")
    assert Evaluation.read_json(tmp_path / "y.json") == nothing


def test_json_has_the_means_and_no_nan(tmp_path):
    EVALUATION.write_json(tmp_path / "x.json")

    def refuse(constant):
        raise AssertionError(constant)

    means = json.loads((tmp_path / "x.json").read_text(), parse_constant=refuse)["means"]
    assert means["si_sdr_db"]["mean"] == pytest.approx((1 / 3 - 100 + 4.5) / 3)
    assert means["si_sdr_db"]["low"] < means["si_sdr_db"]["mean"] < means["si_sdr_db"]["high"]
    assert means["pesq"] == {"recordings": 1, "mean": 1.25, "low": None, "high": None}
    with pytest.raises(ValueError):
        replace(EVALUATION, overall={"usage": math.nan}).write_json(tmp_path / "y.json")
    assert not (tmp_path / "y.json").exists()


def test_csv_is_read_by_others(tmp_path):
    EVALUATION.write_csv(tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "duration_s", "si_sdr_db", "pesq", "bitrate_bps"]
    for row, scores in zip(rows, EVALUATION.files, strict=True):
        assert row["path"] == scores.path
        assert float(row["duration_s"]) == scores.duration_s
        for name, score in scores.scores.items():
            assert row[name] == ("" if score is None else repr(score))


def test_values_are_in_the_order_of_the_files():
    assert EVALUATION.values("bitrate_bps").tolist() == [1e-300, 5.0, 6.0]
    assert np.isnan(EVALUATION.values("pesq")).tolist() == [True, True, False]
    assert np.isnan(EVALUATION.values("stoi")).all()  # which was not asked for
    with pytest.raises(ValueError, match="PER_FILE"):
        EVALUATION.values("usage")


def test_names_of_figures_are_checked():
    assert overall_of(usage=0.5)["usage"] == 0.5
    assert overall_of(usage=0.5)["perplexity"] is None
    with pytest.raises(ValueError, match="usge"):
        overall_of(usge=0.5)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "format"),
        (b'{"format": "discrete-ae evaluation", "version": 2}', "update discrete-ae"),
        (b'{"format": "discrete-ae evaluation", "version": 1}', "codec"),
    ],
)
def test_what_is_no_evaluation_is_refused(tmp_path, content, words):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(DataError, match=words):
        Evaluation.read_json(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"sample_rate": 16000', '"sample_rate": "16000"'),
        ('"sample_rate": 16000', '"sample_rate": NaN'),
        ('"duration_s": 7.0', '"duration_s": [7.0]'),
        ("[3, 0]", "[3, true]"),
        ('"si_sdr_db": -100.0', '"si_sdr_db": "low"'),
        ('{"pesq": "1"}', '["pesq"]'),
    ],
)
def test_fields_of_another_type_are_refused(tmp_path, old, new):
    path = tmp_path / "x.json"
    EVALUATION.write_json(path)
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))
    with pytest.raises(DataError, match="not what discrete-ae evaluate writes"):
        Evaluation.read_json(path)


def test_missing_file_and_unwritable_one(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        Evaluation.read_json(tmp_path / "x.json")
    with pytest.raises(DataError, match="cannot be read"):
        Evaluation.read_json(tmp_path)
    (tmp_path / "file").write_text("")
    for write in (EVALUATION.write_json, EVALUATION.write_csv):
        with pytest.raises(FileExistsError):
            write(tmp_path / "file/x")
