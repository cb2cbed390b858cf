"""`discrete-ae listen` from the command line to the table of ratings, with a browser that rates by itself."""

import http.client
import json
import os
import re
import shlex
import shutil
import signal
import threading
from urllib.parse import urlsplit

import pytest

from discrete_ae.cli import main
from discrete_ae.compare.listening.ratings import read_ratings
from tests.compare.listening.reports import write_report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_report(tmp_path_factory.mktemp("original") / "report")


@pytest.fixture
def report(original, tmp_path):
    return shutil.copytree(original, tmp_path / "report")


@pytest.fixture
def command(capfd):
    """Run `discrete-ae listen`; its exit status, its stdout in one line, the lines of its stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main.main(["listen", *map(str, arguments)])
        out, err = capfd.readouterr()
        return ended.value.code or 0, " ".join(out.split()), err.splitlines()

    return run


@pytest.fixture
def listener(monkeypatch):
    """What listens when a browser is to be opened: rates so many trials, then takes the result or presses Ctrl-C."""
    opened = []

    def plan(trials, grade=50):
        def listen(address):
            connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
            path = urlsplit(address).path
            connection.request("GET", f"{path}session")
            state = json.load(connection.getresponse())
            todo = [n for n in range(1, len(state["trials"]) + 1) if n not in state["done"]][:trials]
            for number in todo:
                ratings = [grade] * len(state["trials"][number - 1]["conditions"])
                body = json.dumps({"trial": number, "ratings": ratings, "comment": "", "listener": "from the page"})
                origin = address.removesuffix(path)
                headers = {"Content-Type": "application/json", "Origin": origin}
                connection.request("POST", f"{path}ratings", body, headers)
                connection.getresponse().read()
            connection.request("GET", f"{path}result")
            if connection.getresponse().status != 200:
                os.kill(os.getpid(), signal.SIGINT)
            connection.close()

        def open_browser(address):
            opened.append(address)
            threads.append(threading.Thread(target=listen, args=(address,)))
            threads[-1].start()

        monkeypatch.setattr("webbrowser.open", open_browser)
        return opened

    threads: list[threading.Thread] = []
    monkeypatch.setenv("DISPLAY", ":0")
    # A process that a shell started in the background ignores it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield plan
    signal.signal(signal.SIGINT, before)
    for thread in threads:
        thread.join()


def test_a_whole_session(command, listener, report):
    opened = listener(2, grade=95)
    status, out, err = command(report, "--seed", 5)
    assert (status, err) == (0, [])
    assert f"2 clips, 4 versions each: {opened[0]}" in out
    rows = read_ratings(report / "ratings.csv")
    assert [row.rating for row in rows] == [95] * 8
    assert {(row.seed, row.listener, row.report) for row in rows} == {(5, "from the page", "report")}
    for words in (
        "Ratings of report",
        "straight-through",
        "hidden reference",
        "95 (95 to 95)",
        "for this one listener",
    ):
        assert words in out
    # The summary alone says the same.
    status, again, err = command(report, "--summary")
    assert (status, err) == (0, [])
    assert again == out[out.index("Ratings of report") :]


def test_ctrl_c_and_going_on(command, listener, report, tmp_path):
    ratings = tmp_path / "else where/all.csv"
    own = ("-o", ratings, "--listener", "Ann O'Hara")
    chosen = ("--clips", 2, "--methods", "fourier")
    listener(1)
    status, out, err = command(report, *own, *chosen)
    assert (status, err) == (0, [])
    assert len(read_ratings(ratings)) == 3  # hidden reference, anchor and one method
    status, _, (line,) = command(report, *own, "--resume")
    assert status == 2
    assert "began with other clips or methods" in line
    # What is said to go on with is what a shell makes a command of.
    _, name, *said = shlex.split(re.search("1 of 2 clips rated; go on with (.* --resume)", out)[1])
    assert (name, said) == ("listen", [str(part) for part in (report, *own, *chosen, "--resume")])
    listener(1, grade=99)
    status, out, err = command(*said)
    assert (status, err) == (0, [])
    assert "go on with" not in out
    rows = read_ratings(ratings)
    assert [row.rating for row in rows] == [50] * 3 + [99] * 3
    assert len({(row.session, row.seed, row.listener) for row in rows}) == 1
    status, _, (line,) = command(*said)
    assert status == 2
    assert line == "error: --resume: no unfinished session of Ann O'Hara on these sounds; leave it out to begin one"


def test_the_summary_does_not_mix_sounds(command, listener, report):
    listener(1)
    assert command(report, "--clips", 1)[0] == 0
    index = report / "clips/clips.json"
    index.write_text(index.read_text().replace("recording 1", "another name"))
    status, _, (line,) = command(report, "--summary")
    assert status == 1
    assert line.endswith("ratings.csv: the ratings in it are of other sounds; rate some clips first, without --summary")
    assert command(report, "--clips", 1)[0] == 0
    assert "- 1 session in " in command(report, "--summary")[1]


def test_mistakes_are_one_line(command, listener, report, tmp_path):
    opened = listener(1)
    damaged = shutil.copytree(report, tmp_path / "damaged")
    flac = damaged / "clips/clip2/ste.flac"
    flac.write_bytes(b"fLaC")
    (tmp_path / "file").write_text("")
    with http.client.socket.create_server(("127.0.0.1", 0)) as taken:
        for arguments, expected, words in (
            ((tmp_path / "none",), 1, "no clips/clips.json in it; give the folder"),
            ((tmp_path / "file",), 1, "no clips/clips.json in it; give the folder"),
            ((damaged,), 1, "ste.flac"),
            ((report, "--methods", "ste,vq"), 2, "--methods vq: not in the report; it has ste, fourier"),
            ((report, "--methods", ""), 2, "--methods : not in the report"),
            ((report, "--clips", 3), 2, "--clips 3: the report has 2"),
            ((report, "--clips", 0), 2, "--clips"),
            ((report, "--ratings", tmp_path), 1, "not readable as ratings"),
            ((report, "--ratings", tmp_path / "file"), 1, "not a file of ratings"),
            ((report, "--ratings", tmp_path / "file/ratings.csv"), 1, "cannot be written"),
            ((report, "--port", taken.getsockname()[1]), 2, "Address already in use; give another, or leave it out"),
            ((report, "--summary"), 1, "there are no ratings in it; rate some clips first"),
            ((report, "--resume"), 2, "no unfinished session without a --listener"),
            ((report, "--resume", "--seed", 1), 2, "--seed and --resume"),
        ):
            status, _, err = command(*arguments)
            assert len(err) == 1, (arguments, err)
            assert status == expected, err
            assert err[0].startswith("error: ")
            assert words in err[0]
    assert opened == []
    assert (tmp_path / "file").read_text() == ""
