"""The training engine against the same network unrolled in time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import unrolled
from torch import Tensor

from dsr_deploy.models.architectures import ARCHITECTURES, topology
from dsr_deploy.models.batchnorm import TimeBatchNorm
from dsr_deploy.models.dynamics import moments
from dsr_deploy.models.network import Activity, SpikingNetwork
from dsr_deploy.models.neuron import Neuron
from dsr_deploy.models.signals import Spikes, drop
from dsr_deploy.models.topology import (
    INPUT,
    ConnectionSpec,
    PopulationSpec,
    Topology,
    TopologyError,
    conv,
    pool,
)

IF = Neuron("if", 5, 0.5, 0.01)
LIF = Neuron("lif", 5, 0.5, 0.001, dt=0.1)
LIF_LONG = Neuron("lif", 20, 0.3, 0.0005, dt=0.05)  # its last timestep weighs 2.6 times its first
NEURONS = pytest.mark.parametrize("neuron", [IF, LIF], ids=["if", "lif"])


def gradients(network: SpikingNetwork, output: Tensor, labels: Tensor) -> dict[str, Tensor]:
    network.zero_grad()
    F.cross_entropy(output, labels).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def cosine(a: Tensor, b: Tensor) -> float:
    return F.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0).item()


def compare(
    network: SpikingNetwork, pixels: Tensor, labels: Tensor, *, training: bool = True
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the engine's and the oracle's gradients, after comparing every spike."""
    network.train(training)
    activity = Activity()
    torch.manual_seed(1)  # of the masks of dropout
    output = network(pixels, activity, record=True)
    found = gradients(network, output, labels)
    torch.manual_seed(1)
    expected_output, trains = unrolled.forward(network, pixels)
    expected = gradients(network, expected_output, labels)
    for name, train in trains.items():
        assert torch.equal(activity.spikes[name], (train > 0).transpose(0, 1)), name
        assert activity.rates[name] > 0, f"{name} is silent: the comparison shows nothing"
    assert torch.allclose(output, expected_output, rtol=1e-5, atol=1e-6)
    return found, expected


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor], least: float) -> None:
    """Compare gradients: directions of weights, values of all others."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if value.ndim > 1:
            assert cosine(found[key], value) >= least, key
        else:
            assert (found[key] - value).norm() <= 0.01 * value.norm(), key


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Compare gradients up to float32's rounding; a height's is a sum whose terms cancel."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert (found[key] - value).norm() <= 1e-5 * value.norm() + 1e-6 * (value.ndim == 0), key


def single(*connections: ConnectionSpec, norm: bool, shape: tuple[int, int, int]) -> Topology:
    """Return a network of one hidden population and a linear output without BatchNorm."""
    first = PopulationSpec("first", (conv(INPUT, shape[0]),), norm=False)
    hidden = PopulationSpec("hidden", connections, norm=norm)
    output = PopulationSpec("output", (ConnectionSpec("hidden", "linear", 3),), norm=False)
    return Topology("single", shape, (first, hidden, output))


EXACT = {
    "conv": (conv("first", 6),),
    "strided conv": (conv("first", 6, stride=2),),
    "pool": (ConnectionSpec("first", "pool", kernel=2, stride=2),),
    "oblong conv": (conv("first", 6, kernel=(1, 4), stride=(2, 1)),),
    "grouped conv": (conv("first", 6, groups=2), conv("first", 6, kernel=1, groups=2)),
    "depthwise conv": (conv("first", 8, kernel=(3, 2), stride=(1, 2), groups=4),),
    "oblong pool": (pool("first", (2, 3), stride=(1, 3), padding=(1, 0)),),
    "linear": (ConnectionSpec("first", "linear", 7),),
    "residual add": (conv("first", 4), ConnectionSpec("first", "identity")),
    "two convolutions": (conv("first", 6, stride=2), conv("first", 6, kernel=1, stride=2)),
}


@NEURONS
@pytest.mark.parametrize("name", EXACT)
def test_gradients_without_batchnorm_are_exact(name: str, neuron: Neuron) -> None:
    torch.manual_seed(3)
    shape = (4, 6, 6)
    network = SpikingNetwork(single(*EXACT[name], norm=False, shape=shape), neuron, 0.5)
    pixels, labels = torch.randn(8, *shape), torch.randint(0, 3, (8,))
    if neuron.kind == "lif":
        network = SpikingNetwork(single(*EXACT[name], norm=False, shape=shape), neuron, 0.1)
        pixels = pixels * 2
    found, expected = compare(network, pixels, labels)
    assert_equal(found, expected)


@NEURONS
def test_frames_in_time_give_the_unrolled_gradients(neuron: Neuron) -> None:
    torch.manual_seed(4)
    shape = (4, 6, 6)
    threshold = 0.5 if neuron.kind == "if" else 0.02
    network = SpikingNetwork(single(conv("first", 5), norm=False, shape=shape), neuron, threshold)
    pixels, labels = torch.randn(8, 5, *shape) * 2, torch.randint(0, 3, (8,))
    network.members()[-1].weights["0"].data.abs_()  # so that the output fires
    found, expected = compare(network, pixels, labels)
    assert_equal(found, expected)


@pytest.mark.parametrize("neuron", [IF, LIF, LIF_LONG], ids=["if", "lif", "lif, T = 20"])
def test_gradients_through_batchnorm_and_a_residual_block(neuron: Neuron) -> None:
    torch.manual_seed(0)
    net = topology("resnet-tiny", (3, 12, 12), 10)
    network = SpikingNetwork(net, neuron, 2.0 / neuron.height_per_threshold)
    network.to(memory_format=torch.channels_last)
    found, expected = compare(network, torch.randn(16, 3, 12, 12), torch.randint(0, 10, (16,)))
    assert_near(found, expected, 0.998)
    assert sum(value.ndim == 0 and bool(value) for value in expected.values()) >= 5  # heights


def moving_events(samples: int, timesteps: int, size: int) -> Tensor:
    """Return frames of a blob of events that crosses each sample, (N, T, 2, size, size)."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    start, speed = torch.rand(samples, 1, 2) * size, (torch.rand(samples, 1, 2) - 0.5) * size / 5
    y, x = ((start + speed * torch.arange(timesteps)[:, None]) % size)[..., None, None].unbind(2)
    rate = 2 * torch.exp(-((rows - y).square() + (columns - x).square()) / size)
    events = torch.poisson(rate[:, :, None].expand(-1, -1, 2, -1, -1))
    return (events - events.mean()) / events.std()


