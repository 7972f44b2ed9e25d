"""What can go wrong with a network on a chip, a class for each subject.

The text of every error is one line: the place, the value there, what is allowed, the way out.
"""

from __future__ import annotations


class HardwareError(ValueError):
    """Base of all errors of this package."""


class NetworkError(HardwareError):
    """An integer network, or the file of one, is not what it must be."""


class RegisterError(HardwareError):
    """A sum or a membrane potential leaves its register, or may do so."""


class PayloadError(HardwareError):
    """Payloads do not have the type or shape of a network's input."""


class SimulationError(HardwareError):
    """A simulation has no sample, or is not of the network that it is read with."""


class ProfileError(HardwareError):
    """A profile, of a chip or of its energies, is unknown, malformed or lacks what is needed."""


class ChipError(HardwareError):
    """A chip cannot do what a network needs."""


class PlanError(HardwareError):
    """A plan of Lava processes, or the file of one, is not what it must be."""


class JsonError(HardwareError):
    """A JSON text is malformed, or one of its fields is; readers of files say in which file."""
