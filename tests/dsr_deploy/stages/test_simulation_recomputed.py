"""Every other value that export and simulate write, computed anew from what it is made of.

What the range proof and the mapping to cores find has tests of its own; here it is passed on.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from importlib import resources
from typing import Any

import numpy as np
import pytest
import real_networks
import yaml
from recomputed import BITS, SAMPLES, Seen, assert_same, ones, simulated, spec_of

from dsr_deploy.hardware import bounds
from dsr_deploy.hardware.chip import load_chip
from dsr_deploy.hardware.mapping import map_network
from dsr_deploy.hardware.network import Connection, IntegerNetwork


@pytest.fixture(scope="module", params=[0, 700], ids=["if", "lif"])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return simulated(request.param, tmp_path_factory.mktemp("runs") / "run")


def digest(seen: Seen, name: str) -> str:
    return hashlib.sha256((seen.run.path / name).read_bytes()).hexdigest()


def synapses(made: IntegerNetwork, name: str) -> int:
    """Count those of a population: a source that sends everywhere reaches each once."""
    incoming = [c for c in made.connections if c.target == name]
    return sum(ones(c, np.ones((1, 1, *made.shapes[c.source]), np.int64)) for c in incoming)


def profile_of(name: str) -> dict[str, Any]:
    """Return what the YAML file of a chip holds."""
    file = resources.files("dsr_deploy.hardware") / "chips" / f"{name}.yaml"
    limits: dict[str, Any] = yaml.safe_load(file.read_text())
    return limits


def chip_of(made: IntegerNetwork) -> dict[str, Any]:
    """Return what the network takes of Loihi 2, with the limits as the chip's YAML has them."""
    limits = profile_of("loihi2")
    numbers = {k: v for k, v in limits.items() if isinstance(v, dict) and "certain" in v}
    doubtful = {k: v["value"] for k, v in numbers.items() if not v["certain"]}
    layers = []
    for mapped in map_network(made, load_chip("loihi2")).populations:
        usage = [
            {
                "limit": u.limit,
                "used": u.used,
                "available": numbers[u.limit]["value"],
                "certain": numbers[u.limit]["certain"],
            }
            for u in mapped.usage
        ]
        shares = [u["used"] / u["available"] for u in usage]
        layers.append({
            "name": mapped.name,
            "neurons": int(np.prod(made.shapes[mapped.name])),
            "synapses": synapses(made, mapped.name),
            "cores": mapped.channel_groups * mapped.row_bands,
            "usage": usage,
            "binding": usage[shares.index(max(shares))]["limit"],
            "fits": max(shares) <= 1,
        })  # fmt: skip
    cores = sum(layer["cores"] for layer in layers)
    return {
        "chip": "loihi2",
        "fits": all(layer["fits"] for layer in layers) and cores <= numbers["cores"]["value"],
        "cores": cores,
        "cores_available": numbers["cores"]["value"],
        "layers": layers,
        "uncertain": [name for name, value in doubtful.items() if value is not None],
        "not_public": [name for name, value in doubtful.items() if value is None],
    }


def summary(made: IntegerNetwork) -> list[dict[str, Any]]:
    """Return the manifest's rows; a layer starts a step after the last of its sources."""
    starts = {"input": 0}
    rows = []
    for p in made.populations:
        incoming = [c for c in made.connections if c.target == p.name]
        starts[p.name] = 1 + max(starts[c.source] for c in incoming)
        membrane = bounds.network_bounds(made)[p.name]
        rows.append({
            "name": p.name,
            "shape": list(p.shape),
            "neurons": p.shape[0] * p.shape[1] * p.shape[2],
            "weights": sum(c.weight.size for c in incoming),
            "weight_bits": [8 if c.kind in ("pool", "identity") else BITS for c in incoming],
            "v_fire": [min(p.v_fire.tolist()), max(p.v_fire.tolist())],
            "v_threshold": [min(p.v_threshold.tolist()), max(p.v_threshold.tolist())],
            "decay": p.decay,
            "start": starts[p.name],
            "proven_range": [
                int(min(membrane.u_low.min(), membrane.v_low.min())),
                int(max(membrane.u_high.max(), membrane.v_high.max())),
            ],
        })  # fmt: skip
    return rows


def test_the_manifest_says_what_was_exported(seen: Seen) -> None:
    manifest = seen.read("export/loihi/manifest.json")
    assert len(manifest.pop("sha256")) == 64
    assert_same(
        manifest,
        {
            "stage": "export/loihi",
            "target": "loihi",
            "bits": BITS,
            "chip": chip_of(seen.network),
            "profile": profile_of("loihi2"),
            "layers": summary(seen.network),
            "source": "quantized-4/network.safetensors",
            "made_from": digest(seen, "quantized-4/network.safetensors"),
            "files": {
                name: digest(seen, f"export/loihi/{name}")
                for name in ("network.safetensors", "lava.json")
            },
        },
    )


def per_event(made: IntegerNetwork, c: Connection) -> Any:
    """Return the number of targets of each source neuron, (C, H, W); all lie on one core."""
    shape = made.shapes[c.source]
    size = int(np.prod(shape))
    each = np.eye(size, dtype=np.int64).reshape(size, *shape)
    reached = real_networks.transmit(spec_of(c), np.ones_like(c.weight, np.int64), each)
    return reached.reshape(size, -1).sum(1).reshape(shape)


