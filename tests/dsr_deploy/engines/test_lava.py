"""Lava's own runtime against the definition, spike for spike."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pipelined_chip import run_scheduled
from random_networks import Builder, random_network, residual_network

from dsr_deploy.engines import lava as lava_engine
from dsr_deploy.engines.lava import LavaError, LavaUnavailableError
from dsr_deploy.formats import loihi
from dsr_deploy.hardware import reference
from dsr_deploy.hardware.errors import PayloadError
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.lava import layout
from dsr_deploy.hardware.network import INPUT
from dsr_deploy.hardware.schedule import schedule

needs_lava = pytest.mark.skipif(
    lava_engine.find_python310() is None,
    reason="no Python 3.10 with lava-nc; `make lava` builds one",
)


def assert_same_spikes(build: Builder, samples: int, least_rate: float = 0.02) -> None:
    network, payloads = build.network(), build.payloads(samples)
    expected = reference.run(network, payloads, record=True)
    got = lava_engine.run_lava(network, payloads)
    assert got.spikes is not None
    assert expected.spikes is not None
    assert list(got.spikes) == list(expected.spikes)
    for name, train in expected.spikes.items():
        np.testing.assert_array_equal(got.spikes[name], train, err_msg=name)
        assert least_rate <= train.mean() < 1.0, name  # a silent network proves nothing
    np.testing.assert_array_equal(got.scores, expected.scores)


@needs_lava
@pytest.mark.parametrize("decay", [0, 1024], ids=["if", "lif"])
def test_a_digits_network_spikes_as_defined(decay: int) -> None:
    assert_same_spikes(
        residual_network(1, shape=(1, 8, 8), stages=(8, 24), timesteps=6, decay=decay), samples=2
    )


@needs_lava
def test_a_random_network_spikes_as_defined() -> None:
    assert_same_spikes(random_network(0), samples=2, least_rate=0.0)


@needs_lava
def test_where_lavas_conv_is_wrong_the_spikes_are_still_as_defined() -> None:
    """128 groups, of which Conv makes zeros, and a sum beyond the 24 bits at which it wraps."""
    build = Builder(3, (2, 4, 4), timesteps=4, decay=0, framed=True)
    a = build.population("a", build.conv(INPUT, 128, 3, padding=1))
    b = build.population("b", build.pool(a, 2), build.conv(a, 128, 2, stride=2, groups=128))
    c = build.population("c", build.conv(b, 16, 2, exponent=10))
    build.population("out", build.linear(c, 3))
    network = build.network()
    for connection in network.connections:
        if connection.name in ("a->b", "b->c"):
            assert not layout.takes_conv(connection, network.shapes[connection.source], (0, 1))
    assert_same_spikes(build, samples=2)


@needs_lava
def test_lava_runs_the_processes_of_the_file_and_no_others() -> None:
    """A shortcut that the file delays by three steps more brings its spikes that much later."""
    build = residual_network(2, shape=(1, 6, 6), stages=(4,), timesteps=5)
    network, payloads = schedule(build.network()), build.payloads(1)
    content = loihi.to_files(network)
    before = b'"process": "Delay", "shape": [4, 6, 6], "steps": 1}'
    assert content["lava.json"].count(before) == 2
    content["lava.json"] = content["lava.json"].replace(before, before.replace(b"1}", b"4}"))
    got = lava_engine.run_files(content, network, payloads)
    later = replace(
        network,
        connections=tuple(replace(c, delay=4 if c.delay else 0) for c in network.connections),
    )
    expected = run_scheduled(later, payloads, record=True)
    aligned = run_scheduled(network, payloads, record=True)
    assert got.spikes is not None
    assert expected.spikes is not None
    assert aligned.spikes is not None
    for name, train in expected.spikes.items():
        np.testing.assert_array_equal(got.spikes[name], train, err_msg=name)
    assert np.any(got.spikes["s0.b"] != aligned.spikes["s0.b"])


@needs_lava
def test_processes_of_another_network_are_refused() -> None:
    network, other = (schedule(random_network(seed).network()) for seed in (0, 1))
    content = loihi.to_files(network) | {"lava.json": loihi.to_files(other)["lava.json"]}
    message = r"/lava\.json: it does not describe the network beside it; export again$"
    with pytest.raises(LavaError, match=message):
        lava_engine.run_files(content, network, random_network(0).payloads(1))


@needs_lava
def test_an_unaligned_network_takes_one_sample_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    build = residual_network(2, shape=(1, 6, 6), stages=(4,), timesteps=5)
    monkeypatch.setattr(loihi, "schedule", lambda network: network)
    message = (
        "lava: synapses 'input->stem.weight': their first spike arrives at step 1, 'stem' starts "
        "at step 0; schedule the network, or run one sample at a time"
    )
    with pytest.raises(LavaError, match=f"^{re.escape(message)}$"):
        lava_engine.run_lava(build.network(), build.payloads(2))


@needs_lava
def test_a_failing_process_ends_the_run_with_its_traceback() -> None:
    build = residual_network(2, shape=(1, 6, 6), stages=(4,), timesteps=5)
    network = build.network()
    loud = [replace(c, exponent=17 if c.name == "s0.a->s0.b" else c.exponent)
            for c in network.connections]  # fmt: skip
    with pytest.raises(LavaError) as failure:
        lava_engine.run_lava(replace(network, connections=tuple(loud)), build.payloads(1))
    reason, log = str(failure.value), failure.value.__notes__[0].splitlines()
    assert re.fullmatch(
        r"lava: population 's0\.b': membrane potential -?\d+ leaves the 24-bit register "
        r"\(-8388608 to 8388607\)",
        reason,
    )
    assert log[0] == "Traceback (most recent call last):"
    assert log[-1] == f"dsr_deploy.hardware.errors.RegisterError: {reason.removeprefix('lava: ')}"


@needs_lava
def test_the_time_limit_ends_the_run() -> None:
    build = residual_network(2, shape=(1, 6, 6), stages=(4,), timesteps=5)
    with pytest.raises(LavaError, match=r"^lava: not done after 0\.5 s; run fewer samples$"):
        lava_engine.run_lava(build.network(), build.payloads(200), time_limit=0.5)


@needs_lava
def test_lava_ends_when_the_program_that_started_it_is_killed(tmp_path: Path) -> None:
    network = residual_network(2, shape=(1, 6, 6), stages=(4,), timesteps=5)
    network_file.write(network.network(), tmp_path / "network")
    np.save(tmp_path / "payloads.npy", network.payloads(5000))
    script = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from dsr_deploy.engines import lava as lava_engine\n"
        "from dsr_deploy.hardware.format import network_file\n"
        "folder = Path(sys.argv[1])\n"
        "network = network_file.read(folder / 'network')\n"
        "lava_engine.run_lava(network, np.load(folder / 'payloads.npy'))\n"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    program = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], env=environment)
    while program.poll() is None and len(runners(tmp_path)) < 5:
        time.sleep(0.05)
    assert program.poll() is None
    program.kill()
    program.wait()
    while runners(tmp_path):
        time.sleep(0.05)


def runners(folder: Path) -> list[str]:
    """Return the numbers of the runner's processes whose files lie in ``folder``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if lava_engine.RUNNER in words and any(str(folder) in word for word in words):
                found.append(process.name)
    return found