LIF_STEEP = Neuron("lif", 5, 0.5, 0.001, dt=0.5)  # its last timestep weighs 7 times its first


@pytest.mark.parametrize("dropout", [0.0, 0.25], ids=["", "dropout"])
@pytest.mark.parametrize(
    "neuron", [Neuron("if", 20, 0.5, 0.01), LIF_LONG, LIF_STEEP], ids=["if", "lif", "lif, steep"]
)
def test_gradients_through_batchnorm_of_frames_in_time(neuron: Neuron, dropout: float) -> None:
    torch.manual_seed(1)  # with 0, the mean of a dropped and pooled neuron is its Vth exactly
    pool = ConnectionSpec("first", "pool", kernel=2, stride=2)
    net = Topology(
        "events",
        (2, 12, 12),
        (
            PopulationSpec("first", (conv(INPUT, 8),), dropout=dropout),
            PopulationSpec("pooled", (pool,), norm=False, dropout=dropout),
            PopulationSpec("second", (conv("pooled", 8),), dropout=dropout),
            PopulationSpec("output", (ConnectionSpec("second", "linear", 10),)),
        ),
    )
    network = SpikingNetwork(net, neuron, 1.0 / neuron.height_per_threshold)
    pixels, labels = moving_events(8, neuron.timesteps, 12), torch.randint(0, 10, (8,))
    found, expected = compare(network, pixels, labels)
    assert_near(found, expected, 0.99)
    first = "populations.0.weights.0"
    assert cosine(found[first], expected[first]) >= 0.9995


@NEURONS
def test_gradients_with_running_statistics_are_exact(neuron: Neuron) -> None:
    torch.manual_seed(0)
    net = topology("resnet-tiny", (3, 12, 12), 10)
    network = SpikingNetwork(net, neuron, 2.0 / neuron.height_per_threshold)
    network.to(memory_format=torch.channels_last)
    pixels, labels = torch.randn(16, 3, 12, 12), torch.randint(0, 10, (16,))
    for _ in range(30):  # the running statistics come near those of the batch
        network(pixels)
    found, expected = compare(network, pixels, labels, training=False)
    assert_equal(found, expected)


@NEURONS
def test_gradients_of_preact_resnet18(neuron: Neuron) -> None:
    torch.manual_seed(0)
    net = topology("resnet18", (3, 32, 32), 10)
    network = SpikingNetwork(net, neuron, 2.0 / neuron.height_per_threshold)
    network.to(memory_format=torch.channels_last)
    found, expected = compare(network, torch.randn(4, 3, 32, 32), torch.randint(0, 10, (4,)))
    worst = {key: cosine(found[key], value) for key, value in expected.items() if value.ndim > 1}
    assert min(worst.values()) >= 0.995, worst


