import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sample_run
from safetensors import safe_open
from safetensors.numpy import save_file

from dsr_deploy.console import cli, terminal
from dsr_deploy.data.samples import DataError
from dsr_deploy.parallel.rank import Rank, this_rank
from dsr_deploy.run import config
from dsr_deploy.run import directory as run_directory
from dsr_deploy.run.hold import hold

HEAVY = ("torch", "numpy", "numba", "matplotlib", "rich", "sklearn", "spikingjelly")
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run every command line in a directory of its own, called ``here``."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    return folder


def _left(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


COMMANDS = ("train", "quantize", "export", "simulate", "verify", "report")


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_nothing_that_takes_long(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from dsr_deploy.console.cli import run\n"
        f"code = run({arguments!r})\n"
        f"sys.exit(str([n for n in {HEAVY!r} if n in sys.modules] or '') or code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: dsr-deploy")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_is_read_and_written_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([name, "--help"]) == 0
    text = capsys.readouterr().out
    for word in ("Reads ", "Writes ", "Example", f"\n    dsr-deploy {name}"):
        # A sentence may begin with the word or join it with "and".
        assert word in text or word.lower() in text


def test_help_lists_the_commands_in_the_order_of_their_use(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run([]) == 0
    listed = capsys.readouterr().out.partition("Commands:")[2]
    places = [listed.index(f"\n  {name} ") for name in COMMANDS]
    assert places == sorted(places)


FIRST = "no run in this directory yet; run `dsr-deploy train` first, or name a run with --run DIR"

WRONG = [
    # nothing there yet
    ("quantize", 1, FIRST),
    ("export", 1, FIRST),
    ("simulate", 1, FIRST),
    ("verify", 1, FIRST),
    ("report", 1, FIRST),
    ("train --resume", 1, FIRST),
    (
        "simulate --run nowhere",
        1,
        "nowhere: no run here; run `dsr-deploy train` first, or name a run with --run DIR",
    ),
    # the command line
    ("nonsense", 2, "No such command 'nonsense'; see `dsr-deploy --help`"),
    (
        "train --epochs x",
        2,
        "Invalid value for '--epochs': 'x' is not a valid integer; see `dsr-deploy train --help`",
    ),
    (
        "train --dataset mnist",
        2,
        "Invalid value for '--dataset': 'mnist' is not one of 'digits', 'cifar10', 'cifar100', "
        "'imagenet', 'imagefolder', 'cifar10-dvs', 'tensors'; see `dsr-deploy train --help`",
    ),
    (
        "export --target fpga",
        2,
        "Invalid value for '--target': 'fpga' is not one of 'loihi', 'onnx', 'nir'; "
        "see `dsr-deploy export --help`",
    ),
    (
        "train --run=",
        2,
        "Invalid value for '--run': the name is empty; use '.' for the current directory; "
        "see `dsr-deploy train --help`",
    ),
    (
        "simulate --data-dir=",
        2,
        "Invalid value for '--data-dir': the name is empty; use '.' for the current directory; "
        "see `dsr-deploy simulate --help`",
    ),
    # values out of range
    ("quantize --bits 9", 1, "bits must be 2 to 8, not 9"),
    ("quantize --bits 1", 1, "bits must be 2 to 8, not 1"),
    ("train -T 0", 1, "timesteps must be 1 to 1024, not 0"),
    ("train --epochs 0", 1, "epochs must be 1 to 100000, not 0"),
    ("train --alpha 1.5", 1, "alpha must be above 0 and at most 1, not 1.5"),
    ("train --alpha nan", 1, "alpha must be above 0 and at most 1, not nan"),
    ("train --v-threshold -1", 1, "v_threshold must be 1e-37 to 1e+38, not -1.0"),
    ("train --v-threshold 1e39", 1, "v_threshold must be 1e-37 to 1e+38, not 1e+39"),
    ("train --tau 2", 1, "tau 2.0: IF neurons do not leak; leave tau out, or use neuron lif"),
    (
        "train --neuron lif --dt 9",
        1,
        "dt / tau must be 1/4096 to 8, not 9 (outside, the chip's 12-bit decay rounds to no leak "
        "or to no memory)",
    ),
    ("train --v-threshold-min 0", 1, "v_threshold_min must be 1e-37 to 1e+38, not 0.0"),
    (
        "train --v-threshold 0.001",
        1,
        "v_threshold must be at least v_threshold_min, 0.01, not 0.001; raise v_threshold or lower "
        "v_threshold_min",
    ),
    (
        "train --preset mnist-if-t4",
        1,
        f"preset 'mnist-if-t4': choose one of {', '.join(config.presets())}",
    ),
    (
        "train --arch resnet21",
        1,
        "arch 'resnet21': choose one of resnet-tiny, resnet18, resnet20, resnet32, "
        "resnet44, resnet56, resnet110, vgg11, FILE.py:FUNCTION",
    ),
    (
        "train --arch resnet21 --print-config",
        1,
        "arch 'resnet21': choose one of resnet-tiny, resnet18, resnet20, resnet32, "
        "resnet44, resnet56, resnet110, vgg11, FILE.py:FUNCTION",
    ),
    (
        "train --epochs 3 --warmup-epochs 3",
        1,
        "warmup_epochs must be below epochs, 3, not 3; lower warmup_epochs or raise epochs",
    ),
    # devices
    ("train --device tpu", 1, "device 'tpu': choose one of auto, cpu, cuda, cuda:N"),
    (
        "train --device cuda:x",
        1,
        "device 'cuda:x': choose one of auto, cpu, cuda, cuda:N",
    ),
    # data
    (
        "train --dataset imagefolder --data-dir none",
        1,
        "{here}/none: there is no such directory; name the data set's with data_dir",
    ),
    # a run directory that cannot be made
    ("train --run file/run", 1, "file/run: cannot be created (Not a directory)"),
    ("train --run file", 1, "file: cannot be created (File exists)"),
]


@pytest.mark.parametrize(("line", "code", "message"), WRONG)
def test_wrong_input_ends_in_one_line_and_leaves_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], line: str, code: int, message: str
) -> None:
    (here / "file").touch()
    assert cli.run(line.split()) == code
    said = capsys.readouterr()
    errors = [text for text in said.err.splitlines() if not text.startswith("reading")]
    assert (said.out, errors) == ("", [f"error: {message.format(here=here)}"])
    assert _left(here) == {"file"}


