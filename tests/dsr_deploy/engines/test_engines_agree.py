"""All engines give the same spikes for random networks, or all refuse them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx_runs
import pytest
import torch
from float_networks import Quantization, quantizations
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from networks import integer_networks, payloads_for
from numpy.typing import NDArray
from pipelined_chip import run_scheduled

from dsr_deploy.engines import lava as lava_engine
from dsr_deploy.engines.compare import compare
from dsr_deploy.engines.opening import Engine
from dsr_deploy.engines.torch import TorchEngine
from dsr_deploy.errors import UserError
from dsr_deploy.hardware import bounds, reference
from dsr_deploy.hardware.errors import HardwareError
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.hardware.schedule import schedule
from dsr_deploy.lowering.quantized_network import QuantizedNetwork
from dsr_deploy.models import dynamics

Payloads = NDArray[np.int8]

needs_lava = pytest.mark.skipif(
    lava_engine.find_python310() is None,
    reason="no Python 3.10 with lava-nc; `make lava` builds one",
)


def fuzz(examples: int, *, lava: bool) -> settings:
    phases = [phase for phase in Phase if not (lava and phase is Phase.shrink)]  # for minutes
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(
        max_examples=examples, deadline=None, suppress_health_check=checks, phases=phases
    )


def engines(network: IntegerNetwork, *, lava: bool = False) -> dict[str, Engine]:
    """Return all engines by name, and the pipelined reference as one more."""
    found: dict[str, Engine] = {
        "reference": lambda payloads: reference.run(network, payloads, record=True),
        "torch": lambda payloads: TorchEngine(network).run(payloads, record=True),
        "event": lambda payloads: Simulator(network).run(payloads, record=True).run,
        "onnx": lambda payloads: onnx_runs.run(network, payloads, record=True),
        "scheduled": lambda payloads: run_scheduled(schedule(network), payloads, record=True),
    }
    return found | ({"lava": lambda p: lava_engine.run_lava(network, p)} if lava else {})


def assert_agreement(network: IntegerNetwork, payloads: Payloads, *, lava: bool = False) -> None:
    found = compare(network, payloads, engines(network, lava=lava))
    assert found.agreed, str(found.difference)


def assert_agreement_or_refusal(
    network: IntegerNetwork, payloads: Payloads, *, lava: bool = False
) -> str:
    """Compare all engines; where the reference refuses, every other must.

    Where there is no range proof, the ONNX engine refuses, because its graph watches no register,
    and Lava may, because its sums are of 32 bits. Where there is one, nothing may be refused.
    """
    proof = refusal(bounds.check, network)
    if proof is None:
        assert_agreement(network, payloads, lava=lava)
        return "proven"
    watching = engines(network, lava=lava)
    assert refusal(watching.pop("onnx"), payloads) == proof
    if lava and "Lava holds up to" in (refusal(watching["lava"], payloads) or ""):
        del watching["lava"]
    expected = refusal(reference.run, network, payloads)
    if expected is None:
        found = compare(network, payloads, watching)
        assert found.agreed, str(found.difference)
        return "unproven"
    for name, run in watching.items():
        message = refusal(run, payloads)
        assert message is not None, f"{name} does not refuse: {expected}"
        assert "leaves the 24-bit register" in message
    return "refused"


def refusal(function: Callable[..., object], *arguments: object) -> str | None:
    """Return the message with which a call is refused, None if it is not."""
    try:
        function(*arguments)
    except (HardwareError, UserError) as error:
        return str(error)
    return None


def frozen(quantization: Quantization) -> tuple[QuantizedNetwork, IntegerNetwork] | None:
    """Quantize and prove; None if that is refused, in one line that names the place."""
    try:
        model = quantization.model()
        network = quantization.freeze(model)
        bounds.check(network)
    except HardwareError as error:
        message = str(error)
    else:
        return model, network
    assert re.match(r"^(population|connection) '", message)
    assert message.isprintable()
    return None


def assert_the_model_is_the_network(
    model: QuantizedNetwork, network: IntegerNetwork, payloads: Payloads
) -> None:
    """Compare the spikes, rates and predictions that quantization trains with the frozen ones."""
    packed: dict[str, torch.Tensor] = {}
    for member in model.members():
        member.register_forward_hook(
            lambda module, _, out: packed.update({module.name: out[0].packed.clone()})
        )
    with torch.no_grad():
        representation = model(torch.from_numpy(payloads)).double().numpy()
    run = reference.run(network, payloads, record=True)
    assert run.spikes is not None
    for name, spikes in run.spikes.items():
        trained = dynamics.unpack(packed[name], network.timesteps).permute(1, 0, 4, 2, 3)
        np.testing.assert_array_equal(trained.numpy(), spikes, err_msg=name)
    weights = np.array(model.neuron.weights)
    out = run.spikes[network.output.name][:, :, :, 0, 0]
    expected = np.einsum("t,ntc->nc", weights, out) * model.height
    np.testing.assert_allclose(representation, expected, rtol=1e-5, atol=0)
    # The readout is the representation's weights as whole numbers, the last of them 4096 or 1.
    rounding = network.timesteps / max(network.readout) * weights.max() * model.height
    chosen = np.take_along_axis(expected, run.predictions[:, None], axis=1)[:, 0]
    assert (chosen >= expected.max(axis=1) - rounding).all()
    if model.neuron.kind == "if":
        np.testing.assert_array_equal(representation.argmax(axis=1), run.predictions)


def fuzz_integer_networks(examples: int, *, lava: bool = False) -> Counter[str]:
    """Draw networks of integers; return how many were proven, refused, or neither."""
    seen: Counter[str] = Counter()

    @fuzz(examples, lava=lava)
    @given(st.data())
    def draw(data: st.DataObject) -> None:
        network = data.draw(integer_networks(in_range=data.draw(st.sampled_from([True, False]))))
        payloads = data.draw(payloads_for(network, max_samples=3))
        seen[assert_agreement_or_refusal(network, payloads, lava=lava)] += 1

    draw()
    return seen


def fuzz_quantizations(examples: int, *, lava: bool = False) -> Counter[str]:
    """Draw trained networks, quantize and freeze them; return how many were accepted."""
    seen: Counter[str] = Counter()

    @fuzz(examples, lava=lava)
    @given(quantizations())
    def draw(quantization: Quantization) -> None:
        made = frozen(quantization)
        seen["refused" if made is None else "accepted"] += 1
        if made is not None:
            model, network = made
            assert_the_model_is_the_network(model, network, quantization.payloads)
            assert_agreement(network, quantization.payloads, lava=lava)

    draw()
    return seen


def test_random_integer_networks_agree_or_are_refused_everywhere() -> None:
    fuzz_integer_networks(30)


def test_random_trained_networks_keep_their_spikes_through_quantization() -> None:
    fuzz_quantizations(20)


@pytest.mark.slow
def test_hundreds_of_integer_networks_agree() -> None:
    seen = fuzz_integer_networks(275)
    print(dict(seen))
    # Half are drawn to keep to their registers, most of the others do not: none of it is rare.
    assert seen["proven"] > 100
    assert seen["refused"] > 20


@pytest.mark.slow
def test_hundreds_of_trained_networks_agree() -> None:
    seen = fuzz_quantizations(200)
    print(dict(seen))
    assert seen["accepted"] > 150


@needs_lava
@pytest.mark.slow
def test_lava_agrees_on_integer_networks() -> None:
    print(dict(fuzz_integer_networks(12, lava=True)))


@needs_lava
@pytest.mark.slow
def test_lava_agrees_on_trained_networks() -> None:
    print(dict(fuzz_quantizations(13, lava=True)))
