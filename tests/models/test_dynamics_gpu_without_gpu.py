"""What can be known of the Triton kernels without a GPU: their results and their machine code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dsr_deploy.models import dynamics
from dsr_deploy.models.neuron import Neuron

pytest.importorskip("triton")

CASES = Path(__file__).with_name("test_dynamics_gpu.py")
CARD = ("cuda", 90, 32)
"""Backend, compute capability and threads per warp that are compiled for."""


def test_kernels_give_the_bits_of_numba_and_torch_in_the_interpreter() -> None:
    # In a process of its own: the interpreter is chosen once, when triton is imported.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)],
        cwd=CASES.parents[2],
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ passed in", done.stdout, re.MULTILINE), done.stdout


class Launch(Exception):
    """A kernel's launch, told instead of carried out."""

    def __init__(self, kernel: Any, values: tuple[Any, ...], options: dict[str, Any]) -> None:
        self.kernel, self.options = kernel, options
        names = kernel.arg_names
        self.arguments = dict(zip(names, values, strict=False))
        self.arguments.update({n: self.options.pop(n) for n in names if n in self.options})

    def compile(self, **options: Any) -> str:
        """Return the assembly that this launch would run."""
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource, compile
        from triton.runtime.jit import mangle_type

        signature, fixed = {}, {}
        for parameter in self.kernel.params:
            value = self.arguments[parameter.name]
            if parameter.is_constexpr:
                signature[parameter.name], fixed[parameter.name] = "constexpr", value
            else:
                signature[parameter.name] = mangle_type(value)
        source = ASTSource(self.kernel, signature, fixed)
        compiled = compile(source, target=GPUTarget(*CARD), options={**self.options, **options})
        return str(compiled.asm["ptx"])


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Send the passes of CPU tensors to the kernels too, whose launches raise :class:`Launch`."""
    from triton.runtime.jit import JITFunction

    def run(kernel: Any, *values: Any, grid: Any, warmup: bool, **options: Any) -> None:
        raise Launch(kernel, values, options)

    monkeypatch.setattr(dynamics, "_engine", lambda device: "triton")
    monkeypatch.setattr(JITFunction, "run", run)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


CURRENT, PER_CHANNEL, SCALAR = torch.zeros(9, 2, 3, 3, 16), torch.zeros(16), torch.tensor(1.0)
LIF = Neuron("lif", 9, 0.4, 0.001)
PACKED = torch.zeros((2, 2, 3, 3, 16), dtype=torch.uint8)
HALF, WIDE = CURRENT.bfloat16(), PER_CHANNEL.double()

PASSES: dict[str, Callable[[], object]] = {
    "moments": lambda: dynamics.moments(CURRENT, LIF),
    "moments of bf16": lambda: dynamics.moments(HALF, LIF),
    "fire": lambda: dynamics.fire(CURRENT, PER_CHANNEL, PER_CHANNEL, SCALAR, LIF),
    "fire of bf16": lambda: dynamics.fire(HALF, PER_CHANNEL, PER_CHANNEL, SCALAR, LIF),
    "fire_integer": lambda: dynamics.fire_integer(CURRENT, WIDE, WIDE, WIDE, 0.5, torch.ones(9)),
    "expand": lambda: dynamics.expand(PACKED, 3, 4, torch.bfloat16),
    "add_spikes": lambda: dynamics.add_spikes(CURRENT, PACKED, SCALAR),
}


@pytest.mark.usefixtures("launches")
@pytest.mark.parametrize("name", PASSES)
def test_pass_on_a_gpu_is_a_kernel_that_rounds_every_product_and_sum(name: str) -> None:
    with pytest.raises(Launch) as launch:
        PASSES[name]()
    assembly = launch.value.compile()
    assert ".entry" in assembly
    # What would round a product and a sum together, or take denormals for zero.
    assert not re.findall(r"\bfma\.\S+|\S+\.ftz\S*", assembly)


@pytest.mark.usefixtures("launches")
def test_fire_would_round_once_without_the_launch_option() -> None:
    with pytest.raises(Launch) as launch:
        PASSES["fire"]()
    assert re.search(r"\bfma\.rn\.f32", launch.value.compile(enable_fp_fusion=True))


@pytest.mark.parametrize(
    ("triton", "capability", "engine"),
    [(True, (8, 0), "triton"), (True, (7, 5), "torch"), (False, (9, 0), "torch")],
)
def test_a_gpu_without_triton_runs_torch(
    monkeypatch: pytest.MonkeyPatch, triton: bool, capability: tuple[int, int], engine: str
) -> None:
    monkeypatch.setattr(dynamics, "find_spec", lambda name: object() if triton else None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert dynamics._engine.__wrapped__(torch.device("cuda")) == engine
