"""Random integer networks and payloads for the property tests of every engine.

``integer_networks()`` is a hypothesis strategy of small valid networks: a random acyclic graph of
convolutions (groups, strides, padding), linear layers, pools and identities, with shortcuts of
other exponents, IF and LIF neurons, constant and framed inputs. The graph is drawn by hypothesis
and shrinks; the numbers come from a seed that hypothesis draws, because arrays drawn element by
element are slow. ``payloads_for(network)`` draws what such a network is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from dsr_deploy.hardware.geometry import Kind, Pair, Shape
from dsr_deploy.hardware.network import (
    INPUT,
    V_MAX,
    Connection,
    Input,
    IntegerNetwork,
    Population,
)

Int32 = NDArray[np.int32]
Draw = Callable[[st.SearchStrategy[Any]], Any]

ALL_KINDS: tuple[Kind, ...] = ("conv", "linear", "pool", "identity")
EXTREME_FIRE = (-(2**31), -1, 0, 1, V_MAX, V_MAX + 1, 2**31 - 1)


@st.composite
def integer_networks(
    draw: Draw,
    *,
    in_range: bool = True,
    framed: bool | None = None,
    kinds: Sequence[Kind] = ALL_KINDS,
    lif: bool = True,
) -> IntegerNetwork:
    """Draw a network of 1 to 5 populations, at most 6 x 6 x 6 each, of 1 to 5 timesteps.

    Parameters
    ----------
    in_range : if True no payloads whatever make a membrane potential leave 24 bits (exponents and
        weights are cut down until that is certain); if False exponents reach 23 and
        ``v_threshold`` 2**31 - 1, and many runs are refused
    framed : draw only networks whose input is framed, or is not; None for both
    kinds : of connections, besides the last one, which is always linear
    lif : whether LIF neurons may occur besides IF
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    timesteps = draw(st.integers(1, 5))
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    shapes: dict[str, Shape] = {INPUT: shape}
    populations: list[Population] = []
    connections: list[Connection] = []
    hidden = draw(st.integers(0, 4))
    for i in range(hidden + 1):
        name = f"layer{i}"
        allowed = kinds if i < hidden else ("linear",)
        incoming = [_first_connection(draw, rng, shapes, name, allowed)]
        made = incoming[0].output_shape(shapes[incoming[0].source])
        for source in draw(st.lists(st.sampled_from(sorted(shapes)), max_size=2)):
            shortcut = _shortcut(draw, rng, source, shapes[source], name, made, kinds)
            incoming += [shortcut] if shortcut else []
        decay = draw(st.sampled_from([0, 1, 409, 2048, 4095])) if lif else 0
        population, incoming = _population(
            rng, name, made, decay, incoming, timesteps, in_range=in_range
        )
        populations.append(population)
        connections += incoming
        shapes[name] = made
    return IntegerNetwork(
        name="random",
        timesteps=timesteps,
        input=Input(
            shape=shape,
            mean=(0.5,) * shape[0],
            std=(0.25,) * shape[0],
            pixel_scale=1 / 255,
            step=1 / 32,
            low=-128,
            high=127,
            framed=draw(st.booleans()) if framed is None else framed,
        ),
        populations=tuple(populations),
        connections=tuple(connections),
        readout=tuple(draw(st.lists(st.integers(-9, 9), min_size=timesteps, max_size=timesteps))),
        classes=draw(st.sampled_from([(), tuple(f"class {c}" for c in range(made[0]))])),
    )


