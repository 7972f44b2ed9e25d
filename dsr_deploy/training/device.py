"""Which device a network is trained on, and in which arithmetic."""

from __future__ import annotations

import torch

from dsr_deploy.errors import UserError
from dsr_deploy.models import int8_convolution
from dsr_deploy.models.currents import Precision
from dsr_deploy.run.config import PrecisionName


def resolve_device(name: str) -> torch.device:
    """Return the device called ``name``; "auto" is a GPU where there is one.

    Raises
    ------
    UserError
        If it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device {name!r}: choose one of auto, cpu, cuda, cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {name!r}: choose one of auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device {name!r}: {torch.cuda.device_count()} GPUs are visible; use the device cpu"
        )
    if device.type == "cuda":  # where torch's own default rounds float32 to 10 bits
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return device


def resolve_precision(name: PrecisionName, device: torch.device) -> Precision:
    """Return the arithmetic of the forward convolutions on ``device``.

    "auto" is bf16 on a GPU that has it, 16-bit weights summed exactly on a CPU with VNNI, and fp32
    elsewhere.

    Raises
    ------
    UserError
        If the device cannot compute so.
    """
    cuda = device.type == "cuda"
    if name == "fixed16" and (cuda or not int8_convolution.is_exact()):
        raise UserError(
            f"precision 'fixed16': {'a GPU' if cuda else 'this processor'} has no convolution of "
            "bytes here; use fp32 or bf16"
        )
    if name != "auto":
        return name
    if cuda:
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "fixed16" if int8_convolution.is_fast() else "fp32"
