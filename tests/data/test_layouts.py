"""Public data sets, made small as they lie on disk: what is told of them is what `torchaudio.datasets` says."""

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torchaudio
from torchaudio.datasets import GTZAN, LIBRISPEECH, LIBRITTS, LJSPEECH, MUSDB_HQ, SPEECHCOMMANDS, VCTK_092
from torchaudio.datasets.gtzan import filtered_test, filtered_train, filtered_valid, gtzan_genres
from torchaudio.datasets.musdb_hq import _VALIDATION_SET

from discrete_ae.data import AudioDataModule, write_manifest
from discrete_ae.data.index import index
from discrete_ae.data.recognizing import described
from discrete_ae.data.shards import write_shards
from tests.recordings import write_noise

Line = dict[str, Any]
PARTS = {"train-clean-100": "train", "dev-other": "validation", "test-clean": "test"}


@pytest.fixture(autouse=True)
def no_decoder(monkeypatch):
    """Let torchaudio give the path of a recording in place of its samples, which it would want a decoder for."""
    monkeypatch.setattr(torchaudio, "load", lambda path: (str(path), 16000))


@pytest.fixture
def lines(tmp_path) -> Callable[..., tuple[dict[str, Line], list[str]]]:
    """Index folders: the lines of m.jsonl by absolute path, and the summaries."""

    def indexed(*inputs: Path | str) -> tuple[dict[str, Line], list[str]]:
        found = index(inputs)
        assert not found.errors
        files, summaries = described(found.files)
        write_manifest(tmp_path / "m.jsonl", files)
        read = map(json.loads, (tmp_path / "m.jsonl").read_text().splitlines())
        return {str(tmp_path / line["path"]): line for line in read}, summaries

    return indexed


def write(root: Path, names: Iterable[str], **texts: str) -> None:
    for number, name in enumerate(names):
        write_noise(root / name, 100 + number)
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def write_libri(root: Path, parts: Iterable[str] = PARTS, *, tts: bool = False) -> None:
    """Two speakers, of which the first has two chapters, in each part."""
    for p, part in enumerate(parts):
        for speaker, chapter in ((10 + p, 1), (10 + p, 2), (90 + p, 3)):
            folder = root / part / str(speaker) / str(chapter)
            for k in range(2):
                name = f"{speaker}_{chapter}_00000{k}_000000" if tts else f"{speaker}-{chapter}-000{k}"
                write(folder, [f"{name}.wav" if tts else f"{name}.flac"])
                words = f"It cost {k}|0 pounds.", f"It cost {'ten'[k:]} pounds."
                if tts:
                    write(folder, [], **{f"{name}.original.txt": words[0], f"{name}.normalized.txt": words[1]})
                    with (folder / f"{speaker}_{chapter}.trans.tsv").open("a") as table:
                        table.write("\t".join((name, *words)) + "\n")
                else:
                    with (folder / f"{speaker}-{chapter}.trans.txt").open("a") as table:
                        table.write(f"{name} IT COST {speaker} POUNDS\n")


def told(lines: dict[str, Line], *fields: str) -> dict[str, tuple[Any, ...]]:
    return {path: tuple(line.get(field) for field in fields) for path, line in lines.items()}


def test_librispeech(lines, tmp_path):
    write_libri(tmp_path / "LibriSpeech")
    expected = {}
    for part, side in PARTS.items():
        reference = LIBRISPEECH(tmp_path, part)
        for number in range(len(reference)):
            path, _, text, speaker, chapter, _ = reference.get_metadata(number)
            expected[str(tmp_path / "LibriSpeech" / path)] = (side, part, str(speaker), str(chapter), text, None)
    assert len(expected) == 18
    found, said = lines(tmp_path / "LibriSpeech")
    assert told(found, "split", "subset", "speaker", "chapter", "text", "group") == expected
    where = tmp_path / "LibriSpeech"
    assert said == [f"{where}: LibriSpeech, 6 speakers; train 6, validation 6, test 6 recordings"]


def test_libritts(lines, tmp_path):
    write_libri(tmp_path / "LibriTTS", tts=True)
    expected = {}
    for part, side in PARTS.items():
        for path, _, _, text, speaker, chapter, utterance in LIBRITTS(tmp_path, part):
            expected[path] = (side, part, str(speaker), str(chapter), utterance, text)
    assert len(expected) == 18
    found, said = lines(tmp_path)
    assert told(found, "split", "subset", "speaker", "chapter", "utterance", "text") == expected
    assert said == [f"{tmp_path}/LibriTTS: LibriTTS, 6 speakers; train 6, validation 6, test 6 recordings"]


