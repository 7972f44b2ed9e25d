"""A reader and simulator written from docs/network-format.md alone; the oracle of the page.

It shares no code with the package, imports numpy alone, and follows the page's words where they
could be shorter: loops over kernels, dictionaries for objects. It checks little: hostile files are
the business of other tests.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import numpy as np

DTYPES = {"I8": np.int8, "U8": np.uint8, "I32": np.int32}


def read(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the JSON of a network's file and its tensors, as they are stored."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    digest, text = header.pop("__metadata__")["dsr-deploy"].split(" ", 1)
    tensors, found = {}, hashlib.sha256(text.encode())
    for name in sorted(header):
        entry = header[name]
        first, end = (8 + length + offset for offset in entry["data_offsets"])
        found.update(data[first:end])
        stored = np.frombuffer(data[first:end], np.dtype(DTYPES[entry["dtype"]]).newbyteorder("<"))
        tensors[name] = stored.reshape(entry["shape"])
    assert found.hexdigest() == digest
    return json.loads(text), tensors


def payload_table(shown: dict[str, Any]) -> np.ndarray:
    """Return the payloads of each channel's 256 pixels, (C, 256)."""
    rows = []
    for mean, std in zip(shown["mean"], shown["std"], strict=True):
        rows.append(
            [
                # Python's round, too, rounds half to even
                min(max(round((p * shown["pixel_scale"] - mean) / (std * shown["step"])),
                        shown["low"]), shown["high"])
                for p in range(256)
            ]
        )  # fmt: skip
    return np.array(rows)


def unpack(connection: dict[str, Any], stored: np.ndarray) -> np.ndarray:
    """Return the weights in their shape, int64."""
    shape = connection["weight_shape"]
    if connection["weight_bits"] > 4:
        return stored.astype(np.int64).reshape(shape)
    halves = [half for byte in stored.tolist() for half in (byte & 15, byte >> 4)]
    signed = [half - 16 if half > 7 else half for half in halves[: math.prod(shape)]]
    return np.array(signed, np.int64).reshape(shape)


def weighted(connection: dict[str, Any], weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return w(o, i, j) of what the source sent, x of shape (C, H, W)."""
    kind = connection["kind"]
    if kind == "linear":
        return (weight @ x.reshape(-1)).reshape(-1, 1, 1)
    if kind == "identity":
        return weight.reshape(-1, 1, 1) * x
    (sy, sx), (py, px) = connection["stride"], connection["padding"]
    kh, kw = weight.shape[2:] if kind == "conv" else connection["kernel"]
    channels, height, width = x.shape
    rows, columns = (height + 2 * py - kh) // sy + 1, (width + 2 * px - kw) // sx + 1
    padded = np.zeros((channels, height + 2 * py, width + 2 * px), np.int64)
    padded[:, py : py + height, px : px + width] = x
    made = np.zeros((len(weight), rows, columns), np.int64)
    groups = connection["groups"]
    for o in range(len(weight)):
        for i in range(rows):
            for j in range(columns):
                window = padded[:, i * sy : i * sy + kh, j * sx : j * sx + kw]
                if kind == "pool":
                    made[o, i, j] = weight[o] * window[o].sum()
                else:
                    first = (o * groups // len(weight)) * (channels // groups)
                    made[o, i, j] = (weight[o] * window[first : first + channels // groups]).sum()
    return made


def run(data: bytes, sample: np.ndarray) -> tuple[dict[str, np.ndarray], list[int], int]:
    """Run one sample of payloads, (C, H, W), or (T, C, H, W) if framed.

    Returns the spikes of each population, (T, C, H, W), the scores and the predicted class.
    """
    graph, tensors = read(data)
    connections = []
    twins: dict[str, int] = {}
    for connection in graph["connections"]:
        name = f"{connection['source']}->{connection['target']}.weight"
        earlier = twins[name] = twins.get(name, -1) + 1
        stored = tensors[f"{name}.{earlier}" if earlier else name]
        connections.append((connection, unpack(connection, stored)))
    v: dict[str, np.ndarray] = {}
    spikes: dict[str, list[np.ndarray]] = {p["name"]: [] for p in graph["populations"]}
    for t in range(graph["timesteps"]):
        sent = {"input": (sample[t] if graph["input"]["framed"] else sample).astype(np.int64)}
        for population in graph["populations"]:
            name = population["name"]
            bias, v_fire, v_threshold = (
                tensors[f"{name}.{part}"].astype(np.int64).reshape(-1, 1, 1)
                for part in ("bias", "v_fire", "v_threshold")
            )
            arriving = np.zeros(population["shape"], np.int64) + bias
            for connection, weight in connections:
                if connection["target"] == name:
                    made = weighted(connection, weight, sent[connection["source"]])
                    arriving += made << connection["exponent"]
            product = v.get(name, np.zeros_like(arriving)) * (4096 - population["decay"])
            u = np.where(product < 0, -(-product // 4096), product // 4096) + arriving
            if u.min() < -(2**23) or u.max() > 2**23 - 1:
                raise OverflowError(name)
            fired = u >= v_fire
            v[name] = u - v_threshold * fired
            spikes[name].append(fired)
            sent[name] = fired.astype(np.int64)
    output = np.array(spikes[name])[:, :, 0, 0].astype(np.int64)
    scores = [int(sum(r * s for r, s in zip(graph["readout"], train, strict=True)))
              for train in output.T]  # fmt: skip
    return {n: np.array(s) for n, s in spikes.items()}, scores, scores.index(max(scores))
