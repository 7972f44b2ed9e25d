"""The plan of Lava's processes and its file; no Lava needed."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsr_deploy.hardware.errors import PlanError, RegisterError
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.lava import plan_file
from dsr_deploy.hardware.lava.plan import Delay, Plan, Source, Spiking, Synapses, Wire, make_plan
from dsr_deploy.hardware.lava.plan_check import check_alignment, check_plan
from dsr_deploy.hardware.network import Connection, Input, IntegerNetwork, Population
from dsr_deploy.hardware.schedule import schedule

Content = dict[str, Any]


def network(*, seed: int = 0, timesteps: int = 3, framed: bool = False) -> IntegerNetwork:
    """Return a convolution, a second one with a shortcut of three kinds beside it, and classes."""
    rng = np.random.default_rng(seed)

    def population(name: str, channels: int, size: int) -> Population:
        bias, v_fire, v_threshold = rng.integers(1, 9, (3, channels)).astype(np.int32)
        return Population(name, (channels, size, size), bias, v_fire, v_threshold, decay=seed)

    def weight(*shape: int) -> np.ndarray:
        return rng.integers(-7, 8, shape).astype(np.int8)

    connections = (
        Connection("input", "a", "conv", weight(2, 1, 3, 3), 4, padding=(1, 1)),
        Connection("a", "b", "conv", weight(2, 2, 3, 3), 4, 1, padding=(1, 1)),
        Connection("a", "b", "identity", weight(2), 8, 2),
        Connection("a", "c", "pool", weight(2), 8, kernel=(2, 2), stride=(2, 2)),
        Connection("b", "c", "conv", weight(2, 1, 2, 2), 4, stride=(2, 2), groups=2),
        Connection("c", "out", "linear", weight(3, 8), 4, 5),
    )
    populations = (
        population("a", 2, 4), population("b", 2, 4), population("c", 2, 2),
        population("out", 3, 1),
    )  # fmt: skip
    source = Input((1, 4, 4), (0.0,), (1.0,), 1.0, 1.0, framed=framed)
    readout = tuple(range(timesteps))
    return schedule(
        IntegerNetwork("plan", timesteps, source, populations, connections, readout)
    )  # fmt: skip


def digest(made: IntegerNetwork) -> str:
    return hashlib.sha256(network_file.to_bytes(made)).hexdigest()


def plan(made: IntegerNetwork | None = None) -> Plan:
    made = network() if made is None else made
    return make_plan(made, digest(made))


def test_a_plan_written_by_hand() -> None:
    def spiking(name: str, shape: tuple[int, int, int], start: int) -> Spiking:
        vectors = (f"{name}.bias", f"{name}.v_fire", f"{name}.v_threshold")
        return Spiking(name, shape, *vectors, decay=0, start=start, timesteps=3)

    def synapses(name: str, *fields: Any, **more: Any) -> Synapses:
        usual = {
            "weight": name, "exponent": 0, "shape": (2, 4, 4), "kernel": (1, 1), "stride": (1, 1),
            "padding": (0, 0), "groups": 1, "message_bits": 1,
        }  # fmt: skip
        return Synapses(name, *fields, **(usual | more))

    made = plan()
    assert made.processes == (
        Source("input", (1, 4, 4), 3),
        spiking("a", (2, 4, 4), 1),
        spiking("b", (2, 4, 4), 2),
        spiking("c", (2, 2, 2), 3),
        spiking("out", (3, 1, 1), 4),
        synapses(
            "input->a.weight", "Conv", "conv", shape=(1, 4, 4), padding=(1, 1), message_bits=8
        ),
        synapses("a->b.weight", "Conv", "conv", exponent=1, padding=(1, 1)),
        synapses("a->b.weight.1", "Sparse", "identity", exponent=2),
        Delay("a->c.weight/delay", (2, 4, 4), 1),
        synapses("a->c.weight", "Conv", "pool", kernel=(2, 2), stride=(2, 2)),
        synapses("b->c.weight", "Conv", "conv", stride=(2, 2), groups=2),
        synapses("c->out.weight", "Dense", "linear", exponent=5, shape=(2, 2, 2)),
    )
    ways = (
        ("input", "input->a.weight", "a"),
        ("a", "a->b.weight", "b"),
        ("a", "a->b.weight.1", "b"),
        ("a", "a->c.weight/delay", "a->c.weight", "c"),
        ("b", "b->c.weight", "c"),
        ("c", "c->out.weight", "out"),
    )
    assert made.wires == tuple(Wire(*ends) for way in ways for ends in itertools.pairwise(way))
    assert made.steps(samples=2) == 4 + 2 * 3


def test_each_frame_of_framed_samples_is_sent_once() -> None:
    assert plan(network(framed=True)).processes[0] == Source("input", (1, 4, 4), 1)


def test_a_sum_that_no_process_holds_is_refused() -> None:
    made = network()
    loud = replace(made.connections[3], weight=np.full(2, 127, np.int8), exponent=22, kernel=(2, 2))
    wrong = replace(made, connections=(*made.connections[:3], loud, *made.connections[4:]))
    message = (  # 4 * 127 * 2**22
        "connection 'a->c': sums up to 2130706432, Lava holds up to 1073741823; "
        "give it a smaller exponent"
    )
    with pytest.raises(RegisterError, match=f"^{re.escape(message)}$"):
        plan(wrong)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 4095), timesteps=st.integers(1, 9), framed=st.booleans())
def test_a_plan_is_read_as_it_was_written(seed: int, timesteps: int, framed: bool) -> None:
    made = network(seed=seed, timesteps=timesteps, framed=framed)
    data = plan_file.to_bytes(plan(made))
    found = plan_file.from_bytes(data, "lava.json")
    assert found == plan(made)
    assert plan_file.to_bytes(found) == data
    check_plan(found, made, digest(made), "lava.json")
    check_alignment(found)


def test_names_of_the_greatest_length_are_read() -> None:
    made = network()
    name = "n" * 200
    populations = (replace(made.populations[0], name=name), *made.populations[1:])
    connections = tuple(
        replace(c, source=name if c.source == "a" else c.source,
                target=name if c.target == "a" else c.target)
        for c in made.connections
    )  # fmt: skip
    made = replace(made, populations=populations, connections=connections)
    assert plan_file.from_bytes(plan_file.to_bytes(plan(made)), "lava.json") == plan(made)


def process(content: Content, name: str) -> Content:
    found: Content = next(p for p in content["processes"] if p["name"] == name)
    return found


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda c: c.update(format="x"),
            "format must be 'dsr-deploy lava processes', not 'x'",
        ),
        (lambda c: c.update(version=2), "format version must be 1, not 2"),
        (lambda c: c.pop("wires"), "plan: field 'wires' is missing"),
        (lambda c: c.update(more=1), 'plan: unknown field "more"'),
        (
            lambda c: c["processes"][0].update(process="Reward"),
            "process 0: process 'Reward': choose one of Source, Spiking, Delay, Conv, Dense, "
            "Sparse",
        ),
        (
            lambda c: process(c, "a").update(start=1.5),
            "process 1: field 'start' is 1.5, not a whole number within 53 bits",
        ),
        (
            lambda c: c.update(network="0" * 64),
            "it does not describe the network beside it",
        ),
        (lambda c: c["processes"].append(c["processes"][0]), "process 'input': two have that name"),
        (
            lambda c: process(c, "b").update(shape=[2, 4, 5]),
            "its sources and populations are not those of the network beside it",
        ),
        (
            lambda c: c["processes"].pop(4),
            "its sources and populations are not those of the network beside it",
        ),
        (
            lambda c: process(c, "a").update(decay=4096),
            "process 'a': decay must be 0 to 4095, not 4096",
        ),
        (
            lambda c: process(c, "a").update(start=-1),
            "process 'a': start must be 0 to 65536, not -1",
        ),
        (
            lambda c: process(c, "a").update(timesteps=4),
            "process 'a': timesteps must be 3, not 4",
        ),
        (
            lambda c: process(c, "a").update(bias="out.bias"),
            "process 'a': there is no tensor 'out.bias' of its channels",
        ),
        (
            lambda c: process(c, "input").update(repeat=1),
            "process 'input': repeat must be 3, not 1",
        ),
        (
            lambda c: process(c, "a->c.weight/delay").update(steps=0),
            "process 'a->c.weight/delay': steps must be 1 to 65536, not 0",
        ),
        (
            lambda c: process(c, "a->b.weight").update(message_bits=0),
            "process 'a->b.weight': message_bits must be 1 to 24, not 0",
        ),
        (
            lambda c: process(c, "a->b.weight").update(process="Dense"),
            "process 'a->b.weight': kind 'conv' is none of a Dense",
        ),
        (
            lambda c: process(c, "a->b.weight").update(weight="b->a.weight"),
            "process 'a->b.weight': there is no tensor 'b->a.weight'",
        ),
        (
            lambda c: process(c, "a->b.weight").update(exponent=24),
            "process 'a->b.weight': exponent must be 0 to 23, not 24",
        ),
        (
            lambda c: process(c, "b->c.weight").update(shape=[3, 4, 4]),
            "process 'b->c.weight': weight of shape (2, 1, 2, 2) in 2 groups for a source of 3 "
            "channels",
        ),
        (
            lambda c: process(c, "a->b.weight").update(padding=[0, 0]),
            "wire from 'a->b.weight' to 'b': 2x2x2 to 2x4x4",
        ),
        (
            lambda c: c["wires"].append({"from": "a", "to": "z"}),
            "wire from 'a' to 'z': there is no such process",
        ),
        (
            lambda c: c["wires"].append({"from": "a", "to": "b"}),
            "wire from 'a' to 'b': a Spiking cannot feed a Spiking",
        ),
        (
            lambda c: c["wires"].append({"from": "b", "to": "a->b.weight"}),
            "process 'a->b.weight': 2 wires lead to it",
        ),
        (lambda c: c["wires"].pop(), "process 'out': 0 wires lead to it"),
    ],
)
def test_what_no_processes_can_be_built_from_is_refused(
    edit: Callable[[Content], object], message: str
) -> None:
    made = network()
    content = json.loads(plan_file.to_bytes(plan(made)))
    edit(content)
    data = json.dumps(content).encode()
    message = f"there/lava.json: {message}; export again"
    with pytest.raises(PlanError, match=f"^{re.escape(message)}$"):
        check_plan(
            plan_file.from_bytes(data, "there/lava.json"), made, digest(made), "there/lava.json"
        )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[:-20], "plan: malformed JSON"),
        (
            lambda data: data.replace(b"plan", b"pl\xffn").replace(b"conv", b"\xff"),
            r"plan: malformed JSON \(byte \d+ is not UTF-8\)",
        ),
        (lambda data: b"[]", "plan: a JSON list of 0 is not a JSON object"),
    ],
    ids=["truncated", "corrupted", "other"],
)
def test_a_damaged_file_is_refused(spoil: Callable[[bytes], bytes], message: str) -> None:
    with pytest.raises(PlanError, match=f"^lava.json: {message}.*; export again$"):
        plan_file.from_bytes(spoil(plan_file.to_bytes(plan())), "lava.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p: replace(p, steps=3) if isinstance(p, Delay) else p,
            "synapses 'a->c.weight': their first spike arrives at step 5, 'c' starts at step 3; "
            "schedule the network, or run one sample at a time",
        ),
        (
            lambda p: replace(p, start=7) if p.name == "out" else p,
            "synapses 'c->out.weight': their first spike arrives at step 4, 'out' starts at step "
            "7; schedule the network, or run one sample at a time",
        ),
    ],
    ids=["delay", "start"],
)
def test_a_plan_that_is_not_aligned_is_refused_for_several_samples(
    change: Callable[[Any], Any], message: str
) -> None:
    aligned = plan()
    check_alignment(aligned)
    with pytest.raises(PlanError, match=f"^{re.escape(message)}$"):
        check_alignment(replace(aligned, processes=tuple(map(change, aligned.processes))))
