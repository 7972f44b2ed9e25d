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
CARD = ("cuda", 100, 32)
"""Backend, compute capability and threads per warp that are compiled for: a card that adds and
multiplies pairs of floats, where the assembler joins more than it is allowed to."""


@pytest.mark.slow
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

    def compile(self) -> tuple[str, str]:
        """Return the assembly and the disassembled machine code that this launch would run."""
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource
        from triton.runtime.jit import mangle_type

        signature, fixed = {}, {}
        for parameter in self.kernel.params:
            value = self.arguments[parameter.name]
            if parameter.is_constexpr:
                signature[parameter.name], fixed[parameter.name] = "constexpr", value
            else:
                signature[parameter.name] = mangle_type(value)
        compiled = triton.compile(
            ASTSource(self.kernel, signature, fixed),
            target=GPUTarget(*CARD),
            options=self.options,
        )
        return compiled.asm["ptx"], compiled.asm["sass"]


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
WIDE = PER_CHANNEL.double()

PASSES: dict[str, Callable[[], object]] = {
    "moments": lambda: dynamics.moments(CURRENT, LIF),
    "fire": lambda: dynamics.fire(CURRENT, PER_CHANNEL, PER_CHANNEL, SCALAR, LIF),
    "fire_integer": lambda: dynamics.fire_integer(CURRENT, WIDE, WIDE, WIDE, 0.5, torch.ones(9)),
    "expand": lambda: dynamics.expand(PACKED, 3, 4, torch.bfloat16),
    "add_spikes": lambda: dynamics.add_spikes(CURRENT, PACKED, SCALAR),
}
WITH_PRODUCTS = ("moments", "fire")
"""Passes that multiply in float32."""


@pytest.mark.usefixtures("launches")
@pytest.mark.parametrize("name", PASSES)
def test_pass_on_a_gpu_is_a_kernel_that_rounds_every_product(name: str) -> None:
    with pytest.raises(Launch) as launch:
        PASSES[name]()
    assembly, machine_code = launch.value.compile()
    # All that is ever added within the instruction is one register: the zero.
    addends = re.findall(r"\bfma\.rn\.f32\S* .*, (%\w+);", assembly)
    assert len(set(addends)) == (name in WITH_PRODUCTS)
    # The assembler joined no more.
    assert len(re.findall(r"\bFFMA2?\b", machine_code)) == len(addends)
    # No product was left for it to join, and no denormal is taken for zero.
    assert not re.search(r"\bmul\.\S*f32|\.ftz", assembly)


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
