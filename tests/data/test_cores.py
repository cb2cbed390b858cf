"""What a process may use of a machine, from files as Linux writes them, and what of it loads."""

import pytest

from discrete_ae.data import loading
from discrete_ae.data.loading import MAX_WORKERS, loading_workers, usable_cores


def usable(tmp_path, own, files, affinity=16):
    """Usable cores where /proc/self/cgroup holds `own`, and the mounted groups hold `files`."""
    (tmp_path / "own").write_text(own)
    for name, content in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    return usable_cores(tmp_path / "own", tmp_path / "groups", affinity)


V1 = "12:memory:/job\n4:cpu,cpuacct:/job\n1:name=systemd:/job\n0::/\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {}, 16),
        ("0::/\n", {"cpu.max": "6400000 100000"}, 16),  # 64 cores' time on 16 cores
        ("0::/\n", {"cpu.max": "250000 100000"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),
        ("0::/a/b\n", {"cpu.max": "800000 100000", "a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        (V1, {"cpu/job/cpu.cfs_quota_us": "600000", "cpu/job/cpu.cfs_period_us": "100000"}, 6),
        (V1, {"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "100000"}, 16),
        # In a container, the group's name may be that outside, and its files are those at the root.
        (V1, {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "10000"}, 5),
    ],
)
def test_quota_of_the_group_and_of_those_above(tmp_path, own, files, expected):
    assert usable(tmp_path, own, files) == expected


def test_affinity_counts_where_there_is_no_quota(tmp_path):
    assert usable(tmp_path, "0::/\n", {"cpu.max": "400000 100000"}, affinity=3) == 3
    assert usable_cores(tmp_path / "missing", tmp_path / "missing", 5) == 5


def test_processes_share_the_cores_and_each_keeps_one(monkeypatch):
    found = {}
    for usable, processes in ((16, 2), (16, 16), (1, 1), (96, 1)):
        monkeypatch.setattr(loading, "usable_cores", lambda usable=usable: usable)
        found[usable, processes] = loading_workers(processes)
    assert found == {(16, 2): 7, (16, 16): 0, (1, 1): 0, (96, 1): MAX_WORKERS}