def test_ljspeech(lines, tmp_path):
    root = tmp_path / "LJSpeech-1.1"
    texts = '"Printing," in 1 sense|"Printing," in one sense', "a; (b)|a; (b)"
    table = "".join(f"LJ00{k}-0001|{text}\n" for k, text in enumerate(texts, 1))
    write(root, ["wavs/LJ001-0001.wav", "wavs/LJ002-0001.wav"], **{"metadata.csv": table})
    expected = {str(path): (None, None, "LJ", text) for path, _, _, text in LJSPEECH(tmp_path)}
    found, said = lines(root)
    assert told(found, "split", "group", "speaker", "text") == expected
    assert said == [f"{root}: LJSpeech, 1 speaker; 2 recordings, none to validate on: training holds out some"]


def write_vctk(root: Path, speakers: Iterable[str]) -> None:
    for speaker in speakers:
        for utterance in (f"{speaker}_001", f"{speaker}_002"):
            mics = ["mic1"] if speaker == "p280" else ["mic1", "mic2"]
            write(root / "wav48_silence_trimmed" / speaker, [f"{utterance}_{mic}.flac" for mic in mics])
            if speaker != "p315":
                write(root / "txt" / speaker, [], **{f"{utterance}.txt": f"Stella, {utterance}.\n"})


def test_vctk(lines, tmp_path):
    root = tmp_path / "VCTK-Corpus-0.92"
    write_vctk(root, ["p225", "p280", "p315", "s5"])
    expected = {}
    for mic in ("mic1", "mic2"):
        for path, _, text, speaker, number in VCTK_092(str(tmp_path), mic):
            expected[path] = (None, speaker, f"{speaker}_{number}", mic, text.strip())
    assert len(expected) == 10
    found, said = lines(root)
    without_text = {path for path, line in found.items() if line["speaker"] == "p315"}
    assert len(without_text) == 4
    assert all("text" not in found[path] for path in without_text)
    fields = ("split", "speaker", "utterance", "mic", "text")
    assert told({path: found[path] for path in found.keys() - without_text}, *fields) == expected
    assert said == [f"{root}: VCTK, 4 speakers; 14 recordings, none to validate on: training holds out whole speakers"]


def test_vctk_before_it_had_two_microphones(lines, tmp_path):
    write(tmp_path, ["wav48/p225/p225_001.wav", "wav48/p226/p226_001.wav"], **{"txt/p226/p226_001.txt": "Hello.\n"})
    found, _ = lines(tmp_path)
    fields = ("speaker", "utterance", "mic", "text")
    assert set(told(found, *fields).values()) == {
        ("p225", "p225_001", None, None),
        ("p226", "p226_001", None, "Hello."),
    }


COMMANDS = [
    f"{word}/{speaker}_nohash_{k}.wav"
    for word in ("yes", "tree")
    for speaker in ("0a7c2a8d", "b9f1e6c3")
    for k in (0, 1)
]


def test_speech_commands(lines, tmp_path):
    root = tmp_path / "SpeechCommands/speech_commands_v0.02"
    lists = {"validation_list.txt": f"{COMMANDS[0]}\n{COMMANDS[5]}\n", "testing_list.txt": f"{COMMANDS[3]}\n"}
    write(root, [*COMMANDS, "_background_noise_/pink_noise.wav"], **lists)
    expected = {}
    for subset, side in (("training", "train"), ("validation", "validation"), ("testing", "test")):
        reference = SPEECHCOMMANDS(tmp_path, subset=subset)
        for number in range(len(reference)):
            path, _, word, speaker, _ = reference.get_metadata(number)
            expected[str(tmp_path / "SpeechCommands" / path)] = (side, word, speaker)
    assert len(expected) == 8
    found, said = lines(root)
    assert told(found, "split", "word", "speaker") == expected
    counts = "train 5, validation 2, test 1 recordings; left out: 1 of background noise"
    assert said == [f"{root}: Speech Commands, 2 speakers; {counts}"]
    for name in lists:
        (root / name).unlink()
    found, said = lines(root)
    assert "2 speakers; 8 recordings, none to validate on: training holds out whole speakers;" in said[0]
    assert {(line.get("split"), line["group"] == line["speaker"]) for line in found.values()} == {(None, True)}
    assert len(found) == 8
    found, said = lines(root / "_background_noise_")
    assert ([line.keys() & {"split", "word"} for line in found.values()], said) == ([set()], [])


