"""How the equations of a NIR file become steps of time: NIR leaves it to each framework.

NIR's neurons are in continuous time, without a timestep, and their reset is the reader's choice.
Each framework that writes such files has its own arithmetic; :data:`CONVENTIONS` has them, with
the place in its code. A file does not name its framework; :func:`recognise` tells it from the
numbers that each one writes, and says why.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from dsr_deploy.errors import UserError
from dsr_deploy.foreign.network import Float64, ForeignNetwork, Neurons

NORSE_1_1_DT: Final = 1e-6
"""Seconds that stand for a timestep of 1 ms in files of Norse 1.1.0.

Its export_nir.py:37 writes dt / tau_mem_inv for tau, 0.001 times the time constant.
"""

Leak = Literal["euler", "exponential"]
Current = Literal["scaled", "added"]
Reset = Literal["subtract", "zero"]


@dataclass(frozen=True)
class Arithmetic:
    """One step of time of a neuron::

        keep = 1 - dt / tau (euler) or exp(-dt / tau) (exponential); IF: 1
        gain = r * dt / tau (scaled; IF: r * dt) or r (added; if_added for IF)
        i = keep_syn * i + w_in * dt / tau_syn * x         (CubaLIF; others: i = x)
        u = v_leak + keep * (v - v_leak) + gain * i  - v_threshold * s[t-1] if late
        s = u >= v_threshold, or u > v_threshold; many: trunc(u / v_threshold), at least 0
        v = u - v_threshold * s (subtract), or v_reset where s (zero); late: u

    Attributes
    ----------
    exporter : the framework
    dt : seconds per timestep
    leak, current : as above
    strict : whether a neuron fires only above v_threshold, not at it
    reset : zero means to v_reset, which is 0 in most files
    late : whether v_threshold is subtracted at the next step, after the leak
    many : whether a neuron may fire several times in one timestep
    if_added : whether a current counts r times in neurons without a leak
    """

    exporter: str
    dt: float
    leak: Leak = "euler"
    current: Current = "scaled"
    strict: bool = True
    reset: Reset = "zero"
    late: bool = False
    many: bool = False
    if_added: bool = False

    def __post_init__(self) -> None:
        if not (np.isfinite(self.dt) and self.dt > 0):
            raise UserError(f"dt must be a positive number of seconds, not {self.dt:g}")

    def keep(self, tau: Float64 | None) -> Float64:
        """Return the share of a potential that one timestep leaves."""
        if tau is None:
            return np.ones(())
        with np.errstate(over="ignore"):  # a tiny tau keeps -inf, which is no share
            return 1 - self.dt / tau if self.leak == "euler" else np.exp(-self.dt / tau)

    def gain(self, node: Neurons) -> Float64:
        """Return what a current is multiplied by before it is added to the potential."""
        if node.tau is None:
            return node.r if self.if_added else node.r * self.dt
        if self.current == "added":
            return node.r
        with np.errstate(over="ignore", invalid="ignore"):
            # r = tau / dt makes a current count as it is, for an infinite tau too
            scaled = np.where(np.isinf(node.tau) & np.isinf(node.r), 1, node.r * self.dt / node.tau)
        return np.asarray(scaled, np.float64)

    def __str__(self) -> str:
        dt = "tau in timesteps" if self.dt == 1 else f"dt {self.dt:.6g} s"
        leak = "1 - dt / tau" if self.leak == "euler" else "exp(-dt / tau)"
        gain = "r" if self.current == "added" else "r dt / tau"
        fires = "above" if self.strict else "at or above"
        reset = "subtracts v_threshold" if self.reset == "subtract" else "sets v to v_reset"
        when = " at the next timestep" if self.late and self.reset == "subtract" else ""
        times = "several times" if self.many else "once"
        return (
            f"read as {self.exporter} computes: {dt}, v keeps {leak}, a current counts {gain} "
            f"times; a neuron fires {fires} v_threshold, {times} in a timestep at most; a spike "
            f"{reset}{when}"
        )


CONVENTIONS: Final = {
    # snntorch 1.0.0: export_nir.py:68-82 (dt, r = tau / dt), _neurons/leaky.py:209 and 238-243
    # (the last step's reset, after the leak), surrogate.py:81 (input_ > 0)
    "snntorch": Arithmetic("snnTorch", 1e-4, reset="subtract", late=True),
    # norse 1.1.0: torch/functional/lif_box.py:95-101, iaf.py:93-97 (a current counts as it is),
    # heaviside.py:20 (above), torch/utils/export_nir.py (r = 1), dt of its modules: 0.001
    "norse": Arithmetic("Norse", 1e-3, if_added=True),
    # sinabs 3.1.3: nir.py:156-171 (r = 1), layers/lif.py:121 (exp(-1 / tau), tau in timesteps),
    # activation/spike_generation.py:39 (MultiSpike) and reset_mechanism.py:45
    "sinabs": Arithmetic(
        "Sinabs", 1.0, "exponential", "added", False, "subtract", many=True, if_added=True
    ),
    # rockpool: nn/modules/torch/nir.py:_extract_rockpool_module (r = tau exp(-dt / tau) / dt),
    # lif_neuron_torch.py: StepPWL (floor(x + 1), at least 0), dt 1 ms
    "rockpool": Arithmetic("Rockpool", 1e-3, "exponential", "scaled", False, "subtract", many=True),
    # spikingjelly 2.0.0: activation_based/nir_exchange/to_nir.py:186-207 (dt, r, resets to
    # v_reset alone), neuron/lif.py:91-94, surrogate.py:26 (x >= 0)
    "spikingjelly": Arithmetic("spikingjelly", 1e-4, strict=False),
    # The equations of NIR's own definition, in steps of Euler
    "nir": Arithmetic("NIR", 1e-4),
}
"""The arithmetic of each framework, by its name in lower case."""


def named(name: str) -> Arithmetic:
    """Return the arithmetic of a framework.

    Raises
    ------
    UserError
        If the name is not one of :data:`CONVENTIONS`.
    """
    if name not in CONVENTIONS:
        raise UserError(f"framework {name!r}: choose one of {', '.join(CONVENTIONS)}")
    return CONVENTIONS[name]


def recognise(network: ForeignNetwork, framework: str | None = None) -> tuple[Arithmetic, str]:
    """Return the arithmetic of a network, and what it was told from.

    Parameters
    ----------
    framework : the name of one of :data:`CONVENTIONS`; None tells it from the numbers, and takes
        NIR's own equations where no framework writes such numbers

    Raises
    ------
    UserError
        If there is no such framework.
    """
    name, reason = framework, "as chosen"
    if name is None:
        name, reason = _told(network)
    arithmetic = named(name)
    if arithmetic.exporter == "Rockpool":
        dts = [rockpool_dt(n) for n in network.neurons().values() if n.tau is not None]
        arithmetic = replace(arithmetic, dt=dts[0]) if dts else arithmetic
    if arithmetic.exporter == "Norse":
        taus = [float(n.tau.min()) for n in network.neurons().values() if n.tau is not None]
        if taus and NORSE_1_1_DT < min(taus) <= arithmetic.dt:  # nothing of v would stay
            arithmetic = replace(arithmetic, dt=NORSE_1_1_DT)
            reason += "; tau a thousandth of what it is, as Norse 1.1.0 writes it"
    return arithmetic, reason


def _told(network: ForeignNetwork) -> tuple[str, str]:
    for key, node in network.neurons().items():
        if (evidence := _evidence(node)) is not None:
            return evidence[0], f"node '{key}': {evidence[1]}"
    return "nir", "no known framework writes such numbers"


def rockpool_dt(node: Neurons) -> float:
    """Return the dt in seconds that Rockpool wrote into r = tau exp(-dt / tau) / dt.

    Where no dt gives this r, it is Rockpool's own default.
    """
    assert node.tau is not None
    r, tau = float(node.r.flat[0]), float(node.tau.flat[0])
    if not (0.01 < r < 1e9 and tau < np.inf):
        return CONVENTIONS["rockpool"].dt
    ratio, x = 1 / r, 0.0
    for _ in range(50):  # Newton: x exp(x) = 1 / r
        x -= (x * np.exp(x) - ratio) / (np.exp(x) * (1 + x))
    return float(x * tau)


def _evidence(node: Neurons) -> tuple[str, str] | None:
    """Return the framework that may have written these neurons, and why; None if none did."""
    one_for_all = node.r.ndim == 0
    if node.type == "IF":
        if _near(node.r, 1 / CONVENTIONS["spikingjelly"].dt):
            return ("spikingjelly", "IF with r = 1 / 0.0001")
        if _near(node.r, 1):
            assert node.v_threshold is not None
            if node.v_threshold.ndim == 0:
                return ("norse", "IF with r = 1, one v_threshold for all")
            return ("sinabs", "IF with r = 1, v_threshold of each neuron")
        return None
    if node.tau is None:
        return None
    if _near(node.r * 1e-4, node.tau):
        if one_for_all:
            return ("snntorch", f"{node.type} with r = tau / 0.0001, one for all")
        return ("spikingjelly", f"{node.type} with r = tau / 0.0001 of each neuron")
    if _near(node.r, 1):
        if node.tau.min() >= 1:
            return ("sinabs", f"{node.type} with r = 1, tau in timesteps")
        if one_for_all:
            return ("norse", f"{node.type} with r = 1, tau in seconds")
        return ("spikingjelly", f"{node.type} with r = 1 of each neuron, tau in seconds")
    dt = rockpool_dt(node) if node.r.min() > 1 else 0.0
    if dt and any(_near(np.array(dt), nice) for nice in (1e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)):
        return ("rockpool", f"{node.type} with r = tau exp(-dt / tau) / dt for a dt of {dt:.3g}")
    return None


def _near(values: Float64, wanted: Float64 | float) -> bool:
    with np.errstate(invalid="ignore"):
        return bool(np.allclose(values, wanted, rtol=1e-4, atol=0))
