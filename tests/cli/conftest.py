"""Run the command line in the test's own process."""

from collections.abc import Callable

import pytest

from discrete_ae.cli import main


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str], list[str]]]:
    """Run `discrete-ae`; return its exit status, the lines of stdout, and those of stderr that are not INFO."""

    def run(*arguments: object) -> tuple[int, list[str], list[str]]:
        with pytest.raises(SystemExit) as ended:
            main.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        said = [line for line in err.splitlines() if not line.startswith("INFO:")]
        return int(ended.value.code or 0), out.splitlines(), said

    return run