@st.composite
def payloads_for(draw: Draw, network: IntegerNetwork, *, max_samples: int = 4) -> NDArray[np.int8]:
    """Draw int8 payloads of 1 to ``max_samples`` samples that ``network`` takes: sparse to full."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frames = (network.timesteps,) if network.input.framed else ()
    shape = (draw(st.integers(1, max_samples)), *frames, *network.input.shape)
    payloads = rng.integers(-128, 128, shape)
    payloads[rng.random(shape) > draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))] = 0
    payloads[rng.random(shape) < 0.1] = draw(st.sampled_from([-128, 1, 127]))
    return payloads.astype(np.int8)


def _first_connection(
    draw: Draw,
    rng: np.random.Generator,
    shapes: dict[str, Shape],
    target: str,
    kinds: Sequence[Kind],
) -> Connection:
    """Draw the connection that gives the target its shape; from the newest source most often."""
    names = list(shapes)
    source = draw(st.sampled_from([names[-1], *names]))
    channels, height, width = shapes[source]
    kind = draw(st.sampled_from(list(kinds)))
    outputs = draw(st.integers(1, 5))
    if kind in ("linear", "identity"):
        return _connection(draw, rng, source, shapes[source], target, kind, outputs)
    padding = (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
    window = (
        draw(st.integers(1, min(4, height + 2 * padding[0]))),
        draw(st.integers(1, min(4, width + 2 * padding[1]))),
    )
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    groups = 1
    if kind == "conv":
        groups = draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))
        outputs = groups * draw(st.integers(1, max(1, 6 // groups)))
    return _connection(
        draw, rng, source, shapes[source], target, kind, outputs, window, stride, padding, groups
    )


def _shortcut(
    draw: Draw,
    rng: np.random.Generator,
    source: str,
    shape: Shape,
    target: str,
    made: Shape,
    kinds: Sequence[Kind],
) -> Connection | None:
    """Draw a further connection that fits a target of shape ``made``; None if there is none."""
    fitting: list[tuple[Kind, Pair, Pair, Pair]] = []
    one, none = (1, 1), (0, 0)
    if shape == made:
        fitting.append(("identity", one, one, none))
    if made[1:] == (1, 1):
        fitting.append(("linear", one, one, none))
    sizes = [(w, s, p) for w in (1, 2, 3) for s in (1, 2) for p in (0, 1)]
    for (h, sy, py), (w, sx, px) in [(a, b) for a in sizes for b in sizes]:
        fit = shape[1] + 2 * py >= h and shape[2] + 2 * px >= w
        size = ((shape[1] + 2 * py - h) // sy + 1, (shape[2] + 2 * px - w) // sx + 1)
        if fit and size == made[1:]:
            fitting.append(("conv", (h, w), (sy, sx), (py, px)))
            if shape[0] == made[0]:
                fitting.append(("pool", (h, w), (sy, sx), (py, px)))
    fitting = [option for option in fitting if option[0] in kinds]
    if not fitting:
        return None
    kind, window, stride, padding = draw(st.sampled_from(fitting))
    return _connection(draw, rng, source, shape, target, kind, made[0], window, stride, padding)


def _connection(
    draw: Draw,
    rng: np.random.Generator,
    source: str,
    source_shape: Shape,
    target: str,
    kind: Kind,
    outputs: int,
    window: Pair = (1, 1),
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    groups: int = 1,
) -> Connection:
    """Draw weights (dense, sparse, or all extreme), their bits and an exponent."""
    channels, height, width = source_shape
    shape: tuple[int, ...] = {
        "conv": (outputs, channels // groups, *window),
        "linear": (outputs, channels * height * width),
    }.get(kind, (channels,))
    bits = draw(st.integers(2, 8))
    limit = (1 << (bits - 1)) - 1
    weight = rng.integers(-limit, limit + 1, shape)
    style = draw(st.sampled_from(["dense", "sparse", "extreme"]))
    if style == "sparse":
        weight *= rng.random(shape) < 0.3
    elif style == "extreme":
        weight = limit * rng.choice([-1, 1, 1], shape)
    return Connection(
        source=source,
        target=target,
        kind=kind,
        weight=weight.astype(np.int8),
        weight_bits=bits,
        exponent=draw(st.sampled_from([0, 0, 1, 3, 6, 23])),
        kernel=window if kind == "pool" else (1, 1),
        stride=stride,
        padding=padding,
        groups=groups,
    )


def _population(
    rng: np.random.Generator,
    name: str,
    shape: Shape,
    decay: int,
    incoming: list[Connection],
    timesteps: int,
    *,
    in_range: bool,
) -> tuple[Population, list[Connection]]:
    """Choose thresholds near the currents that arrive, or at an extreme, and keep to the register.

    With ``in_range``, |v| grows by at most |bias| + |current| + v_threshold at each timestep:
    a quarter of the register for the bias, a quarter for the threshold, half for the current.
    """
    budget = V_MAX // timesteps
    if in_range:
        incoming = [_cut_down(c, budget // (2 * len(incoming))) for c in incoming]
    scale = min(1 + sum(_largest_current(c) for c in incoming) // 8, budget // 4)
    channels = shape[0]
    v_fire = rng.integers(-scale // 8, scale + 1, channels)
    extreme = rng.random(channels) < 0.15
    v_fire[extreme] = rng.choice(EXTREME_FIRE, channels)[extreme]
    v_threshold = rng.integers(1, scale + 1, channels)
    if not in_range:
        v_threshold[rng.random(channels) < 0.1] = 2**31 - 1
    population = Population(
        name=name,
        shape=shape,
        bias=rng.integers(-scale // 4, scale // 2 + 1, channels).astype(np.int32),
        v_fire=v_fire.astype(np.int32),
        v_threshold=v_threshold.astype(np.int32),
        decay=decay,
    )
    return population, incoming


def _largest_current(connection: Connection) -> int:
    """Bound what a connection can add at one timestep."""
    wide = np.abs(connection.weight.astype(np.int64))
    per_channel = wide.reshape(len(wide), -1).sum(1).max() * np.prod(connection.kernel)
    payload = 128 if connection.source == INPUT else 1
    return int(per_channel * payload) << connection.exponent


def _cut_down(connection: Connection, limit: int) -> Connection:
    """Lower the exponent, then the weights, until the current keeps to ``limit``."""
    while _largest_current(connection) > limit:
        lower: dict[str, Any] = (
            {"exponent": connection.exponent - 1}
            if connection.exponent
            else {"weight": (connection.weight.astype(np.float64) / 2).astype(np.int8)}
        )
        connection = replace(connection, **lower)
    return connection
