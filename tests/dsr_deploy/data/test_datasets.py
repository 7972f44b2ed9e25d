"""The data sets by name: complete, and light enough for a help text."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from dsr_deploy.data import sets
from dsr_deploy.data.datasets import DATASETS
from dsr_deploy.data.source import Source
from dsr_deploy.errors import UserError
from dsr_deploy.models.architectures import ARCHITECTURES
from dsr_deploy.run.config import from_dict, presets, resolve


def test_every_module_of_data_sets_is_listed() -> None:
    (folder,) = map(Path, sets.__path__)
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    found = {
        value.name
        for module in modules
        for value in vars(import_module(f"{sets.__name__}.{module}")).values()
        if isinstance(value, Source)
    }
    assert found == set(DATASETS)


def test_a_data_set_is_listed_by_its_own_name_and_trains_a_network_that_is_there() -> None:
    for name, source in DATASETS.items():
        assert source.name == name
        assert source.training.arch in ARCHITECTURES
        assert resolve(dataset=name).timesteps == source.timesteps


def test_only_data_sets_of_the_paper_have_presets() -> None:
    assert {name.rsplit("-", 2)[0] for name in presets()} == {
        "cifar10", "cifar100", "imagenet", "cifar10-dvs"
    }  # fmt: skip
    assert len(presets()) == 3 * 2 * 4 + 2


def test_a_list_of_data_sets_takes_neither_torch_nor_readers() -> None:
    script = (
        "import sys\n"
        "import dsr_deploy.data.datasets\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'sklearn', 'numba'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_configuration_on_unknown_data_is_refused() -> None:
    values = dataclasses.asdict(resolve()) | {"dataset": "emoji"}
    with pytest.raises(UserError) as error:
        from_dict(values)
    assert str(error.value) == f"dataset 'emoji': choose one of {', '.join(DATASETS)}"
