"""What reaches a terminal."""

import json
import os
import subprocess
import sys
from pathlib import Path

import launcher
import pytest
import sample_run

from dsr_deploy.console import cli, printing
from dsr_deploy.console.terminal import Terminal
from dsr_deploy.text import escaped, one_line

SEQUENCES = [
    ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),  # the window's title
    ("\x9b31m", r"\x9b31m"),
    ("a\rb\x08", r"a\rb\x08"),
    ("\u202egnp.exe", r"\u202egnp.exe"),  # reads backwards
    ("\udcff", r"\udcff"),  # a file name that is not UTF-8
    ("ünïcode × Σ", "ünïcode × Σ"),
]


@pytest.mark.parametrize(("text", "shown"), SEQUENCES)
def test_control_characters_are_shown_not_obeyed(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert escaped(text) == shown
    printing.echo(text)
    Terminal().note(text)
    assert tuple(capsys.readouterr()) == (f"{shown}\n", f"{shown}\n")


def test_newlines_stay_in_results_and_not_in_notes(capsys: pytest.CaptureFixture[str]) -> None:
    printing.echo("a\nb")
    Terminal().note("a\nb")
    assert tuple(capsys.readouterr()) == ("a\nb\n", "a\\nb\n")
    assert one_line(" a\nb ") == r"a\nb"


def test_a_very_long_line_keeps_its_ends() -> None:
    assert one_line("x" * 1000) == "x" * 1000
    assert one_line("a" * 600 + "b" * 600) == "a" * 500 + " ... " + "b" * 500


def test_an_error_shows_what_a_file_holds_on_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = sample_run.write(tmp_path / "two\nlines")
    about = json.loads(run.config.read_text())
    about["config"]["\x1b[31m" + "x" * 300_000] = 1
    run.config.write_text(json.dumps(about))
    assert cli.run(["report", "--run", str(run.path)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert len(said) < 1100
    assert said.startswith(f"error: {tmp_path}/two\\nlines/config.json: not a run's configuration")
    assert "unknown entries: \\x1b[31mxxx" in said
    assert said.endswith("train again, and name another directory with --run DIR\n")


LINES = [["--help"], ["--version"], ["export", "--help"], [], ["train", "--print-config"]]


@pytest.mark.parametrize("arguments", LINES)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_the_output_is_an_error(arguments: list[str], unbuffered: str) -> None:
    environment = launcher.ENVIRONMENT | {"PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*launcher.PROGRAM, *arguments],
            stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        1,
        "error: standard output: cannot be written (No space left on device); send it elsewhere\n",
    )


@pytest.mark.parametrize("arguments", LINES)
def test_a_reader_that_has_seen_enough_is_no_error(arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as pipe:
        done = subprocess.run(
            [*launcher.PROGRAM, *arguments],
            stdout=pipe, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")


def test_without_room_for_errors_the_exit_code_tells() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*launcher.PROGRAM, "train", "-T", "0"], stdout=full, stderr=full, check=False
        )
    assert done.returncode == 1


def test_any_output_encoding_will_do() -> None:
    done = subprocess.run(
        [*launcher.PROGRAM, "train", "--device", "×", "--print-config"],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_package_is_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dsr_deploy", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("dsr-deploy, version ")


@pytest.mark.parametrize("variable", ["FORCE_COLOR=1", "TTY_COMPATIBLE=1", "CLICOLOR_FORCE=1"])
def test_a_log_has_no_bars_whatever_colours_are_asked_for(
    variable: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(*variable.split("="))
    shown = Terminal()
    with shown.task("work", 2) as task:
        task.advance()
        shown.note("note")
        task.advance()
    assert capsys.readouterr().err == "note\n"


@pytest.mark.parametrize("variables", ["TERM=dumb", "TERM=xterm COLUMNS=1", "TERM=xterm COLUMNS=x"])
def test_odd_terminals_show_notes(variables: str) -> None:
    own, other = os.openpty()
    script = (
        "from dsr_deploy.console.terminal import Terminal\n"
        "shown = Terminal()\n"
        "with shown.task('work', 2) as task:\n"
        "    task.advance(text='text')\n"
        "    shown.note('note')\n"
        "    task.advance()\n"
    )
    environment = os.environ | dict(pair.split("=") for pair in variables.split())
    with open(other, "wb") as terminal:
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, stderr=terminal, check=False
        )
    assert done.returncode == 0
    said = os.read(own, 1 << 16).decode()
    os.close(own)
    assert "note\r\n" in said
    if "dumb" in variables:
        assert said == "note\r\n"


def test_progress_that_cannot_be_shown_stops_nothing() -> None:
    script = (
        "from dsr_deploy.console.terminal import Terminal\n"
        "shown = Terminal()\n"
        "for number in range(3):\n"
        "    shown.note('note')\n"
        "print('done')\n"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=full, check=False
        )
    assert (done.returncode, done.stdout) == (0, b"done\n")
