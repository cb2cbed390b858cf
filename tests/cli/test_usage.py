"""Mistakes in the command line: one line with what was expected, what came, and what to do."""

import pytest


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("encode x -o y --jobs 0", "--jobs: expected a whole number of at least 1, got 0; see discrete-ae encode"),
        ("encode x -o y --codebooks=two", "--codebooks: expected a whole number, got two"),
        ("encode x -o y --loudness-lufs 3", "--loudness-lufs: expected a number from -70 to 0, got 3"),
        ("encode x -o y --batch-seconds 0", "--batch-seconds: expected a number of at least 0.1, got 0"),
        ("decode x -o y --format mp3", "--format: expected wav or flac, got mp3"),
        ("decode x -o y --device gpu", "--device: expected auto, cpu or cuda, got gpu"),
        ("encode x -o y --codebook 2", "--codebook: no such option; did you mean --codebooks?"),
        ("encode x -o y --jobs=2 -x", "-x: no such option; see discrete-ae encode --help"),
        ("--verzion", "--verzion: no such option; did you mean --version?"),
        ("encod x", "encod: no such command; did you mean encode?"),
        ("zzz", "zzz: no such command; see discrete-ae --help"),
        ("encode x -o", "-o: expected OUT after it, got none; see discrete-ae encode --help"),
        ("encode x --jobs", "--jobs: expected a whole number of at least 1 after it, got none"),
        ("encode x -o y --strict=3", "--strict: expected no value, got 3"),
        ("--version=", "--version: expected no value, got an empty one"),
        ("encode x", "encode: expected -o OUT, got none; for example: discrete-ae encode speech.wav -o speech.npz"),
        ("push a", "push: expected USER/MODEL, got none; for example: discrete-ae push model user/name"),
        ("push a b c d", "push: expected only BUNDLE USER/MODEL, got also c d; see discrete-ae push --help"),
    ],
)
def test_parser_errors_are_in_our_words(command, given, words):
    status, out, (line,) = command(*given.split())
    assert (status, out) == (2, [])
    assert line.startswith(f"error: {words}")