def test_a_gpu_that_is_not_there_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert cli.run(["train", "--device", "cuda"]) == 1
    message = "error: device 'cuda': 0 GPUs are visible; use the device cpu\n"
    assert capsys.readouterr().err == message
    assert not _left(here)


def test_a_directory_of_the_user_stays_when_training_cannot_begin(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "mine").mkdir()
    assert cli.run(["train", "--run", "mine", "--device", "tpu"]) == 1
    assert cli.run(["train", "--run", "new/run", "--device", "tpu"]) == 1
    assert _left(here) == {"mine"}


def test_a_run_is_not_overwritten(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = sample_run.write(here / "run")
    before = run.config.read_bytes()
    assert cli.run(["train", "--run", "run"]) == 1
    assert capsys.readouterr().err == (
        "error: run: already holds a run; continue it with --resume, or name another directory\n"
    )
    assert run.config.read_bytes() == before


WRONG_VALUES = [
    ("epochs", 2.5, "epochs must be a whole number, not 2.5"),
    ("epochs", True, "epochs must be a whole number, not True"),
    ("epochs", None, "epochs must be a whole number, not None"),
    ("lr", "x", "lr must be a number, not 'x'"),
    ("lr", False, "lr must be a number, not False"),
    ("lr", 10**400, f"lr must be 1e-37 to 1e+38, not {10**400}"),
    ("v_threshold", "x", "v_threshold must be a number or null, not 'x'"),
    ("image_size", 8.0, "image_size must be a whole number or null, not 8.0"),
    ("data_dir", 5, "data_dir must be text or null, not 5"),
    ("device", None, "device must be text, not None"),
    ("neuron", ["if"], "neuron ['if']: choose one of if, lif"),
    ("seeds", 1, "the configuration has missing or unknown entries: seeds"),
]

DAMAGED = [
    ("", "Expecting value: line 1 column 1 (char 0)"),
    ("[]", "it has no entry 'config'"),
    ('{"config": []}', "it has no entry 'config'"),
    *(
        (json.dumps({"config": vars(config.resolve()) | {name: value}}), message)
        for name, value, message in WRONG_VALUES
    ),
]


@pytest.mark.parametrize(("content", "message"), DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_configuration_is_refused_with_a_way_out(
    here: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    run = sample_run.write(here / "run")
    run.config.write_text(content)
    before = _left(here)
    # Neither may send the user to the other.
    for line in ("train --run run", "train --run run --resume"):
        assert cli.run(line.split()) == 1
        assert capsys.readouterr().err == (
            f"error: run/config.json: not a run's configuration ({message}); train again, and "
            "name another directory with --run DIR\n"
        )
    assert _left(here) == before
    assert run.config.read_text() == content


def test_whole_numbers_are_numbers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = sample_run.write(here / "run")
    values = vars(config.resolve()) | {"v_threshold": 2, "lr": 1}
    run.config.write_text(json.dumps({"config": values}))
    assert cli.run(["train", "--run", "run", "--resume", "--print-config", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == values


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0), (2, 1), (30, 1)])
def test_warmup_leaves_an_epoch_and_the_configuration_says_so(epochs: int, warmup: int) -> None:
    assert config.resolve(epochs=epochs).warmup_epochs == warmup


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _drop_a_tensor(path: Path) -> None:
    with safe_open(path, framework="np") as file:
        about = file.metadata()
        names = sorted(file.keys())
        tensors = {name: file.get_tensor(name) for name in names[1:]}
    save_file(tensors, path, about)


def _cut_a_tensor(path: Path) -> None:
    with safe_open(path, framework="np") as file:
        about = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    name = sorted(tensors)[0]
    save_file(tensors | {name: tensors[name][:-1].copy()}, path, about)


@pytest.mark.parametrize("damage", [_truncate, _drop_a_tensor, _cut_a_tensor])
@pytest.mark.parametrize("command", ["simulate", "verify"])
def test_a_damaged_network_file_is_refused_in_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], command: str, damage: object
) -> None:
    run = sample_run.write(here / "run")
    path = run.export("loihi") / "network.safetensors"
    assert callable(damage)
    damage(path)
    before = _left(here)
    assert cli.run([command, "--run", "run"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("error: ")
    assert "run/export/loihi/network.safetensors" in said.err
    assert _left(here) == before


def test_json_is_all_that_is_printed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample_run.write(here / "run")
    assert cli.run(["simulate", "--run", "run", "--samples", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((here / "run/reports/simulate.json").read_text())
    assert cli.run(["report", "--run", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": "run/reports/report.html"}


@pytest.mark.parametrize(
    ("part", "shown"), [("sparsity", {1}), ("energy", {2}), ("all", {1, 2, 3})]
)
def test_simulate_prints_the_part_that_was_asked_for(
    here: Path, capsys: pytest.CaptureFixture[str], part: str, shown: set[int]
) -> None:
    sample_run.write(here / "run")
    assert cli.run(["simulate", "--run", "run", "--samples", "5", "--report", part]) == 0
    text = capsys.readouterr().out
    marks = {1: "spikes/step", 2: "Energy per inference", 3: "membrane potential"}
    assert {number for number, mark in marks.items() if mark in text} == shown
    assert "Next: dsr-deploy report --run run\n" in text


def test_print_config_shows_every_value_and_writes_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["train", "--preset", "cifar10-lif-t5", "--lr", "0.2", "--print-config"]
    assert cli.run([*line, "--json"]) == 0
    expected = config.resolve("cifar10-lif-t5", lr=0.2)
    assert json.loads(capsys.readouterr().out) == vars(expected)
    assert cli.run(line) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [text.split()[0] for text in lines] == list(vars(expected))
    assert not _left(here)


def test_resume_refuses_other_settings(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample_run.write(here / "run")
    line = ["train", "--run", "run", "--resume"]
    assert cli.run([*line, "-T", "3", "--print-config"]) == 0
    capsys.readouterr()
    assert cli.run([*line, "--epochs", "31"]) == 1
    assert capsys.readouterr().err == (
        "error: run: the run was started with epochs 30, not 31; leave the option out, or start "
        "a new run without --resume\n"
    )


def test_one_process_at_a_time_writes_in_a_run(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = sample_run.write(here / "run")
    before = _left(here)
    with hold(run, "train"):
        for line in (
            "train --resume",
            "quantize --epochs 0",
            "export",
            "simulate --samples 2",
            "report",
        ):
            assert cli.run([*line.split(), "--run", "run"]) == 1
            assert capsys.readouterr().err == (
                "error: run: another process is working here; wait for it, or name another "
                "directory "
                "with --run DIR\n"
            )
        assert cli.run(["verify", "--engines", "event", "--samples", "2", "--run", "run"]) == 0
    assert _left(here) == before
    with hold(run, "train"):  # it was given back
        pass


@pytest.mark.parametrize("link", [False, True])
def test_where_no_directory_can_be_made_another_is_to_be_named(
    here: Path, capsys: pytest.CaptureFixture[str], link: bool
) -> None:
    runs = here / "runs"
    if link:
        runs.symlink_to(here / "unmounted")
    else:
        runs.touch()
    assert cli.run(["train"]) == 1
    assert capsys.readouterr().err == (
        "error: runs: cannot be created (File exists); name a directory with --run DIR\n"
    )
    assert _left(here) == {"runs"}


def test_trainings_that_start_together_get_a_directory_each(here: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        runs = list(pool.map(lambda _: run_directory.create(None, "name"), range(64)))
    assert len({run.path for run in runs}) == 64
    assert all(run.path.is_dir() for run in runs)


def test_a_run_stopped_in_its_first_epoch_is_to_be_resumed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample_run.write(here / "run")
    assert cli.run(["quantize", "--run", "run"]) == 1
    assert capsys.readouterr().err == (
        "error: run: no epoch of its training is complete yet; continue it with "
        "`dsr-deploy train --resume --run run`, or train again if it failed\n"
    )


START = "start several processes with torchrun, which sets it, or unset WORLD_SIZE for one process"


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ("WORLD_SIZE=abc", "WORLD_SIZE must be 0 to 1048576, not 'abc'"),
        ("WORLD_SIZE=-2", "WORLD_SIZE must be 0 to 1048576, not '-2'"),
        ("WORLD_SIZE=2", "RANK is not set"),
        ("WORLD_SIZE=2 RANK=", "RANK is not set"),
        ("WORLD_SIZE=2 RANK=2", "RANK must be 0 to 1, not '2'"),
        ("WORLD_SIZE=2 RANK=1.0", "RANK must be 0 to 1, not '1.0'"),
        ("WORLD_SIZE=2 RANK=1", "MASTER_ADDR is not set"),
        ("WORLD_SIZE=2 RANK=1 MASTER_ADDR=localhost", "MASTER_PORT is not set"),
        (
            "WORLD_SIZE=2 RANK=1 MASTER_ADDR=localhost MASTER_PORT=x",
            "MASTER_PORT must be 1 to 65535, not 'x'",
        ),
        ("WORLD_SIZE=2 RANK=1 LOCAL_RANK=2", "LOCAL_RANK must be 0 to 1, not '2'"),
        (
            "WORLD_SIZE=2 RANK=1 LOCAL_RANK=1 LOCAL_WORLD_SIZE=1",
            "LOCAL_WORLD_SIZE must be 2 to 2, not '1'",
        ),
        (
            "WORLD_SIZE=2 RANK=1 LOCAL_WORLD_SIZE=3",
            "LOCAL_WORLD_SIZE must be 1 to 2, not '3'",
        ),
    ],
)
@pytest.mark.parametrize("command", ["train", "quantize"])
def test_damaged_variables_of_the_launcher_are_refused(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variables: str,
    found: str,
    command: str,
) -> None:
    for variable in variables.split():
        monkeypatch.setenv(*variable.split("="))
    assert cli.run([command, "--run", "run"]) == 1
    assert capsys.readouterr().err == f"error: environment variable {found}; {START}\n"
    assert not _left(here)
    assert cli.run([command, "--help"]) == 0
    assert cli.run([command, "--foo"]) == 2
    wrong = f"error: No such option '--foo'; see `dsr-deploy {command} --help`\n"
    assert capsys.readouterr().err == wrong


@pytest.mark.parametrize(
    "variables", ["RANK=1", "WORLD_SIZE=", "WORLD_SIZE=1 RANK=7", "WORLD_SIZE=0 RANK=x"]
)
def test_without_a_world_there_is_one_process_whatever_its_rank(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, variables: str
) -> None:
    for variable in variables.split():
        monkeypatch.setenv(*variable.split("="))
    assert cli.run(["train", "--print-config", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == vars(config.resolve())
    assert cli.run(["train", "--lr", "0"]) == 1
    assert capsys.readouterr().err == "error: lr must be 1e-37 to 1e+38, not 0.0\n"


def test_a_bug_is_not_hidden(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dsr_deploy.stages import report

    def fail(run: object) -> Path:
        raise ZeroDivisionError

    sample_run.write(here / "run")
    monkeypatch.setattr(report, "report", fail)
    with pytest.raises(ZeroDivisionError):
        cli.run(["report", "--run", "run"])


def test_an_interrupt_ends_with_a_word(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dsr_deploy.stages import report

    def stop(run: object) -> Path:
        raise KeyboardInterrupt

    sample_run.write(here / "run")
    monkeypatch.setattr(report, "report", stop)
    assert cli.run(["report", "--run", "run"]) == 130
    assert capsys.readouterr().err == "\nerror: stopped\n"


def test_terminal_writes_plain_lines_to_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 40.0, 50.0, 90.0])
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(clock))
    shown = terminal.Terminal()
    with shown.task("work", 8) as task:
        task.advance(1, "soon")
        task.advance(3, "[later]")  # not markup
        task.advance(1)
        task.advance(3, "done")
    shown.note("a line that stays")
    assert capsys.readouterr().err.splitlines() == [
        "work: 4 of 8, 40 s left  [later]",
        "a line that stays",
    ]


def test_terminal_shows_bars_that_go_away(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from rich.console import Console

    screen = io.StringIO()
    shown = terminal.Terminal(Console(file=screen, force_terminal=True, width=120))
    for number in range(2):
        with shown.task("outer", 2) as outer, shown.task("inner", 3) as inner:
            inner.advance(3, "[text]")
            outer.advance()
            shown.note(f"note {number}")
    text = screen.getvalue()
    assert "note 0" in text
    assert "note 1" in text
    assert "outer" in text


def test_a_preset_keeps_its_training_on_other_data() -> None:
    own = config.resolve("cifar10-if-t5")
    other = config.resolve("cifar10-if-t5", dataset="imagefolder", data_dir="pictures")
    # which images may be mirrored or cut is a matter of the data
    expected = {"dataset": "imagefolder", "data_dir": "pictures", "flip": False, "crop": 0.08}
    assert vars(other) == vars(own) | expected
    assert (other.arch, other.batch_size, other.lr) == ("resnet18", 128, 0.05)


def test_schedulers_need_not_say_how_many_processes_a_machine_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (
        ("WORLD_SIZE", "4"), ("RANK", "3"), ("LOCAL_RANK", "1"),
        ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "29500"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    assert this_rank() == Rank(rank=3, world=4, local=1, local_world=2)


def test_data_that_make_no_batch_leave_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    # as many as seven processes would need
    monkeypatch.setattr(sys.modules["dsr_deploy.data.batches"], "MIN_SAMPLES_PER_RANK", 14)
    for part in ("train", "test"):
        for name in ("one", "two"):
            (here / "images" / part / name).mkdir(parents=True)
            Image.new("L", (8, 8)).save(here / "images" / part / name / "0.png")
    before = _left(here)
    line = ["train", "--dataset", "imagefolder", "--data-dir", "images", "--arch", "resnet-tiny"]
    assert cli.run(line) == 1
    assert "needs at least 14 samples" in capsys.readouterr().err
    assert _left(here) == before


@pytest.mark.parametrize("name", COMMANDS)
def test_a_tilde_is_the_home_in_every_command(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    home = here / "home"
    monkeypatch.setenv("HOME", str(home))
    line = [
        name,
        "--run=~/x",
        *(["--data-dir=~/none", "--dataset=cifar10-dvs"] * (name == "train")),
    ]
    monkeypatch.setattr("dsr_deploy.data.events.load_cifar10_dvs", _refuse)
    assert cli.run(line) == 1
    said = capsys.readouterr().err
    place = home / ("none" if name == "train" else "x")
    assert f"error: {place}: " in said
    assert not list(here.rglob("~*"))


def _refuse(directory: Path, *_: object) -> None:
    raise DataError(f"{directory}: refused")


def test_a_folder_whose_name_begins_with_a_tilde_is_a_folder(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["train", "--dataset", "imagefolder", "--data-dir", "~old/pics", "--run", "r"]
    assert cli.run(line) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {here}/~old/pics: there is no such directory; name the data set's with data_dir"
    )


def test_report_of_several_runs_is_a_page_in_the_current_directory(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        sample_run.write(here / name)
    assert cli.run(["simulate", "--run", "a", "--samples", "5"]) == 0
    capsys.readouterr()
    assert cli.run(["report", "a", "b"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Compared 2 runs.\n\n  run  neurons  T  bits  in 32 bits")
    assert "  b lacks simulation; next: dsr-deploy simulate --run b\n" in text
    assert text.endswith(
        "  written to  comparison.html: open it in a browser\n"
        "  beside it   comparison.csv, comparison-rates.png, comparison-rates.svg, "
        "comparison-front.png, comparison-front.svg\n"
    )
    assert (here / "comparison.html").exists()
    assert not (here / "a/reports/report.html").exists()
    assert cli.run(["report", "a", "b", "--output", "c.html", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["report"], found["files"][0]) == ("c.html", "c.csv")
    simulated = json.loads((here / "a/reports/simulate.json").read_text())
    assert found["runs"][0]["synops"] == simulated["synops"]
    assert found["runs"][1]["missing"] == [
        {"stage": "simulation", "command": "dsr-deploy simulate --run b"}
    ]


def test_report_takes_one_run_by_its_name_too(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample_run.write(here / "a")
    assert cli.run(["report", "a"]) == 0
    assert (here / "a/reports/report.html").exists()
    capsys.readouterr()
    for line, message in (
        ("report a b --run a", "--run is for one run; name several without it"),
        ("report a --output c.html", "--output is for several runs; the page of one is in its run"),
    ):
        assert cli.run(line.split()) == 2
        assert capsys.readouterr().err == f"error: {message}; see `dsr-deploy report --help`\n"
    assert cli.run(["report", "a", "b"]) == 1
    assert capsys.readouterr().err == (
        "error: b: no run here; run `dsr-deploy train` first, or name a run with --run DIR\n"
    )


def test_help_says_which_run_a_command_takes(capsys: pytest.CaptureFixture[str]) -> None:
    for command, default in (
        ("train", "a new one in runs/; with --resume runs/latest"),
        ("quantize", "runs/latest, the newest"),
    ):
        assert cli.run([command, "--help"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert f"--run DIR Directory of the run. [default: {default}]" in text
