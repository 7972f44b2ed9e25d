"""The command line: parse, call one function, print.

Nothing that takes long to import is imported before a command needs it.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from dsr_deploy import files
from dsr_deploy.console import environment, failures, printing
from dsr_deploy.console.check import check
from dsr_deploy.console.command import Stages
from dsr_deploy.console.interrupt import interruptible
from dsr_deploy.console.options import Directory, common, moved_data, training_options
from dsr_deploy.console.simulate import simulate
from dsr_deploy.engines import ENGINES
from dsr_deploy.errors import UserError
from dsr_deploy.formats import TARGETS
from dsr_deploy.parallel.rank import Rank, this_rank
from dsr_deploy.run import config
from dsr_deploy.run import directory as run_directory
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.text import one_line
from dsr_deploy.version import __version__

STOPPED = 130
"""Exit code after Ctrl-C, as shells give it."""


@click.group(
    cls=Stages,
    invoke_without_command=True,
    epilog="\b\nExample:\n"
    "  dsr-deploy train\n"
    "  dsr-deploy quantize --bits 4\n"
    "  dsr-deploy export --target loihi\n"
    "  dsr-deploy simulate --report sparsity",
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="dsr-deploy")
@click.pass_context
def cli(context: click.Context) -> None:
    """Train a spiking network with DSR and take it to a neuromorphic chip without loss.

    Each command continues where the one before it stopped, in the newest run in ./runs or in the
    run that --run names. Without options, the chain trains a small network on handwritten digits.
    """
    if context.invoked_subcommand is None:
        printing.echo(context.get_help())


@cli.command(
    epilog="\b\n"
    "Example, the paper's CIFAR-10 setting with IF neurons at 20 timesteps:\n"
    "  dsr-deploy train --preset cifar10-if-t20 --data-dir data\n"
    "Several processes:\n"
    "  torchrun --no-python --nproc-per-node 2 -- dsr-deploy train --run runs/two"
)
@click.option(
    "--preset", metavar="NAME",
    help="Settings of the paper, Tables S2 and S3, such as cifar10-if-t20 or cifar100-lif-t5. "
    "Other options override them.",
)  # fmt: skip
@training_options
@click.option("--resume", is_flag=True, help="Continue a stopped run with its own settings.")
@click.option("--print-config", is_flag=True, help="Print every setting and exit.")
@partial(common, default="a new one in runs/; with --resume runs/latest")
def train(
    directory: Path | None,
    as_json: bool,
    preset: str | None,
    resume: bool,
    print_config: bool,
    **chosen: Any,
) -> None:
    """Train a spiking network.

    Reads a data set: digits by default, others with --dataset and --data-dir. Writes a new run
    directory, runs/<name>: config.json, checkpoint/, metrics.jsonl and, where TensorBoard is
    installed, tensorboard/. A training that was stopped continues with --resume.
    """
    from dsr_deploy.console import summaries
    from dsr_deploy.console.terminal import Terminal
    from dsr_deploy.stages.train import train as train_run

    data_dir = None if chosen["data_dir"] is None else str(chosen["data_dir"])
    if resume:
        run = run_directory.find(directory)
        settings = config.read(run.config)
        config.refuse_changes(settings, preset, chosen | {"data_dir": None}, str(run.path))
        settings = replace(settings, data_dir=data_dir or settings.data_dir)
    else:
        settings = config.resolve(preset, **chosen | {"data_dir": data_dir})
    if print_config:
        printing.result(as_json, settings, summaries.configuration(settings))
        return
    terminal = Terminal()
    begun = run_directory.beginning(directory, run_directory.default_name(settings))
    with contextlib.nullcontext(run) if resume else begun as run, _continued(run, chosen):
        train_run(
            settings,
            run,
            resume=resume,
            progress=terminal,
            on_begin=lambda: run_directory.link_latest(run, terminal),
        )
    if this_rank().first:
        result, text = summaries.trained(run, settings)
        printing.result(as_json, result, text)


@contextlib.contextmanager
def _continued(run: RunDirectory, options: Collection[str]) -> Iterator[None]:
    """Name the command that continues a training, where it is stopped or memory runs out."""
    again = f"dsr-deploy train --resume --run {shlex.quote(str(run.path))}"
    try:
        with interruptible():
            yield
    except KeyboardInterrupt:
        if not run.config.exists():
            raise
        raise KeyboardInterrupt(f"stopped; `{again}` continues the training") from None
    except Exception as error:
        if not failures.is_out_of_memory(error) or not run.config.exists():
            raise
        raise UserError(failures.out_of_memory(options, again)) from None


@cli.command(
    epilog="\b\n"
    "Example, rounding to 8 bits without fine-tuning:\n"
    "  dsr-deploy quantize --bits 8 --epochs 0"
)
@click.option("--bits", type=int, default=4, show_default=True,
              help="Bits of a weight, sign included: 2 to 8.")  # fmt: skip
@click.option(
    "--epochs",
    type=int,
    help="Epochs of fine-tuning; 0 only rounds.  [default: the fewer bits, the more epochs]",
)
@click.option("--lr", type=float,
              help="Learning rate, in units of a weight's last bit.  [default: 0.01]")  # fmt: skip
@click.option("--batch-size", type=int, help="Samples per step.  [default: as in training]")
@click.option("--granularity", type=click.Choice(["channel", "layer"]),
              help="One scale per channel or per layer.  [default: channel]")  # fmt: skip
@click.option(
    "--wide-ends", is_flag=True, default=None, help="Keep 8 bits in the first and the last layer."
)
@click.option("--seed", type=int, help="Seed of the order of samples.  [default: 0]")
@click.option("--device", metavar="NAME", help="Where to compute: auto, cpu, cuda or cuda:N.")
@moved_data
@common
def quantize(directory: Path | None, as_json: bool, data_dir: Path | None, **chosen: Any) -> None:
    """Quantize the trained network to integers.

    Reads the run's best checkpoint and its data set. Rounds the weights, fine-tunes them in the
    chip's own arithmetic and writes quantized-<bits>/: network.safetensors, and row.json with the
    accuracies (a row of Table S4).
    """
    from dsr_deploy.console import summaries
    from dsr_deploy.console.terminal import Terminal
    from dsr_deploy.stages.quantize import QuantizeConfig
    from dsr_deploy.stages.quantize import quantize as quantize_run

    given = {name: value for name, value in chosen.items() if value is not None}
    settings = QuantizeConfig(**given)
    run = run_directory.find(directory)
    row = quantize_run(run, settings, data_dir=data_dir, progress=Terminal())
    printing.result(as_json, row, summaries.quantized(run, row))


@cli.command(
    epilog="\b\nExample, the 8-bit network as ONNX:\n  dsr-deploy export --target onnx --bits 8"
)
@click.option("--target", type=click.Choice(TARGETS), default="loihi",
              show_default=True, help="loihi is the integer network; onnx and nir: other formats.",
)  # fmt: skip
@click.option("--chip", metavar="NAME",
              help="Chip for target loihi: loihi1, loihi2, or a YAML file with the limits of your "
              "own.  [default: loihi2]",
)  # fmt: skip
@click.option(
    "--bits", type=int, help="Which quantized network to export.  [default: the last one quantized]"
)
@common
def export(
    directory: Path | None, as_json: bool, target: str, chip: str | None, bits: int | None
) -> None:
    """Write the quantized network for a chip or another tool.

    Reads quantized-<bits>/network.safetensors. Writes export/<target>/: the network's file,
    manifest.json and, for loihi, lava.json with the processes that Lava runs. Checks the network
    against the chip's limits and prints how much of the chip it takes.
    """
    from dsr_deploy.console import summaries
    from dsr_deploy.console.terminal import Terminal
    from dsr_deploy.stages.export import export as export_run

    run = run_directory.find(directory)
    if chip:
        chip = str(files.at_home(chip))
    exported = export_run(run, target, bits, chip, progress=Terminal())
    printing.result(as_json, exported, summaries.exported(run, exported))


cli.add_command(simulate)


@cli.command(
    epilog="\b\n"
    "Example, two engines on 100 samples:\n"
    "  dsr-deploy verify --engines event,reference --samples 100"
)
@click.option("--engines", metavar="NAMES",
              help=f"Engines to compare, separated by commas: {', '.join(ENGINES)}.  "
              "[default: all that are exported and can run here]",
)  # fmt: skip
@click.option("--samples", type=int,
              help="Number of test samples, evenly spread.  [default: 20, or all if fewer]",
)  # fmt: skip
@moved_data
@common
def verify(
    directory: Path | None,
    as_json: bool,
    engines: str | None,
    samples: int | None,
    data_dir: Path | None,
) -> None:
    """Prove that all engines give the same spikes.

    Reads the exported files and the run's data set, and runs the same samples through several
    engines: the quantized torch model, the event-driven simulator, a plain reference and others,
    each on its own file. Prints the first spike that differs, and then exits with 1. Writes no
    file.
    """
    from dsr_deploy.console import summaries
    from dsr_deploy.console.terminal import Terminal
    from dsr_deploy.stages.verify import verify as verify_run

    run = run_directory.find(directory)
    names = None if engines is None else tuple(name.strip() for name in engines.split(","))
    verification = verify_run(run, names, samples, data_dir=data_dir, progress=Terminal())
    printing.result(as_json, verification, summaries.verified(verification))
    if not verification.agreed:
        raise UserError(verification.disagreement)


@cli.command(
    epilog="\b\n"
    "Examples, one run and two:\n"
    "  dsr-deploy report --run runs/digits-resnet-tiny-if-t8\n"
    "  dsr-deploy report runs/if-t4 runs/if-t8 --output if.html"
)
@click.argument("runs", nargs=-1, type=Directory())
@click.option("--output", type=Directory(), metavar="FILE",
              help="Page about several runs; its plots and numbers are written beside it.  "
              "[default: comparison.html]",
)  # fmt: skip
@common
def report(
    directory: Path | None, as_json: bool, runs: tuple[Path, ...], output: Path | None
) -> None:
    """Write one page with all results of a run, or compare several RUNS.

    Of one run, reads the whole run and writes reports/report.html in it. Of several, writes
    comparison.html in the current directory: firing rates per layer, overlaid as in Fig. S1,
    accuracy against synaptic operations, and all numbers side by side; beside it the plots as PNG
    and SVG and the numbers as CSV. A browser opens either page offline.
    """
    from dsr_deploy.console import summaries

    if runs and directory is not None:
        raise click.UsageError("--run is for one run; name several without it")
    if len(runs) > 1:
        from dsr_deploy.stages.compare import OUTPUT, compare

        comparison = compare([run_directory.find(run) for run in runs], output or OUTPUT)
        printing.result(as_json, comparison, summaries.compared(comparison))
        return
    if output is not None:
        raise click.UsageError("--output is for several runs; the page of one is in its run")
    from dsr_deploy.stages.report import report as report_run

    path = report_run(run_directory.find(runs[0] if runs else directory))
    printing.result(as_json, {"report": str(path)}, summaries.reported(path))


cli.add_command(check)


def run(arguments: Sequence[str]) -> int:
    """Run a command line; return its exit code: 0 success, 1 failure, 2 wrong usage.

    Raises
    ------
    Exception
        If the command fails by a bug of our own.
    """
    try:
        try:
            code = cli.main(list(arguments), prog_name="dsr-deploy", standalone_mode=False)
        except OSError as error:  # of click's own texts; a command's are explained in Stage
            printing.lost_output(error)
    except click.exceptions.Exit as end:
        return end.exit_code
    except SystemExit as end:  # click's way out where nobody reads any more
        return end.code if isinstance(end.code, int) else 1
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "dsr-deploy"
        message = " ".join(error.format_message().split()).rstrip(".")
        return _fail(f"{message}; see `{command} --help`", error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        return _fail(str(error.__cause__ or "") or "stopped", STOPPED)  # click's cause is ours
    except Exception as error:
        if not failures.is_ours(error):
            raise
        return _fail(failures.with_notes(error), 1)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    """Print the error, unless another process of this run has printed it."""
    try:
        rank = this_rank()
    except UserError:  # says the message, or a wrong command line matters more
        rank = Rank()
    if rank.world > 1:
        from dsr_deploy.parallel import distributed

        if not distributed.speaks():
            return code
    who = "" if rank.first else f" (process {rank.rank})"
    with contextlib.suppress(OSError):  # nobody hears
        click.echo(f"error{who}: {one_line(message)}", err=True)
    return code


def main() -> None:
    """Run the command line of this process."""
    environment.prepare()
    try:
        code = run(sys.argv[1:])
    except Exception as error:
        code = _fail(failures.report_bug(error), 1)
    sys.exit(code)
