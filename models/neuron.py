"""IF and LIF neurons as DSR trains them (supplement, Algorithm 1).

::

    v[t] = leak * v[t-1] + gain * I[t]        IF: leak = gain = 1
    s[t] = v[t] >= alpha * Vth                LIF: leak = exp(-dt / tau), gain = 1 - leak
    v[t] = v[t] - Vth * s[t]

The layer emits ``height * s[t]``, height = Vth for IF and Vth / dt for LIF. Its
representation is the mean over time of what it emits, for LIF weighted with
``leak**(T - t)``; as a function of the equally averaged input it is taken to be
``clamp(mean / divisor, 0, height)``, divisor = 1 for IF and tau for LIF (Eqs. 14 and 15).

The height is what is trained, with derivative 1 where the clamp is at its top; Vth follows from it.
For LIF this matters: trained directly, Vth = dt * height would have a gradient 1 / dt times as
large on a value dt times as small, and the paper's learning rate would throw it about (tried
on digits: 15% instead of 99%). The authors' code multiplies that gradient by dt where the
formula divides, which is this very step of height, written as a step of Vth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

NeuronKind = Literal["if", "lif"]


@dataclass(frozen=True)
class Neuron:
    """The constants of the neurons of a network.

    Attributes
    ----------
    kind : ``"if"`` or ``"lif"``
    timesteps : T (N in the paper)
    alpha : a neuron fires at alpha * Vth (Eq. 20)
    v_threshold_min : lower bound of the trained Vth
    tau, dt : time constant and length of a timestep of LIF, in the same unit
    """

    kind: NeuronKind
    timesteps: int
    alpha: float
    v_threshold_min: float
    tau: float = 1.0
    dt: float = 0.05

    def __post_init__(self) -> None:
        if self.kind not in ("if", "lif"):
            raise ValueError(f"neuron {self.kind!r}: choose if or lif")
        if not 1 <= self.timesteps <= 1024:
            raise ValueError(f"timesteps must be 1 to 1024, not {self.timesteps}")
        if not 0 < self.alpha <= 1:
            raise ValueError(f"alpha must be above 0 and at most 1, not {self.alpha}")
        for name in ("v_threshold_min", "tau", "dt"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive and finite, not {value}")

    @property
    def leak(self) -> float:
        return math.exp(-self.dt / self.tau) if self.kind == "lif" else 1.0

    @property
    def gain(self) -> float:
        return 1.0 - self.leak if self.kind == "lif" else 1.0

    @property
    def divisor(self) -> float:
        """What the mean input is divided by to give the representation."""
        return self.tau if self.kind == "lif" else 1.0

    @property
    def height_per_threshold(self) -> float:
        """What a spike carries, in units of Vth."""
        return 1.0 / self.dt if self.kind == "lif" else 1.0

    @property
    def weights(self) -> tuple[float, ...]:
        """Weight of each timestep in a representation, (T,), with sum 1."""
        raw = [self.leak ** (self.timesteps - t) for t in range(1, self.timesteps + 1)]
        return tuple(weight / sum(raw) for weight in raw)