def test_dropout_has_one_mask_for_all_timesteps() -> None:
    torch.manual_seed(0)
    packed = torch.full((1, 64, 4, 4, 8), 0b11111, dtype=torch.uint8)
    mean = torch.full((64, 8, 4, 4), 2.0)
    spikes = drop(Spikes(packed, torch.tensor(2.0), mean, mean), 0.25)
    steps = spikes.height * spikes.steps(0, 5, torch.float32).unflatten(0, (5, 64))
    assert torch.equal(steps[0], steps[4])
    assert torch.allclose(steps[0], spikes.representation)
    assert steps.unique().tolist() == pytest.approx([0.0, 2.0 / 0.75])
    assert abs(steps.mean().item() - 2.0) < 0.1


def test_running_statistics_follow_those_of_the_batches() -> None:
    torch.manual_seed(0)
    norm = TimeBatchNorm(3)
    current = torch.randn(5, 8, 4, 4, 3) * 3 + 2
    _, total, square = moments(current, IF)
    for _ in range(200):
        stats = norm.batch_statistics(total, square, current.numel() // 3)
    wide = current.double()
    assert torch.allclose(norm.running_mean.double(), wide.mean((0, 1, 2, 3)), atol=1e-5)
    assert torch.allclose(norm.running_variance.double(), wide.var((0, 1, 2, 3)), rtol=1e-5)
    running = norm.running_statistics()
    assert torch.allclose(running.mean, stats.mean, atol=1e-5)
    assert torch.allclose(running.inverse_std, stats.inverse_std, rtol=1e-2)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_has_a_spiking_layer_after_every_operation(arch: str) -> None:
    size = 48 if arch == "vgg11" else 32
    net = topology(arch, (3, size, size), 10)
    assert net.shapes()["output"] == (10, 1, 1)
    for population in net.populations:
        kinds = [connection.kind for connection in population.connections]
        if "pool" in kinds:  # neurons of its own, with nothing added before them
            assert kinds == ["pool"]
            assert not population.norm
        else:
            assert population.norm
        # A shortcut carries spikes: pixels enter through one convolution alone.
        sources = [connection.source for connection in population.connections]
        assert INPUT not in sources or kinds == ["conv"]


def test_sizes_of_the_papers_networks() -> None:
    def neurons(arch: str) -> int:
        shapes = topology(arch, (3, 32, 32), 10).shapes()
        return sum(c * h * w for name, (c, h, w) in shapes.items() if name != INPUT)

    def weights(arch: str) -> int:
        network = SpikingNetwork(topology(arch, (3, 32, 32), 10), IF)
        return sum(p.numel() for p in network.parameters() if p.ndim > 1)

    assert neurons("resnet18") == 557_578
    assert weights("resnet18") == 11_164_352
    depth = {"resnet20": 20, "resnet32": 32, "resnet44": 44, "resnet56": 56, "resnet110": 110}
    for arch, layers in depth.items():
        convolutions = [
            c
            for p in topology(arch, (3, 32, 32), 10).populations
            for c in p.connections
            if (c.kind in ("conv", "linear") and c.kernel != (1, 1)) or c.kind == "linear"
        ]
        assert len(convolutions) == layers


@pytest.mark.parametrize(
    ("arch", "shape", "message"),
    [
        (
            "resnet19",
            (3, 32, 32),
            r"^choose an architecture out of resnet-tiny, .* 'resnet19'$",
        ),
        (
            "vgg11",
            (2, 8, 8),
            r"^pool from 'conv4.2': a 2x2 window does not fit 1x1 padded by 0; use larger images "
            r"or a smaller network$",
        ),
    ],
)
def test_networks_that_do_not_fit_are_refused(
    arch: str, shape: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(TopologyError, match=message):
        topology(arch, shape, 10).shapes()


def test_wrong_input_is_refused() -> None:
    network = SpikingNetwork(topology("resnet-tiny", (1, 8, 8), 10), IF)
    with pytest.raises(TopologyError, match=r"^input: 4 frames for 5 timesteps$"):
        network(torch.zeros(1, 4, 1, 8, 8))
    with pytest.raises(TopologyError, match=r"images of shape \(1, 8, 9\); the network takes"):
        network(torch.zeros(1, 1, 8, 9))
