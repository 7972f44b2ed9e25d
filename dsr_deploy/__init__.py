"""Train spiking networks with DSR, and take them to a neuromorphic chip without loss.

::

    import dsr_deploy as dd

    net = dd.train("resnet-tiny", "digits", timesteps=8, epochs=5)
    q = dd.quantize(net, bits=4)
    dd.export(q, "loihi")
    dd.simulate(q)
    dd.verify(q)

Nothing is imported before it is needed: torch takes seconds, and the chip's side runs without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from dsr_deploy.version import __version__ as __version__

if TYPE_CHECKING:
    from dsr_deploy.api.chain import export, load, quantize, report, simulate, verify
    from dsr_deploy.api.training import resume, train
    from dsr_deploy.data.dataset import Dataset
    from dsr_deploy.errors import UserError
    from dsr_deploy.hardware.network import IntegerNetwork
    from dsr_deploy.models.topology import Topology, conv, identity, linear, pool, population
    from dsr_deploy.stages.recording import Recording

__all__ = [
    "Dataset",
    "IntegerNetwork",
    "Recording",
    "Topology",
    "UserError",
    "conv",
    "export",
    "identity",
    "linear",
    "load",
    "pool",
    "population",
    "quantize",
    "report",
    "resume",
    "simulate",
    "train",
    "verify",
]

_HOMES: Final = {
    "Dataset": "dsr_deploy.data.dataset",
    "IntegerNetwork": "dsr_deploy.hardware.network",
    "Recording": "dsr_deploy.stages.recording",
    "UserError": "dsr_deploy.errors",
    **dict.fromkeys(("resume", "train"), "dsr_deploy.api.training"),
    **dict.fromkeys(
        ("Topology", "conv", "identity", "linear", "pool", "population"),
        "dsr_deploy.models.topology",
    ),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "dsr_deploy.api.chain")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
