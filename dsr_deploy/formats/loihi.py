"""Export the integer network for Lava/Loihi-style process models.

``network.safetensors`` (docs/network-format.md) holds the graph, scheduled in time; the simulator
and the verifier read it. ``lava.json`` (docs/lava.md) holds the processes that the Lava runner
builds from it.
"""

from __future__ import annotations

import hashlib
from typing import Final

from dsr_deploy.formats.target import Target
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.lava import plan_file
from dsr_deploy.hardware.lava.plan import make_plan
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.hardware.schedule import schedule

NETWORK_FILE: Final = "network.safetensors"
PLAN_FILE: Final = "lava.json"


def to_files(network: IntegerNetwork) -> dict[str, bytes]:
    """Return both files of ``network``, which is scheduled first, by name.

    Raises
    ------
    NetworkError
        If the file format cannot hold the network.
    RegisterError
        If no process of Lava's can hold a connection's sum.
    """
    scheduled = schedule(network)
    data = network_file.to_bytes(scheduled)
    plan = make_plan(scheduled, hashlib.sha256(data).hexdigest())
    return {NETWORK_FILE: data, PLAN_FILE: plan_file.to_bytes(plan)}


TARGET: Final = Target(NETWORK_FILE, to_files, for_chip=True)
