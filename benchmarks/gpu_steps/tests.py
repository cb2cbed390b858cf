"""Run the tests marked `gpu`."""

import pytest
from _common import REPOSITORY

from gpu_steps.results import Given


class Recorder:
    """A pytest plugin that records every test when it is done.

    Args:
        given: inputs of the step, which receive the results.
    """

    def __init__(self, given: Given) -> None:
        self.given = given
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """See pytest; set-up and tear-down count if they fail or skip."""
        if report.when != "call" and report.passed:
            return
        self.counts[report.outcome] += 1
        name = report.nodeid.rpartition("/")[2]
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            reason = crash.message if crash else str(report.longrepr)
            self.given.add(failed=name, reason=" ".join(reason.split())[:300])
        elif report.skipped and isinstance(report.longrepr, tuple) and self.given.device == "cuda":
            self.given.note(f"{name}: {report.longrepr[2]}")
        self.given.summarize(", ".join(f"{count} {outcome}" for outcome, count in self.counts.items()))


def measure(given: Given) -> None:
    """See the module."""
    # A warning from a newer library than the tested ones is not a failure here.
    options = ["-m", "gpu", "-W", "default", "-p", "no:cacheprovider", f"--rootdir={REPOSITORY}"]
    code = pytest.main([*options, str(REPOSITORY / "tests" / "gpu")], plugins=[Recorder(given)])
    raise SystemExit(int(code))
