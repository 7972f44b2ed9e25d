"""Energy estimates, worked by hand, and the constants behind them."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources

import numpy as np
import pytest

from dsr_deploy.hardware.energy.constants import (
    CONSTANT_SETS,
    LOIHI2_STATEMENT,
    Constant,
    load_constants,
    parse_constants,
)
from dsr_deploy.hardware.energy.estimate import Energy, count_macs, estimate, estimate_ann
from dsr_deploy.hardware.errors import ProfileError, SimulationError
from dsr_deploy.hardware.event.simulation import Simulation
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.network import (
    INPUT,
    Connection,
    Input,
    IntegerNetwork,
    Population,
)


def neurons(name: str, channels: int, size: int, decay: int = 0) -> Population:
    return Population(
        name,
        (channels, size, size),
        bias=np.zeros(channels, np.int32),
        v_fire=np.ones(channels, np.int32),
        v_threshold=np.ones(channels, np.int32),
        decay=decay,
    )


@pytest.fixture
def network() -> IntegerNetwork:
    """A convolution of 4 to 4 pixels, then a linear layer; every neuron fires when it can."""
    return IntegerNetwork(
        name="example",
        timesteps=2,
        input=Input((1, 2, 2), (0.0,), (1.0,), 1.0, 1.0),
        populations=(neurons("hidden", 2, 2), neurons("out", 3, 1, decay=1)),
        connections=(
            Connection(INPUT, "hidden", "conv", np.ones((2, 1, 3, 3), np.int8), 8, padding=(1, 1)),
            Connection("hidden", "out", "linear", np.ones((3, 8), np.int8), 4),
        ),
        readout=(1, 1),
    )


@pytest.fixture
def simulation(network) -> Simulation:
    # One pixel is on in each of two samples. It reaches all four pixels in two channels.
    payloads = np.zeros((2, 1, 2, 2), np.int8)
    payloads[:, 0, 0, 0] = 5
    return Simulator(network).run(payloads)


def test_terms_worked_by_hand_with_memory(network, simulation):
    found = estimate(simulation, network, load_constants("45nm-horowitz2014"))
    rows = {row.name: row.energy for row in found.rows}
    assert list(rows) == ["input->hidden", "hidden", "hidden->out", "out"]
    # 2 timesteps: 8 synops each; 8 spikes to 3 neurons each; 8 and 3 updates, 8 and 3 spikes.
    pico, bit = 1e-12, 0.3125e-12
    assert rows["input->hidden"].synapse == pytest.approx(16 * 0.23 * pico)
    assert rows["input->hidden"].memory == pytest.approx(16 * (8 + 64) * bit)
    assert rows["hidden->out"].synapse == pytest.approx(48 * 0.1 * pico)
    assert rows["hidden->out"].memory == pytest.approx(48 * (4 + 64) * bit)
    assert rows["hidden"].neuron == pytest.approx((16 * 0.2 + 16 * 0.1) * pico)
    assert rows["out"].neuron == pytest.approx((6 * 3.3 + 6 * 0.1) * pico)
    assert rows["out"].memory == pytest.approx(6 * 48 * bit)
    assert found.energy.traffic is None
    assert found.operations == 64
    assert found.energy.total == pytest.approx(sum(e.total for e in rows.values()))


def test_terms_worked_by_hand_with_traffic(network, simulation):
    found = estimate(simulation, network, load_constants("loihi1-sanafe"))
    energy = found.energy
    assert energy.synapse == pytest.approx((16 * 24.0 + 48 * 35.5) * 1e-12)
    assert energy.neuron == pytest.approx((22 * 72.8 + 22 * 69.3) * 1e-12)
    assert energy.traffic == pytest.approx((2 + 16) * 111.0 * 1e-12)
    assert energy.memory is None


@pytest.mark.parametrize(
    ("geometry", "messages"),
    [
        # 4x4 pixels, all of which fire, in 2 channels
        ({"kind": "conv", "window": 1, "stride": 2}, 2 * 4),
        ({"kind": "conv", "window": 1, "stride": 3}, 2 * 4),
        ({"kind": "conv", "window": 2, "stride": 3}, 2 * 4),  # one window fits
        ({"kind": "conv", "window": 3, "stride": 2}, 2 * 9),  # one window fits
        ({"kind": "conv", "window": 3, "stride": 2, "padding": 1}, 2 * 16),
        ({"kind": "conv", "window": 1, "stride": 2, "padding": 1}, 2 * 4),  # pixels 1 and 3
        ({"kind": "pool", "window": 3, "stride": 3}, 2 * 9),
        ({"kind": "pool", "window": 2, "stride": 2}, 2 * 16),
        ({"kind": "pool", "window": 1, "stride": 3}, 2 * 4),
    ],
)
def test_a_spike_sends_no_message_where_its_neuron_has_no_target(geometry, messages):
    window, stride, padding = (geometry.get(k, 0) for k in ("window", "stride", "padding"))
    pair = {"stride": (stride, stride), "padding": (padding, padding)}
    if geometry["kind"] == "conv":
        weight = np.ones((2, 2, window, window), np.int8)
        second = Connection("hidden", "small", "conv", weight, 8, **pair)
    else:
        weight = np.ones(2, np.int8)
        second = Connection("hidden", "small", "pool", weight, 8, kernel=(window,) * 2, **pair)
    small = second.output_shape((2, 4, 4))
    found = estimate_of_ones(second, small)
    assert found["hidden->small"].traffic == pytest.approx(messages * 111.0e-12)


def test_a_pixel_without_a_target_enters_without_a_message():
    first = Connection(INPUT, "hidden", "conv", np.ones((2, 1, 1, 1), np.int8), 8, stride=(2, 2))
    net = IntegerNetwork(
        name="strided",
        timesteps=3,
        input=Input((1, 3, 3), (0.0,), (1.0,), 1.0, 1.0),
        populations=(neurons("hidden", 2, 2), neurons("out", 1, 1)),
        connections=(first, Connection("hidden", "out", "linear", np.ones((1, 8), np.int8), 8)),
        readout=(1, 1, 1),
    )
    counted = Simulator(net).run(np.ones((2, 1, 3, 3), np.int8))
    assert counted.input_events == 2 * 3 * 9
    assert counted.connections[0].events == 2 * 3 * 4
    found = estimate(counted, net, load_constants("loihi1-davies2018"))
    assert found.rows[0].energy.traffic == pytest.approx(3 * 4 * 1.7e-12)


def estimate_of_ones(second: Connection, shape: tuple[int, int, int]) -> dict[str, Energy]:
    """Estimate one timestep in which all of 2x4x4 hidden neurons fire into ``second``."""
    channels, height, _ = shape
    net = IntegerNetwork(
        name="ones",
        timesteps=1,
        input=Input((2, 4, 4), (0.0,) * 2, (1.0,) * 2, 1.0, 1.0),
        populations=(
            replace(neurons("hidden", 2, 4), bias=np.ones(2, np.int32)),
            neurons("small", channels, height),
            neurons("out", 1, 1),
        ),
        connections=(
            Connection(INPUT, "hidden", "identity", np.zeros(2, np.int8), 8),
            second,
            Connection("small", "out", "linear", np.ones((1, int(np.prod(shape))), np.int8), 8),
        ),
        readout=(1,),
    )
    counted = Simulator(net).run(np.zeros((1, 2, 4, 4), np.int8))
    assert counted.populations["hidden"].spikes.sum() == 32
    found = estimate(counted, net, load_constants("loihi1-sanafe"))
    return {row.name: row.energy for row in found.rows}


def test_the_published_order_of_magnitude_is_met(network, simulation):
    # 0.94 G synaptic operations at 23.6 pJ are 22 mJ.
    found = estimate(simulation, network, load_constants("loihi1-davies2018")).energy
    assert 0.94e9 * found.synapse / 64 == pytest.approx(22.2e-3, rel=0.01)


def test_the_conventional_network_worked_by_hand(network):
    found = estimate_ann(network, load_constants("45nm-horowitz2014"))
    macs = 2 * 4 * 9 + 8 * 3
    assert found.operations == macs
    assert found.network == "example, conventional 8 bits"
    assert found.energy.synapse == pytest.approx(macs * 0.23e-12)
    assert found.energy.memory == pytest.approx((macs * 80 + (8 + 3) * 8) * 0.3125e-12)


def test_multiply_accumulates_are_those_of_a_dense_evaluation():
    def macs(kind, shape, target, **geometry):
        connection = Connection("a", "b", kind, np.ones(shape, np.int8), 8, **geometry)
        return count_macs(connection, target)

    assert macs("conv", (4, 2, 3, 3), neurons("b", 4, 5), groups=2) == 4 * 25 * 2 * 9
    assert macs("pool", (4,), neurons("b", 4, 5), kernel=(2, 3)) == 4 * 25 * 6
    assert macs("identity", (4,), neurons("b", 4, 5)) == 4 * 25
    assert macs("linear", (4, 7), neurons("b", 4, 1)) == 28


def test_a_set_without_multiply_accumulate_cannot_say_what_a_conventional_network_needs(network):
    with pytest.raises(ProfileError) as refused:
        estimate_ann(network, load_constants("loihi1-sanafe"))
    assert str(refused.value) == (
        "energy constants 'loihi1-sanafe' have no multiply-accumulate; "
        "a conventional network needs a set that has one, like '45nm-horowitz2014'"
    )


def test_no_sample_gives_no_estimate(network):
    empty = Simulator(network).run(np.zeros((0, 1, 2, 2), np.int8))
    with pytest.raises(SimulationError) as refused:
        estimate(empty, network, load_constants("loihi1-sanafe"))
    assert str(refused.value) == ("energy: the simulation has no sample; simulate at least one")


def test_a_simulation_of_another_network_is_refused(network, simulation):
    other = replace(
        network,
        populations=(network.populations[0], replace(network.populations[1], name="last")),
        connections=(network.connections[0], replace(network.connections[1], target="last")),
    )
    with pytest.raises(
        SimulationError, match=r"^energy: the simulation is not of network 'example'$"
    ):
        estimate(simulation, other, load_constants("loihi1-sanafe"))


@pytest.mark.parametrize("name", CONSTANT_SETS)
def test_every_set_loads_and_names_its_source(name):
    constants = load_constants(name)
    assert constants.name == name
    assert constants.source
    assert constants.notes
    assert constants.static_power == "excluded"


def test_every_file_is_a_set():
    names = [file.name for file in resources.files("dsr_deploy.hardware.energy").iterdir()]
    assert sorted(name for name in names if name.endswith(".yaml")) == sorted(
        f"{name}.yaml" for name in CONSTANT_SETS
    )


def test_davies_table_is_called_pre_silicon():
    assert "pre-silicon" in load_constants("loihi1-davies2018").title


def test_loihi_2_is_not_estimated():
    assert LOIHI2_STATEMENT.startswith("Loihi 2: no energy per operation has been published")
    with pytest.raises(ProfileError) as refused:
        load_constants("loihi2")
    assert str(refused.value) == (
        "energy constants 'loihi2': choose one of loihi1-davies2018, loihi1-sanafe, "
        "45nm-horowitz2014"
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("spike: {pj: 69.3", "spike: {pj: -1", "spike: pj must be a number of at least 0, not -1"),
        (
            "spike: {pj: 69.3",
            "spike: {pj: .nan",
            "spike: pj must be a number of at least 0, not nan",
        ),
        ("pj: 35.5", "pj: much", "synapse linear: pj must be a number of at least 0, not 'much'"),
        (
            "certainty: assumed",
            "certainty: sure",
            "payload_synapse: certainty 'sure': choose one of primary, secondary, unchecked, "
            "assumed",
        ),
        ("spike: {pj", "spike: {pJ", "spike: field 'pj' is missing"),
        ("ann_mac: null", "", "field 'ann_mac' is missing"),
        ("ann_mac: null", "ann_mac: null\nx: 1", "unknown field 'x'"),
        (
            "mesh_width: 8",
            "mesh_width: 0",
            "hop: mesh_width must be a whole number, 1 to 65536, not 0",
        ),
        (
            "cores_per_tile: 4",
            "cores_per_tile: 4.0",
            "hop: cores_per_tile must be a whole number, 1 to 65536, not 4.0",
        ),
        (
            "north_south: {pj: 4.2",
            "north_south: {pj: -1",
            "hop: north_south: pj must be a number of at least 0, not -1",
        ),
        ("hop:", "hop: []\nwest:", "unknown field 'west'"),
        (
            "{ns: 3.8,",
            "{ns: slow,",
            "times: synapse linear: ns must be a number of at least 0, not 'slow'",
        ),
        ("  barrier: {ns: 600.0, certainty: primary}", "", "times: field 'barrier' is missing"),
        (
            "times:\n  notes:",
            "times:\n  notes:\n    - 3",
            "times: a note must be a printable line of at most 1000 characters, not 3",
        ),
        ("synapse:\n  conv", "synapse:\n  lstm", "synapse: field 'conv' is missing"),
        (
            "static_power: excluded",
            "static_power: 3",
            "static_power must be a printable line of at most 1000 characters, not 3",
        ),
    ],
)
def test_a_wrong_set_is_refused(old, new, message):
    file = resources.files("dsr_deploy.hardware.energy") / "loihi1-sanafe.yaml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(ProfileError) as refused:
        parse_constants("mine", text.replace(old, new, 1))
    assert str(refused.value).removeprefix("energy constants 'mine'").lstrip(": ") == message


@pytest.mark.parametrize("text", ["[1, 2", "- 1", "notes: {"])
def test_malformed_yaml_is_refused_in_one_line(text):
    with pytest.raises(ProfileError, match=r"^energy constants 'mine': ") as refused:
        parse_constants("mine", text)
    assert "\n" not in str(refused.value)


def test_notes_are_texts():
    file = resources.files("dsr_deploy.hardware.energy") / "loihi1-sanafe.yaml"
    text = file.read_text(encoding="utf-8").replace("notes:", "notes:\n  - 3", 1)
    with pytest.raises(
        ProfileError, match=r"^energy constants 'mine': a note must be a printable line of "
    ):
        parse_constants("mine", text)


def test_a_constant_is_not_a_truth_value():
    with pytest.raises(ProfileError, match=r"^pj must be a number of at least 0, not True$"):
        Constant(True, "primary")
