"""Curves as they come back from what TensorBoard keeps."""

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from discrete_ae.compare.curves import read_curves


def test_scalars_come_back_whole_and_in_order(tmp_path):
    # More than the 1000 that TensorBoard keeps of a scalar unless told otherwise.
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(1500):
            writer.add_scalar("train/gradient_norm", step / 2, step)
        writer.add_scalar("val/other", 1.0, 0)
    curves = read_curves(tmp_path)
    assert curves.keys() == {"train/gradient_norm"}
    steps, values = curves["train/gradient_norm"]
    assert np.array_equal(steps, np.arange(1500))
    assert np.array_equal(values, np.arange(1500) / 2)


def test_what_a_continued_run_logged_last_counts(tmp_path):
    for part, value in enumerate((1.0, 2.0)):
        with SummaryWriter(str(tmp_path), filename_suffix=f".{part}") as writer:
            for step in ((0, 10, 20), (10, 20, 30))[part]:
                writer.add_scalar("val/reconstruction", value, step)
        # Of one second, the order of their names is that of a counter of this process, as text.
        (written,) = tmp_path.glob(f"events.*.{part}")
        written.rename(tmp_path / f"events.out.tfevents.{part}")
    steps, values = read_curves(tmp_path)["val/reconstruction"]
    assert steps.tolist() == [0, 10, 20, 30]
    assert values.tolist() == [1.0, 2.0, 2.0, 2.0]


def test_a_run_without_events_has_no_curves(tmp_path):
    assert read_curves(tmp_path) == {}
