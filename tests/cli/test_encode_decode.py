"""`discrete-ae encode` and `decode` from the command line to the files they leave."""

import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from discrete_ae.cli import main
from discrete_ae.saving.checkpoint import KEY, STATE_PREFIX, describe_model

SPECTRAL = {"channels": 1, "hop_length": 320, "dim": 16, "depth": 1}


RESIDUAL = {
    "_target_": "discrete_ae.quantizers.ResidualQuantizer",
    "num_stages": 4,
    "stage": {
        "_target_": "discrete_ae.quantizers.VectorQuantizer",
        "_partial_": True,
        "codebook_size": 16,
        "num_codebooks": 1,
        "codebook_dim": 8,
    },
}


def config(hop_length=320, sample_rate=16000, quantizer=None):
    coder = SPECTRAL | {"hop_length": hop_length}
    return {
        "_target_": "discrete_ae.model.DiscreteAutoencoder",
        "sample_rate": sample_rate,
        "encoder": {"_target_": "discrete_ae.model.SpectralEncoder"} | coder,
        "quantizer": quantizer
        or {
            "_target_": "discrete_ae.quantizers.ScalarQuantizer",
            "levels": [4, 4, 4, 4],
            "num_codebooks": 8,
            "rounding": {"_target_": "discrete_ae.rounding.StraightThrough"},
        },
        "decoder": {"_target_": "discrete_ae.model.SpectralDecoder"} | coder,
    }