def test_a_list_that_cannot_be_read_is_told(lines, tmp_path):
    write(tmp_path, COMMANDS)
    (tmp_path / "testing_list.txt").mkdir()
    with pytest.raises(IsADirectoryError, match="testing_list"):
        lines(tmp_path)


def test_gtzan(lines, tmp_path):
    lists = {"train": filtered_train, "validation": filtered_valid, "test": filtered_test}
    listed = {*filtered_train, *filtered_valid, *filtered_test}
    unlisted = next(name for genre in gtzan_genres for k in range(100) if (name := f"{genre}.{k:05d}") not in listed)
    names = [*filtered_train[::150], *filtered_valid[::80], *filtered_test[::100], unlisted]
    write(tmp_path / "genres", [f"{name.partition('.')[0]}/{name}.wav" for name in names])
    expected = {}
    for subset, side in (("training", "train"), ("validation", "validation"), ("testing", "test")):
        assert lists[side]
        for name in GTZAN(tmp_path, subset=subset)._walker:
            genre = name.partition(".")[0]
            path = tmp_path / "genres" / genre / f"{name}.wav"
            if path.exists():
                expected[str(path)] = (side, genre)
    assert len(expected) == len(names) - 1
    found, said = lines(tmp_path)
    assert told(found, "split", "genre") == expected
    sides = [side for side, _ in expected.values()]
    counts = ", ".join(f"{side} {sides.count(side)}" for side in ("train", "validation", "test"))
    genres = len({genre for _, genre in expected.values()})
    left = "left out: 1 repeated or faulty"
    assert said == [f"{tmp_path}/genres: GTZAN, {genres} genres; {counts} recordings; {left}"]


STEMS = ("bass", "drums", "mixture", "other", "vocals")


def test_musdb(lines, tmp_path):
    root = tmp_path / "musdb18hq"
    tracks = [f"train/{name}" for name in ("A Band - A Song", *_VALIDATION_SET)] + ["test/Another Band - x.y"]
    write(root, [f"{track}/{stem}.wav" for track in tracks for stem in STEMS])
    expected = {}
    for subset, split in (("train", "train"), ("train", "validation"), ("test", None)):
        reference = MUSDB_HQ(tmp_path, subset, sources=STEMS, split=split)
        for track in reference.names:
            for stem in reference.sources:
                expected[str(reference._get_track(track, stem))] = (split or subset, track, stem)
    assert len(expected) == 16 * 5
    found, said = lines(root)
    assert told(found, "split", "track", "stem") == expected
    assert said == [f"{root}: MUSDB18, 16 tracks; train 5, validation 70, test 5 recordings"]
    # What a user adds to a track of the test is not trained on.
    write(root, ["test/Another Band - x.y/accompaniment.wav"])
    found, _ = lines(root)
    assert found[f"{root}/test/Another Band - x.y/accompaniment.wav"]["split"] == "test"


@pytest.mark.parametrize("part", ["", "dev-other", "dev-other/11", "dev-other/11/2/11-2-0001.flac"])
def test_a_part_is_told_the_same_wherever_it_is_seen_from(lines, tmp_path, monkeypatch, part):
    write_libri(tmp_path / "speech/of/libri", ["train-clean-100", "dev-other"])
    whole, _ = lines(tmp_path / "speech")
    given = tmp_path / "speech/of/libri" / part
    found, _ = lines(given)
    assert found == {path: whole[path] for path in found}
    assert len(found) == {0: 12, 1: 6, 2: 4, 4: 1}[len(Path(part).parts)]
    if given.is_dir():
        monkeypatch.chdir(given)
        assert lines(".")[0] == found


@pytest.mark.parametrize(
    "names",
    [
        ["train/song/a.wav", "train/song/vocals.wav", "test/other/mixture.wav"],  # no track with a mixture and a stem
        ["1/2/3-2-0001.wav", "1/2/1-2.wav", "1/2/1_2_3.wav"],  # speaker and chapter again are the name of LibriSpeech
        ["wav48/p225/p226_001.wav", "wav/p225/p225_001.wav", "wav16/p01/p01_001.wav"],
        ["yes/0a7c2a8d_0.wav", "yes/person_nohash_0.wav", "_background_noise_/noise.wav"],
        ["blues/rock.00001.wav", "blues/blues.1.wav", "polka/polka.00001.wav"],
        ["train/0.wav", "test/0.wav", "validation/0.wav", "LibriSpeech/dev-clean/0.flac", "wavs/0001.wav"],
    ],
)
def test_what_looks_alike_stays_as_it_is(lines, tmp_path, names):
    write(tmp_path / "corpus", names)
    found, said = lines(tmp_path / "corpus")
    assert len(found) == len(names)
    assert {field for line in found.values() for field in line} == {"path", "duration", "sample_rate", "channels"}
    assert said == []


