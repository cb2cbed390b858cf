"""`discrete-ae gradient-report` from the command line to the picture and the table that it leaves."""

import pytest

from discrete_ae.cli import main

pytestmark = pytest.mark.slow


@pytest.fixture
def command(capfd, ste_run, recordings):
    """Run `discrete-ae gradient-report` on a few numbers; its exit status, stdout and the lines of its stderr."""

    def run(*arguments, checkpoint=ste_run / "checkpoints/last.ckpt", inputs=(recordings / "clip_1.wav", recordings)):
        given = ["-c", checkpoint, *inputs, "--segments", 2, "--coordinates", 8, "--device", "cpu", *arguments]
        with pytest.raises(SystemExit) as ended:
            main.main(["gradient-report", *map(str, given)])
        out, err = capfd.readouterr()
        # Training in this process, as in the fixtures, leaves its logging on.
        return ended.value.code or 0, out, [line for line in err.splitlines() if not line.startswith("INFO:")]

    return run


def test_picture_and_table(command, tmp_path):
    from discrete_ae.compare.gradients import BOUND, candidates

    status, out, err = command("-o", tmp_path / "new/gradients.png")
    assert (status, err) == (0, [])
    assert (tmp_path / "new/gradients.png").read_bytes().startswith(b"\x89PNG")
    table = (tmp_path / "new/gradients.md").read_text(encoding="utf-8")
    names = {line.split("|")[1].strip() for line in table.splitlines()[4:]}
    assert names == {BOUND, *(candidate.name for candidate in candidates())}
    assert all(name in out for name in names)

    # The same command gives the same numbers; it does not write over them unasked.
    status, _, (line,) = command("-o", tmp_path / "new/gradients.png")
    assert status == 1
    assert "exists already; use --force" in line
    assert command("-o", tmp_path / "new/gradients.png", "--force")[0] == 0
    assert (tmp_path / "new/gradients.md").read_text(encoding="utf-8") == table


def test_mistakes_are_one_line(command, tmp_path, run_training):
    out = ("-o", tmp_path / "gradients.png")
    damaged = tmp_path / "damaged.wav"
    damaged.write_bytes(b"RIFF and nothing else")
    gumbel = run_training("quantizer=gumbel", "trainer.max_steps=1") / "checkpoints/last.ckpt"
    for arguments, settings, expected, words in (
        (("-o", tmp_path / "gradients.txt"), {}, 2, "expected a picture"),
        (out, {"checkpoint": tmp_path / "none.ckpt"}, 1, "no such checkpoint"),
        (out, {"checkpoint": damaged}, 1, "not a checkpoint"),
        (out, {"checkpoint": gumbel}, 2, "GumbelSoftmaxQuantizer, which has no rounding"),
        (out, {"inputs": [damaged]}, 1, "damaged.wav: not readable as audio"),
        (out, {"inputs": [tmp_path / "none.wav"]}, 1, "no such file or folder"),
    ):
        status, _, err = command(*arguments, **settings)
        assert len(err) == 1, err
        (line,) = err
        assert status == expected, line
        assert line.startswith("error: ")
        assert words in line
    assert not (tmp_path / "gradients.png").exists()
