"""Paths without the folders of one machine."""

from pathlib import Path

from discrete_ae.compare.places import hiding, short_names, with_short_paths


def test_folders_above_places_are_removed_from_texts_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/users/ann")
    absolute = ["/mnt/my disk/corpus", "/mnt/my disk/corpus/sub/runs", "/top", "/pat/a/*/b.wav"]
    hide = hiding([*absolute, "../there/data", "here/data"])
    for text, expected in (
        ("/mnt/my disk/corpus/a b.wav: cannot be read", "corpus/a b.wav: cannot be read"),
        ("compare '/mnt/my disk/corpus/sub/runs/x' -o=/users/ann/out", "compare 'runs/x' -o=out"),
        ("/pat/a/c/b.wav of /pat/a/*/b.wav", "a/c/b.wav of a/*/b.wav"),
        ("--data ../there/data/x", "--data data/x"),
        ("here/data and /top/x stay", "here/data and /top/x stay"),
        ("/other/mnt/my disk/x stays", "/other/mnt/my disk/x stays"),
        (f"{tmp_path}/report", "report"),
    ):
        assert hide(text) == expected


def test_paths_become_short_names_that_tell_them_apart():
    assert short_names([Path("/a/x/speech"), Path("/a/y/speech"), Path("/b/music")]) == [
        "a/x/speech",
        "a/y/speech",
        "music",
    ]
    flats = [{"data.root": "/home/ann/speech", "lr": 1.0}, {"data.root": "/home/ann/old/speech", "name": "a/b"}]
    assert with_short_paths(flats) == [
        {"data.root": "speech", "lr": 1.0},
        {"data.root": "old/speech", "name": "a/b"},
    ]
