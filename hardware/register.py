"""Check membrane potentials against their register, of ``V_BITS`` in network.py."""

from __future__ import annotations

from dsr_deploy.hardware.errors import RegisterError
from dsr_deploy.hardware.network import V_BITS, V_MAX, V_MIN


def check_register(population: str, low: int, high: int, when: str = "") -> None:
    """Check what the membrane potentials of a population reach.

    Parameters
    ----------
    low, high : the smallest and the largest
    when : for the error, such as "timestep 3 of sample 7"

    Raises
    ------
    RegisterError
        If one of them leaves the signed 24-bit register.
    """
    if not V_MIN <= low <= high <= V_MAX:
        at = f" at {when}" if when else ""
        beyond = low if low < V_MIN else high
        raise RegisterError(
            f"population '{population}': membrane potential {beyond}{at} "
            f"leaves the {V_BITS}-bit register ({V_MIN} to {V_MAX})"
        )
