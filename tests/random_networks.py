"""Integer networks with random weights, whose neurons are neither silent nor always on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dsr_deploy.hardware.geometry import Shape
from dsr_deploy.hardware.network import (
    INPUT,
    Connection,
    Input,
    IntegerNetwork,
    Population,
)


class Builder:
    """Builds a network with random weights, whose neurons spike about every third timestep."""

    def __init__(self, seed: int, shape: Shape, timesteps: int, decay: int, *, framed: bool):
        self.rng = np.random.default_rng(seed)
        self.timesteps, self.decay = timesteps, decay
        ones = (1.0,) * shape[0]
        self.input = Input(shape, (0.0,) * shape[0], ones, 1.0, 1.0, framed=framed)
        self.shapes = {INPUT: shape}
        self.populations: list[Population] = []
        self.connections: list[Connection] = []

    def weight(self, bits: int, *shape: int) -> np.ndarray:
        limit = 2 ** (bits - 1) - 1
        return self.rng.integers(-limit, limit + 1, shape).astype(np.int8)

    def conv(self, source: str, channels: int, kernel: int, **options: int) -> Connection:
        """Return a square convolution that still lacks its target."""
        groups, bits = options.get("groups", 1), options.get("bits", 8)
        stride, padding = options.get("stride", 1), options.get("padding", 0)
        return Connection(
            source, "?", "conv",
            self.weight(bits, channels, self.shapes[source][0] // groups, kernel, kernel),
            bits, options.get("exponent", 0),
            stride=(stride, stride), padding=(padding, padding), groups=groups,
        )  # fmt: skip

    def pool(self, source: str, kernel: int, **options: int) -> Connection:
        stride, padding = options.get("stride", kernel), options.get("padding", 0)
        weight = self.rng.integers(1, 100, self.shapes[source][0]).astype(np.int8)
        return Connection(
            source, "?", "pool", weight, 8, options.get("exponent", 0),
            kernel=(kernel, kernel), stride=(stride, stride), padding=(padding, padding),
        )  # fmt: skip

    def identity(self, source: str, exponent: int = 0) -> Connection:
        return Connection(
            source, "?", "identity", self.weight(8, self.shapes[source][0]), 8, exponent
        )

    def linear(self, source: str, out: int, bits: int = 8, exponent: int = 0) -> Connection:
        fan_in = int(np.prod(self.shapes[source]))
        return Connection(source, "?", "linear", self.weight(bits, out, fan_in), bits, exponent)

    def population(self, name: str, *incoming: Connection) -> str:
        """Add a population of the shape that its connections make; return its name."""
        shape = incoming[0].output_shape(self.shapes[incoming[0].source])
        channels = shape[0]
        spread = max(
            float(np.sqrt((c.weight.reshape(len(c.weight), -1).astype(float) ** 2).sum(1).mean()))
            * 2.0**c.exponent * (64.0 if c.source == INPUT else 0.5)
            for c in incoming
        )  # fmt: skip
        threshold = np.maximum(1, self.rng.uniform(0.5, 2.0, channels) * spread).astype(np.int32)
        fire = np.ceil(threshold * self.rng.uniform(0.4, 1.1, channels)).astype(np.int32)
        bias = (spread * self.rng.uniform(-0.2, 0.4, channels)).astype(np.int32)
        self.populations.append(Population(name, shape, bias, fire, threshold, self.decay))
        self.connections += [replace(c, target=name) for c in incoming]
        self.shapes[name] = shape
        return name

    def network(self) -> IntegerNetwork:
        return IntegerNetwork(
            "random", self.timesteps, self.input, tuple(self.populations),
            tuple(self.connections), tuple(range(1, self.timesteps + 1)),
        )  # fmt: skip

    def payloads(self, samples: int) -> np.ndarray:
        frames = (self.timesteps,) if self.input.framed else ()
        shape = (samples, *frames, *self.input.shape)
        return self.rng.integers(-127, 128, shape).astype(np.int8)


def residual_network(
    seed: int, *, shape: Shape, stages: tuple[int, ...], timesteps: int, decay: int = 0
) -> Builder:
    """A pre-activation ResNet: per stage one block with a 1x1 shortcut and one with identity."""
    build = Builder(seed, shape, timesteps, decay, framed=False)
    x = build.population("stem", build.conv(INPUT, stages[0], 3, padding=1))
    before: tuple[Connection, ...] = ()
    for i, channels in enumerate(stages):
        stride = 1 if i == 0 else 2
        y = build.population(
            f"s{i}.a", build.conv(x, channels, 3, stride=stride, padding=1, bits=4, exponent=4)
        )
        shortcut = build.conv(x, channels, 1, stride=stride, exponent=3)
        z = build.population(f"s{i}.b", build.conv(y, channels, 3, padding=1), shortcut, *before)
        w = build.population(f"s{i}.c", build.conv(z, channels, 3, padding=1, exponent=1))
        x = build.population(
            f"s{i}.d", build.conv(w, channels, 3, padding=1), build.identity(z, exponent=2)
        )
    x = build.population("pool", build.pool(x, build.shapes[x][1]))
    build.population("out", build.linear(x, 10, exponent=1))
    return build


def random_network(seed: int) -> Builder:
    """Every kind of connection, at random sizes."""
    rng = np.random.default_rng(seed)

    def pick(*values: int) -> int:
        return int(rng.choice(values))

    shape = (pick(1, 2, 4), pick(7, 9, 10), pick(8, 9, 11))
    decay = pick(0, 1, 700, 4095)
    build = Builder(seed, shape, pick(1, 3, 5), decay, framed=bool(rng.integers(2)))
    channels = pick(4, 8)
    a = build.population(
        "a", build.conv(INPUT, channels, pick(1, 3), stride=pick(1, 2), padding=pick(0, 1, 2))
    )
    groups = pick(1, 2, channels)
    b = build.population(
        "b", build.conv(a, channels, 3, padding=1, groups=groups, exponent=pick(0, 3), bits=4)
    )
    c = build.population(
        "c",
        build.pool(b, 3, stride=1, padding=1, exponent=pick(0, 2)),
        build.identity(a, exponent=pick(0, 4)),
    )
    d = build.population(
        "d",
        build.conv(c, 6, 3, stride=2, padding=1, exponent=pick(0, 1)),
        build.conv(a, 6, 1, stride=2, exponent=pick(0, 5)),
    )
    e = build.population("e", build.pool(d, 2), build.conv(b, 6, 3, stride=4))
    f = build.population("f", build.linear(e, 16, bits=4, exponent=pick(0, 2)))
    build.population("out", build.linear(f, 5), build.linear(d, 5, exponent=pick(0, 1)))
    return build