def save_checkpoint(path, seed=0, **settings):
    from discrete_ae.build import build_model

    torch.manual_seed(seed)
    model = build_model(config(**settings))
    state = {STATE_PREFIX + name: tensor for name, tensor in model.state_dict().items()}
    torch.save({KEY: describe_model(model, config(**settings)), "state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.ckpt")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, the current one, so that messages hold short paths."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, num_samples=4000, rate=16000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (num_samples, channels))
    soundfile.write(path, noise, rate, subtype="PCM_16")
    return path


def plain(out):
    """A summary without what depends on the machine, or on the format."""
    return [re.sub(r" at [0-9.e+]+ x real time|, [0-9.]+ kbps measured", "", line) for line in out]


def files(folder):
    """Everything below a folder, temporary files too, but the manifest of codes."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.jsonl")
    return sorted(path.relative_to(folder).as_posix() for path in found)


@pytest.fixture
def command(capfd, checkpoint):
    """Run `discrete-ae` in this process; its exit status, the lines of its stdout and of its stderr."""

    def run(*arguments, model=checkpoint):
        given = [str(argument) for argument in arguments]
        if given[0] in ("encode", "decode") and model:
            given += ["-c", str(model), "--device", "cpu"]
        with pytest.raises(SystemExit) as ended:
            main.main(given)
        out, err = capfd.readouterr()
        return ended.value.code or 0, out.splitlines(), err.splitlines()

    return run


def test_tree_there_and_back(here, command):
    write(here / "a/x.wav", 3001, 44100, 2)
    write(here / "a/b/y.flac", 1, 8000)
    write(here / "z.wav", 16000, 16000)
    (here / "a/notes.txt").write_text("no audio, not touched")
    write(here / "a/.hidden.wav")

    status, out, err = command("encode", "a", "z.wav", "-o", "codes")
    assert (status, err) == (0, [])
    # 8 codebooks of 256 entries at 50 frames a second are 3.2 kbps a channel. The durations: 3001/44100 = 0.068 s of
    # two channels, 0.000125 s, 1 s; so (0.068 * 6.4 + 1 * 3.2) / 1.068 = 3.40 kbps on the whole.
    assert plain(out) == ["3 files encoded, 0 failed: 1.1 s of audio, 3.40 kbps nominal"]
    assert files(here / "codes") == ["a/b/y.npz", "a/x.npz", "z.npz"]

    status, out, err = command("decode", "codes/a", "codes/z.npz", "-o", "decoded")
    assert (status, err) == (0, [])
    assert plain(out) == ["3 files decoded, 0 failed: 1.1 s of audio, 3.40 kbps nominal"]
    assert files(here / "decoded") == ["a/b/y.wav", "a/x.wav", "z.wav"]
    for name, expected in {"a/x.wav": (44100, 2, 3001), "a/b/y.wav": (8000, 1, 1), "z.wav": (16000, 1, 16000)}.items():
        info = soundfile.info(here / "decoded" / name)
        assert (info.samplerate, info.channels, info.frames) == expected
        assert info.subtype == "PCM_16"


def test_codes_are_those_of_the_python_interface(here, command, checkpoint):
    import discrete_ae

    write(here / "x.wav")
    command("encode", "x.wav", "-o", "codes")
    audio, _ = soundfile.read(here / "x.wav", dtype="float32")
    model = discrete_ae.load(checkpoint)
    with np.load(here / "codes/x.npz", allow_pickle=False) as opened:
        assert np.array_equal(opened["codes"], discrete_ae.Codec(model).encode(torch.from_numpy(audio)[None, None]))
        assert opened["model_hash"].item() == model.model_hash


def test_fewer_codebooks_of_a_residual_model_are_the_first_ones(here, command, tmp_path_factory):
    model = save_checkpoint(tmp_path_factory.mktemp("residual") / "best.ckpt", quantizer=RESIDUAL)
    write(here / "a.wav", num_samples=16000)
    for count, kbps in ((1, "0.20"), (3, "0.60"), (4, "0.80")):  # 4 bits a codebook, 50 frames a second
        status, out, err = command("encode", "a.wav", "-o", f"{count}.npz", "--codebooks", count, model=model)
        assert (status, err) == (0, [])
        assert plain(out) == [f"1 file encoded, 0 failed: 1.0 s of audio, {kbps} kbps nominal"]
        assert command("decode", f"{count}.npz", "-o", f"{count}.wav", model=model)[0] == 0
        assert soundfile.info(f"{count}.wav").frames == 16000
    whole = np.load("4.npz")
    assert whole["codes"].shape == (1, 4, 50)
    for count in (1, 3):
        first = np.load(f"{count}.npz")
        assert np.array_equal(first["codes"], whole["codes"][:, :count])
        assert first["codebook_sizes"].tolist() == [16] * count


@pytest.mark.parametrize("count", [0, 7, 9])
def test_codebooks_that_do_not_decode_alone_are_a_usage_error(here, command, count):
    write(here / "a.wav")
    status, out, err = command("encode", "a.wav", "-o", "a.npz", "--codebooks", count)
    assert (status, out) == (2, [])
    (line,) = err
    assert "--codebooks" in line
    assert files(here) == ["a.wav"]


def test_tree_of_a_folder_given_alone_lies_in_out(here, command):
    write(here / "corpus/a/x.wav")
    assert command("encode", "corpus", "-o", "codes")[0] == 0
    assert files(here / "codes") == ["a/x.npz"]
    assert command("decode", "codes", "-o", "decoded")[0] == 0
    assert files(here / "decoded") == ["a/x.wav"]


def test_current_folder_among_others_keeps_its_name(here, command):
    write(here / "x.wav")
    write(here / "b/y.wav")
    assert command("encode", ".", "b/y.wav", "-o", "codes")[0] == 0
    assert files(here / "codes") == [f"{here.name}/b/y.npz", f"{here.name}/x.npz", "y.npz"]


def test_out_may_name_the_file(here, command):
    write(here / "x.wav")
    assert command("encode", "x.wav", "-o", "new/y.npz")[0] == 0
    assert command("decode", "new/y.npz", "-o", "z.flac")[0] == 0
    assert files(here) == ["new/y.npz", "x.wav", "z.flac"]
    assert (soundfile.info("z.flac").format, soundfile.info("z.flac").frames) == ("FLAC", 4000)
    (here / "folder.npz").mkdir()
    assert command("encode", "x.wav", "-o", "folder.npz")[0] == 0
    assert files(here / "folder.npz") == ["x.npz"]

    status, _, err = command("encode", "x.wav", "x.wav", "-o", "y.npz")
    assert (status, err) == (2, ["error: -o y.npz: one file, for several inputs or a folder; give a folder"])
    status, _, err = command("decode", "new/y.npz", "-o", "z.flac", "--format", "wav")
    assert (status, err) == (2, ["error: --format wav, but -o z.flac; make them agree"])


def test_same_name_with_two_suffixes_keeps_both(here, command):
    for name in ("x.wav", "x.flac", "y.wav", "b/x.wav"):
        write(here / "a" / name)
    assert command("encode", "a", "-o", "codes")[0] == 0
    assert files(here / "codes") == ["b/x.npz", "x.flac.npz", "x.wav.npz", "y.npz"]
    assert command("decode", "codes", "-o", "decoded", "--format", "flac")[0] == 0
    assert files(here / "decoded") == ["b/x.flac", "x.flac.flac", "x.wav.flac", "y.flac"]


def test_names_that_coincide_with_a_kept_suffix_are_kept_apart(here, command):
    for name in ("x.wav", "x.flac", "x.wav.wav"):
        write(here / "a" / name)
    assert command("encode", "a", "-o", "codes")[0] == 0
    assert files(here / "codes") == ["x.flac.npz", "x.wav.npz", "x.wav.wav.npz"]


def test_outputs_that_coincide_are_refused_before_any_work(here, command):
    write(here / "a/x.wav")
    write(here / "b/x.wav")
    status, out, err = command("encode", "a/x.wav", "b/x.wav", "-o", "codes")
    assert (status, out) == (2, [])
    assert err == [
        "error: a/x.wav and b/x.wav would both become codes/x.wav.npz; "
        "give the folder that holds them, or run twice with different outputs"
    ]
    assert not (here / "codes").exists()


def test_an_input_given_twice_is_done_once(here, command):
    write(here / "a/x.wav")
    status, out, _ = command("encode", "a", "a", "-o", "codes")
    assert (status, out[0].split(":")[0]) == (0, "1 file encoded, 0 failed")


def test_existing_output_needs_force(here, command):
    write(here / "a/x.wav")
    write(here / "a/y.wav")
    (here / "codes").mkdir(parents=True)
    (here / "codes/x.npz").write_text("mine")
    status, out, err = command("encode", "a", "-o", "codes")
    assert (status, err) == (
        1,
        ["error: codes/x.npz: exists already; use --skip-existing to go on, or --force to overwrite it"],
    )
    assert plain(out) == ["1 file encoded, 1 failed: 0.2 s of audio, 3.20 kbps nominal"]
    assert (here / "codes/x.npz").read_text() == "mine"
    assert command("encode", "a", "-o", "codes", "--force")[0] == 0
    assert np.load(here / "codes/x.npz")["codes"].shape == (1, 8, 13)


def test_bad_inputs_do_not_stop_the_others(here, command):
    write(here / "a/good.wav")
    (here / "a/bad.wav").write_text("no audio")
    soundfile.write(here / "a/nan.wav", np.array([0.0, np.nan]), 16000, subtype="FLOAT")
    (here / "empty").mkdir()
    (here / "notes.txt").write_text("no audio")
    status, out, err = command("encode", "a", "empty", "notes.txt", "nowhere", "-o", "codes")
    assert status == 1
    assert err == [
        "error: empty: no .wav, .flac, .ogg, .opus, .mp3 files in it or below; give another folder",
        "error: nowhere: no such file or folder; check the name",
        "error: a/bad.wav: not readable as audio; remove or replace it",
        "error: a/nan.wav: holds NaN or infinite samples; repair or remove it",
        "error: notes.txt: not readable as audio; remove or replace it",
    ]
    assert plain(out) == ["1 file encoded, 5 failed: 0.2 s of audio, 3.20 kbps nominal"]
    assert files(here / "codes") == ["a/good.npz"]

    (here / "codes/a/cut.npz").write_bytes((here / "codes/a/good.npz").read_bytes()[:900])
    np.savez(here / "codes/a/foreign.npz", weights=np.zeros(3))
    status, out, err = command("decode", "codes", "a", "-o", "decoded")
    assert status == 1
    assert [line.split(",")[0] for line in err] == [
        "error: a: no .npz files in it or below; give another folder",
        "error: codes/a/cut.npz: damaged",
        "error: codes/a/foreign.npz: not a file of codes",
    ]
    assert plain(out) == ["1 file decoded, 3 failed: 0.2 s of audio, 3.20 kbps nominal"]
    assert files(here / "decoded") == ["codes/a/good.wav"]


def test_nothing_done_says_so(here, command):
    status, out, err = command("encode", "nowhere.wav", "-o", "codes")
    assert (status, out, len(err)) == (1, ["0 files encoded, 1 failed"], 1)
    assert files(here) == []


def test_codes_of_another_model_need_force(here, command, tmp_path_factory):
    write(here / "x.wav")
    command("encode", "x.wav", "-o", "codes")
    other = save_checkpoint(tmp_path_factory.mktemp("other") / "best.ckpt", seed=1)
    status, out, err = command("decode", "codes/x.npz", "-o", "decoded", model=other)
    assert (status, out, len(err)) == (1, ["0 files decoded, 1 failed"], 1)
    assert err[0].startswith("error: codes/x.npz: codes of another model (")
    assert not (here / "decoded").exists()
    status, _, err = command("decode", "codes/x.npz", "-o", "decoded", "--force", model=other)
    assert (status, err) == (0, ["warning: codes/x.npz: codes of another model, decoded all the same"])

    unfit = save_checkpoint(tmp_path_factory.mktemp("other") / "best.ckpt", hop_length=160)
    status, _, err = command("decode", "codes/x.npz", "-o", "decoded", "--force", model=unfit)
    assert (status, len(err)) == (1, 1)
    assert err[0].startswith("error: codes/x.npz: has 13 frames where")


@pytest.mark.parametrize("out", ["occupied", "occupied/below", "occupied/y.npz"])
def test_unwritable_output_is_one_line(here, command, out):
    write(here / "a/x.wav")
    write(here / "a/y.wav")
    (here / "occupied").write_text("a regular file")
    status, stdout, err = command("encode", "a" if "." not in out else "a/x.wav", "-o", out)
    assert (status, stdout, len(err)) == (1, [], 1)
    assert err[0].startswith(f"error: {out}: cannot be written (")
    assert err[0].endswith("occupied is not a folder); give another output with -o")


def test_impossible_names_are_one_line_each(here, command):
    write(here / "x.wav")
    too_long = "n" * 300
    for out in (too_long, f"{too_long}.npz", f"{too_long}/y.npz"):
        status, _, err = command("encode", "x.wav", "-o", out)
        assert status == 1
        assert err == [f"error: {out}: cannot be written (File name too long); give another output with -o"]
    status, _, err = command("encode", "x.wav", too_long, "-o", "codes")
    assert (status, err) == (1, [f"error: {too_long}: cannot be read (File name too long); check the name"])
    assert files(here / "codes") == ["x.npz"]

    # The longest name there is; beside its namesake it would have to keep its suffix, which makes it longer.
    for name in (f"{'n' * 251}.wav", f"{'n' * 250}.flac", f"{'n' * 250}.wav"):
        write(here / "a" / name)
    status, _, err = command("encode", "a", "-o", "codes")
    assert (status, len(err)) == (1, 2)
    assert all(".npz: cannot be written (File name too long); give" in line for line in err)
    assert files(here / "codes") == [f"{'n' * 251}.npz", "x.npz"]


def test_format_that_cannot_hold_the_channels_says_so(here, command):
    write(here / "x.wav", channels=9)  # FLAC has 8 at most
    command("encode", "x.wav", "-o", "codes")
    status, _, err = command("decode", "codes/x.npz", "-o", "y.flac")
    assert (status, err) == (
        1,
        ["error: codes/x.npz: 9 channels at 16000 Hz cannot be written as flac; use another --format"],
    )
    assert command("decode", "codes/x.npz", "-o", "y.wav")[0] == 0
    assert files(here) == ["codes/x.npz", "x.wav", "y.wav"]


def test_failed_write_leaves_nothing(here, command):
    write(here / "x.wav")
    (here / "codes/x.npz/in_the_way").mkdir(parents=True)  # no file can replace a folder
    status, _, err = command("encode", "x.wav", "-o", "codes", "--force")
    assert (status, len(err)) == (1, 1)
    assert err[0].startswith("error: codes/x.npz: Is a directory")
    assert files(here / "codes") == []


def test_interrupt_leaves_nothing_half_written(here, command, monkeypatch):
    for name in ("x", "y"):
        write(here / f"a/{name}.wav")
    replace = Path.replace

    def interrupted(temporary, target):
        assert temporary.stat().st_size > 0
        if target.name == "y.npz":
            raise KeyboardInterrupt
        return replace(temporary, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    status, _, err = command("encode", "a", "-o", "codes")
    assert status == 130
    assert err == ["warning: interrupted after 1 file encoded; the same command with --skip-existing goes on"]
    assert files(here / "codes") == ["x.npz"]


def test_new_files_have_the_usual_permissions(here, command):
    write(here / "x.wav")
    command("encode", "x.wav", "-o", "codes")
    (here / "plain").touch()
    assert stat.S_IMODE((here / "codes/x.npz").stat().st_mode) == stat.S_IMODE((here / "plain").stat().st_mode)


def test_loud_audio_is_clipped_not_wrapped(here):
    from discrete_ae.cli.decode import Format, write_audio

    blocks = [np.array([[1.5, -1.5]], np.float32), np.array([[0.5]], np.float32)]
    write_audio(here / "x.wav", blocks, 8000, 1, 3, Format.WAV)
    samples, _ = soundfile.read("x.wav", dtype="int16")
    assert samples.tolist() == [32767, -32768, 16384]


def test_wrong_checkpoint_is_one_line(here, command):
    write(here / "x.wav")
    (here / "bad.ckpt").write_text("no checkpoint")
    for model in ("bad.ckpt", "nowhere.ckpt"):
        status, out, err = command("encode", "x.wav", "-o", "codes", model=model)
        assert (status, out, len(err)) == (1, [], 1)
        assert err[0].startswith(f"error: {model}: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode"], "error: Missing argument 'INPUT'; see discrete-ae encode --help"),
        (["encode", "x", "-o", "y"], "error: Missing option '--checkpoint' / '-c'; see discrete-ae encode --help"),
        (["encde"], "error: No such command 'encde'"),
        (["encode", "--colour"], "error: No such option: --colour"),
        (["encode", "x", "-o", "y", "-c", "z", "--device", "tpu"], "error: Invalid value for '--device'"),
    ],
)
def test_usage_error_is_one_line(here, command, arguments, message):
    status, out, err = command(*arguments, model=None)
    assert (status, out, len(err)) == (2, [], 1)
    assert err[0].startswith(message)


def test_cuda_without_a_gpu_is_a_usage_error(here, command, monkeypatch, checkpoint):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    write(here / "x.wav")
    status, _, err = command("encode", "x.wav", "-o", "codes", "-c", checkpoint, "--device", "cuda", model=None)
    assert (status, err) == (2, ["error: --device cuda: PyTorch finds no GPU here; use --device auto or --device cpu"])


def test_train_gets_its_arguments_untouched(command, monkeypatch):
    from discrete_ae.cli import train

    given = []
    monkeypatch.setattr(train, "main", given.append)
    arguments = ["-m", "quantizer=ste,fourier", "--cfg", "job", "--help", "++a=[1, 2]", "-o", "~b", "--", "c=1"]
    assert command("train", *arguments)[0] == 0
    assert command("train")[0] == 0
    assert given == [arguments, []]


def test_help_needs_no_torch():
    code = (
        "import sys; from discrete_ae.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as ended: status = ended.code or 0\n"
        "sys.exit(status or 'torch' in sys.modules)"
    )
    for arguments in ([], ["encode", "--help"], ["decode", "--help"], ["--version"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "discrete-ae" in done.stdout