@needs_lava
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 26))
def test_more_random_networks_spike_as_defined(seed: int) -> None:
    assert_same_spikes(random_network(seed), samples=3, least_rate=0.0)


@needs_lava
@pytest.mark.slow
def test_a_resnet_on_32x32_images_spikes_as_defined() -> None:
    assert_same_spikes(
        residual_network(5, shape=(3, 32, 32), stages=(16, 32, 64), timesteps=4), samples=1
    )


@pytest.fixture
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing that runs Lava can be found; return an empty folder that stands for the project."""
    monkeypatch.delenv(lava_engine.PYTHON_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(lava_engine, "PROBE", "import sys; print(sys.argv[1][::-1])")
    monkeypatch.setattr("sys.prefix", str(tmp_path / "project" / ".venv"))
    place = tmp_path / "source" / "dsr_deploy" / "engines" / "lava.py"
    monkeypatch.setattr("dsr_deploy.engines.lava.__file__", str(place))
    return tmp_path


def interpreter(path: Path, script: str = "") -> Path:
    """Write a shell script that answers the probe and runs ``script`` for the runner."""
    probed = f'[ "$2" = -c ] && exec {sys.executable} "$@"'
    return program(path, f"{probed}\n{script}")


def program(path: Path, script: str) -> Path:
    """Write a shell script."""
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def small() -> Builder:
    return residual_network(2, shape=(1, 6, 6), stages=(4,), timesteps=2)


def test_without_an_environment_the_error_says_what_to_do(no_environment: Path) -> None:
    message = (
        "lava: no Python 3.10 with lava-nc and dsr-deploy found; run `make lava` in the project's "
        "folder, or set DSR_DEPLOY_LAVA_PYTHON to such an interpreter"
    )
    with pytest.raises(LavaUnavailableError, match=f"^{re.escape(message)}$"):
        lava_engine.run_lava(small().network(), small().payloads(1))


def test_environments_are_found_in_their_order(
    no_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lava_engine.find_python310() is None
    on_path = interpreter(no_environment / "bin" / "python3.10")
    assert lava_engine.find_python310() == on_path
    beside = interpreter(no_environment / "project/.venv-lava/bin/python")
    assert lava_engine.find_python310() == beside
    source = interpreter(no_environment / "source/.venv-lava/bin/python")
    assert lava_engine.find_python310() == source
    named = interpreter(no_environment / "named" / "python")
    monkeypatch.setenv("DSR_DEPLOY_LAVA_PYTHON", str(named))
    assert lava_engine.find_python310() == named


def test_an_interpreter_that_fails_is_passed_over(no_environment: Path) -> None:
    """A pyenv shim stands on the path and fails while its version is not active."""
    program(no_environment / "bin" / "python3.10", "exit 127")
    assert lava_engine.find_python310() is None


@pytest.mark.parametrize(
    "script",
    [
        None,
        "exit 0",
        'echo "$@"',
        "while true; do echo y; done",
        "exec /bin/sleep 100",
        "/bin/sleep 100 &",  # holds standard output open
        "exec /bin/cat",
        f'{sys.executable} "$@"; echo and more',
    ],
)
def test_a_named_interpreter_must_work(
    no_environment: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    interpreter(no_environment / "bin" / "python3.10")
    named = no_environment / "named" / "python"
    if script is not None:
        program(named, script)
    monkeypatch.setenv("DSR_DEPLOY_LAVA_PYTHON", str(named))
    monkeypatch.setattr(lava_engine, "PROBE_SECONDS", 0.5)
    message = (
        f"DSR_DEPLOY_LAVA_PYTHON: {named} is no Python 3.10 with lava-nc and dsr-deploy; "
        "run `make lava` and unset the variable, or name another interpreter"
    )
    with pytest.raises(LavaUnavailableError, match=f"^{re.escape(message)}$"):
        lava_engine.find_python310()


def test_payloads_that_do_not_fit_are_refused_before_lava_starts(no_environment: Path) -> None:
    payloads = np.zeros((1, 1, 6, 5), np.int8)
    message = "input: payloads are int8 of shape (1, 1, 6, 5), not int8 of shape (N, 1, 6, 6)"
    with pytest.raises(PayloadError, match=f"^{re.escape(message)}$"):
        lava_engine.run_lava(small().network(), payloads)


def test_a_runner_that_ends_without_a_word_is_an_error(no_environment: Path) -> None:
    interpreter(no_environment / "bin" / "python3.10", "kill -9 $$")
    with pytest.raises(LavaError, match=r"^lava: the runner ended with -9$"):
        lava_engine.run_lava(small().network(), small().payloads(1))


@pytest.mark.parametrize("script", ["exit 0", "echo garbage > $7; exit 0"])
def test_a_runner_without_a_result_is_an_error(no_environment: Path, script: str) -> None:
    interpreter(no_environment / "bin" / "python3.10", script)
    message = "lava: the runner ended without a result; run `make lava` again"
    with pytest.raises(LavaError, match=f"^{re.escape(message)}$"):
        lava_engine.run_lava(small().network(), small().payloads(1))


def test_the_last_line_of_a_runners_traceback_is_the_reason(no_environment: Path) -> None:
    script = "echo 'Traceback' >&2; echo 'ImportError: no lava' >&2; exit 1"
    interpreter(no_environment / "bin" / "python3.10", script)
    with pytest.raises(LavaError) as failure:
        lava_engine.run_lava(small().network(), small().payloads(1))
    assert str(failure.value) == "lava: ImportError: no lava"
    assert failure.value.__notes__ == ["Traceback\nImportError: no lava"]


def test_a_runner_that_hangs_is_killed(no_environment: Path) -> None:
    interpreter(no_environment / "bin" / "python3.10", "exec /bin/sleep 100")
    with pytest.raises(LavaError, match=r"^lava: not done after 0\.1 s; run fewer samples$"):
        lava_engine.run_lava(small().network(), small().payloads(1), time_limit=0.1)


def test_no_process_outlives_its_runner(no_environment: Path) -> None:
    """A process of Lava's that was just starting is nobody's child and holds every file open."""
    left = no_environment / "left"
    script = f"/bin/sleep 100 & echo $! > {left}; echo lava: a reason >&2; exit 1"
    interpreter(no_environment / "bin" / "python3.10", script)
    with pytest.raises(LavaError, match=r"^lava: a reason$"):
        lava_engine.run_lava(small().network(), small().payloads(1))
    status = Path("/proc", left.read_text().strip(), "stat")
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        pass  # it was sent SIGKILL, which takes it when the kernel next schedules it