def sides(manifest: Path, **settings: Any) -> tuple[list[Line], list[Line]]:
    """Return the manifest lines of the training files and of the validation files."""
    model = {"sample_rate": 16000, "channels": 1, "crop_seconds": 0.01, "batch_size": 1}
    data = AudioDataModule(root=None, validation_root=None, manifest=str(manifest), **model, **settings)
    data.setup()
    return tuple([file.known for file in files] for files in (data.train_files, data.validation_files))


def values(lines: list[Line], field: str) -> set[str]:
    return {line[field] for line in lines}


def test_training_goes_by_the_official_split(lines, tmp_path):
    write_libri(tmp_path / "LibriSpeech")
    lines(tmp_path)
    train, validation = sides(tmp_path / "m.jsonl")
    assert values(train, "subset") == {"train-clean-100"}
    assert values(validation, "subset") == {"dev-other"}
    assert (len(train), len(validation)) == (6, 6)


def test_where_nothing_validates_whole_speakers_are_held_out_and_the_test_is_not_seen(lines, tmp_path):
    write_libri(tmp_path, ["train-clean-100", "train-clean-360", "train-other-500", "test-clean"])
    _, said = lines(tmp_path)
    end = "train 18, test 6 recordings, none to validate on: training holds out whole speakers"
    assert said == [f"{tmp_path}: LibriSpeech, 8 speakers; {end}"]
    train, validation = sides(tmp_path / "m.jsonl", validation_fraction=0.5)
    assert values(train, "speaker") | values(validation, "speaker") == {"10", "11", "12", "90", "91", "92"}
    assert values(train, "speaker").isdisjoint(values(validation, "speaker"))
    assert len(train) + len(validation) == 18


@pytest.mark.parametrize(("speakers", "field"), [(["p225", "p226", "p227"], "speaker"), (["p225"], "utterance")])
def test_both_microphones_of_an_utterance_are_on_one_side(lines, tmp_path, speakers, field):
    write_vctk(tmp_path, speakers)
    lines(tmp_path)
    train, validation = sides(tmp_path / "m.jsonl", validation_fraction=0.5)
    assert values(train, field).isdisjoint(values(validation, field))
    mics = defaultdict(set)
    for line in train + validation:
        mics[line["utterance"]].add(line["mic"])
    assert list(mics.values()) == [{"mic1", "mic2"}] * 2 * len(speakers)


def test_parts_that_are_indexed_apart_go_together(lines, tmp_path):
    write_libri(tmp_path / "LibriSpeech")
    for part in ("train-clean-100", "dev-other"):
        lines(tmp_path / "LibriSpeech" / part)
        (tmp_path / "m.jsonl").rename(tmp_path / f"{part}.jsonl")
    lines(tmp_path / "train-clean-100.jsonl", tmp_path / "dev-other.jsonl")
    train, validation = sides(tmp_path / "m.jsonl")
    assert (values(train, "subset"), values(validation, "subset")) == ({"train-clean-100"}, {"dev-other"})


def test_what_a_manifest_says_stays(lines, tmp_path):
    write_libri(tmp_path, ["dev-other"])
    (tmp_path / "own.jsonl").write_text(
        json.dumps({"path": "dev-other/10/1/10-1-0000.flac", "split": "train", "speaker": "A", "group": "B"}) + "\n"
    )
    (line,) = lines(tmp_path / "own.jsonl")[0].values()
    assert [line[field] for field in ("split", "speaker", "group", "chapter")] == ["train", "A", "B", "1"]


def test_in_shards_the_split_and_the_speaker_are_known(lines, tmp_path):
    write_libri(tmp_path / "LibriSpeech")
    assert len(write_shards(tmp_path / "LibriSpeech", tmp_path / "shards", max_bytes=5000).shards) > 2
    shutil.rmtree(tmp_path / "LibriSpeech")
    _, said = lines(tmp_path / "shards")
    where = tmp_path / "shards"
    assert said == [f"{where}: LibriSpeech, 6 speakers; train 6, validation 6, test 6 recordings"]
    train, validation = sides(tmp_path / "m.jsonl")
    assert (values(train, "subset"), values(validation, "subset")) == ({"train-clean-100"}, {"dev-other"})
    assert values(train, "speaker") == {"10", "90"}