def busiest(seen: Seen) -> dict[str, Any]:
    """Return the load of the cores, of which each layer takes one."""
    made, terms, moments = seen.network, ("synops", "updates", "reads"), SAMPLES * 3
    counts = {name: np.zeros((len(made.populations), moments), int) for name in terms}
    for i, p in enumerate(made.populations):
        counts["updates"][i] = p.size
        for c in made.incoming(p):
            sent = (seen.sent[c.source] != 0).reshape(moments, -1)
            targets = per_event(made, c).reshape(-1)
            counts["synops"][i] += sent @ targets
            counts["reads"][i] += sent @ np.ceil(targets * c.weight_bits / 64).astype(int)
    names = [p.name for p in made.populations]
    largest = np.stack([counts[name] for name in terms], axis=1).reshape(-1, moments)
    binding = Counter((names[i // 3], terms[i % 3]) for i in largest.argmax(0))

    def share(place: int, name: str) -> float:
        return sum(n for pair, n in binding.items() if pair[place] == name) / moments

    ((layer, term), _), *_ = binding.most_common()
    return {
        "chip": "loihi2",
        "samples": SAMPLES,
        "cores": len(names),
        "largest": float(largest.max(0).mean()),
        "binding": term,
        "binding_layer": layer,
        "terms": [
            {
                "term": name,
                "busiest": float(counts[name].max(0).mean()),
                "mean": float(counts[name].mean()),
                "unevenness": float(counts[name].max(0).mean() / counts[name].mean()),
                "layer": names[Counter(counts[name].argmax(0)).most_common()[0][0]],
                "binds": share(1, name),
            }
            for name in terms
        ],
        "layers": [
            {
                "name": name,
                "cores": 1,
                **{term: float(counts[term][i].mean()) for term in terms},
                "unevenness": 1.0,
                "binds": share(0, name),
            }
            for i, name in enumerate(names)
        ],
    }


def times(seen: Seen) -> list[dict[str, Any]]:
    """Return the least times; each layer takes one core and begins a step after its sources."""
    made, found = seen.network, []
    begins = {"input": -1}
    for p in made.populations:
        begins[p.name] = 1 + max(begins[c.source] for c in made.incoming(p))
    steps = max(begins.values()) + 3
    for name in ("loihi1-davies2018", "loihi1-sanafe"):
        file = resources.files("dsr_deploy.hardware.energy") / f"{name}.yaml"
        told = yaml.safe_load(file.read_text())
        ns, spent = told["times"], {"synapses": 0.0, "updates": 0.0}
        for sample in range(SAMPLES):
            for step in range(steps):
                synapses, updates = 0.0, 0.0
                for p in made.populations:
                    t = step - begins[p.name]
                    if not 0 <= t < 3:
                        continue
                    updates = max(updates, p.size * ns["neuron_update"]["ns"])
                    busy = sum(
                        ones(c, seen.sent[c.source][sample : sample + 1, t : t + 1])
                        * ns["synapse"][c.kind]["ns"]
                        for c in made.incoming(p)
                    )
                    synapses = max(synapses, busy)
                spent["synapses" if synapses > updates else "updates"] += max(synapses, updates)
        row = {key: value / SAMPLES / 1000 for key, value in spent.items()}
        row["barrier"] = steps * ns["barrier"]["ns"] / 1000
        about = {"constants": name, "title": told["title"], "source": told["source"]}
        about["notes"] = ns["notes"]
        counts = {"samples": SAMPLES, "steps": steps}
        found.append(about | counts | row | {"microseconds": sum(row.values())})
    return found


def ranges(seen: Seen) -> list[dict[str, Any]]:
    proven, rows = bounds.network_bounds(seen.network), []
    for name, u in seen.u.items():
        low, high = int(proven[name].u_low.min()), int(proven[name].u_high.max())
        rows.append({
            "name": name,
            "seen_low": min(0, int(u.min())),
            "seen_high": max(0, int(u.max())),
            "proven_low": low,
            "proven_high": high,
            "register_used": max(low / -(2**23), high / (2**23 - 1)),
        })  # fmt: skip
    return rows


def test_the_simulation_says_what_the_spikes_say(seen: Seen) -> None:
    readout = np.array(seen.network.readout)
    scores = np.einsum("ntc,t->nc", seen.sent["output"][..., 0, 0], readout)
    found = seen.read("reports/simulate.json")
    accuracy = float((scores.argmax(1) == seen.labels).mean())
    assert 0 < accuracy < 1
    # test_recomputed and test_neurobench of the measures have them
    del found["sparsity"], found["energy"]
    assert found.pop("neurobench")["classification_accuracy"] == accuracy
    assert_same(
        found,
        {
            "network": "digits-every-kind",
            "bits": BITS,
            "samples": SAMPLES,
            "timesteps": 3,
            "engine": "event",
            "source": "test samples of digits",
            "partial": False,
            "planned": None,
            "accuracy": accuracy,
            "synops": sum(ones(c, seen.sent[c.source]) for c in seen.network.connections) / SAMPLES,
            "updates": 3.0 * sum(p.size for p in seen.network.populations),
            "ranges": ranges(seen),
            "chip": chip_of(seen.network),
            "load": busiest(seen),
            "time": times(seen),
            "made_from": digest(seen, "export/loihi/network.safetensors"),
        },
    )
