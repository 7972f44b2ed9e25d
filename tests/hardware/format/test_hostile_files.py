"""Files that are damaged, or made to do harm, are refused in one line and at no cost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_networks import golden_network
from hypothesis import given, settings
from hypothesis import strategies as st
from network_files import container, graph_of, header_of, sealed
from safetensors.numpy import load

from dsr_deploy.hardware.errors import NetworkError
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.format.network_file import MAX_FILE, MAX_HEADER, from_bytes, read, to_bytes

WHOLE = to_bytes(golden_network("if"))
HEADER = header_of(WHOLE)
BODY = WHOLE[8 + int.from_bytes(WHOLE[:8], "little") :]
NOT_WHOLE = "file: not a whole safetensors file ("


def refusal(data: bytes) -> str:
    """Return the one line with which a file is refused."""
    with pytest.raises(NetworkError) as refused:
        from_bytes(data, "file")
    message = str(refused.value)
    assert message.startswith("file: ")
    assert message.isprintable()
    assert len(message) < 500
    return message


def test_no_single_bit_can_be_flipped_unnoticed() -> None:
    changed = bytearray(WHOLE)
    for position in range(len(WHOLE)):
        for bit in range(8):
            changed[position] ^= 1 << bit
            refusal(bytes(changed))
            changed[position] ^= 1 << bit


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_file_with_a_changed_byte_is_refused(data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(WHOLE) - 1))
    mask = data.draw(st.integers(1, 255))
    changed = bytearray(WHOLE)
    changed[position] ^= mask
    try:
        found = from_bytes(bytes(changed), "file")
    except NetworkError as error:
        message = str(error)
    else:  # white space that fills the header was changed to other white space
        assert WHOLE[position] == ord(" ")
        assert to_bytes(found) == WHOLE
        return
    assert message.startswith("file: ")
    assert message.isprintable()


def test_no_truncated_or_continued_file_is_read() -> None:
    for length in [*range(0, len(WHOLE), 7), len(WHOLE) - 1]:
        assert refusal(WHOLE[:length]).startswith(NOT_WHOLE)
    assert refusal(WHOLE + b"\0").startswith(NOT_WHOLE)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_other_bytes_are_read(data: bytes) -> None:
    with pytest.raises(NetworkError, match=r"^network: "):
        from_bytes(data)


TENSOR: dict[str, Any] = {"dtype": "I8", "shape": [1], "data_offsets": [0, 1]}
LIES: dict[str, dict[str, Any]] = {
    "a tensor of 2**60 bytes": {"shape": [2**60], "data_offsets": [0, 2**60]},
    "a shape whose product overflows": {"shape": [2**40, 2**40]},
    "a shape of another size than the offsets": {"shape": [2]},
    "a negative shape": {"shape": [-1]},
    "a fractional shape": {"shape": [0.5]},
    "a negative offset": {"data_offsets": [-1, 0]},
    "offsets in reverse": {"data_offsets": [1, 0]},
    "offsets that leave a gap": {"data_offsets": [1, 2]},
    "offsets beyond 64 bits": {"data_offsets": [0, 2**70]},
    "a thousand dimensions": {"shape": [1] * 1000},
    "a dimension beyond what numpy takes": {"shape": [0, 2**63], "data_offsets": [0, 0]},
    "an unknown type": {"dtype": "I128"},
    "a type that numpy lacks": {"dtype": "F8_E4M3"},
    "an unknown field": {"path": "/etc/passwd"},
}


@pytest.mark.parametrize("name", LIES)
def test_a_header_that_lies_about_a_tensor_is_refused(name: str) -> None:
    header = {"__metadata__": HEADER["__metadata__"], "x": TENSOR | LIES[name]}
    assert refusal(container(header, b"11")).startswith(NOT_WHOLE)


def test_tensors_that_share_their_bytes_are_refused() -> None:
    assert refusal(container({"x": TENSOR, "y": TENSOR}, b"1")).startswith(NOT_WHOLE)


def test_a_name_that_occurs_twice_in_the_header_is_refused() -> None:
    text = json.dumps(HEADER)
    first = text[text.index('"block.bias"') : text.index('"block.v_fire"')]
    twice = text.replace(first, first + first).encode()
    assert refusal(container(twice, BODY)) == (
        f"{NOT_WHOLE}a field occurs twice in one object); export it again"
    )
    assert from_bytes(container(text.encode(), BODY)).name == "golden if"


@pytest.mark.parametrize(
    "header",
    [b"", b"[]", b"null", b"{", b'{"\xff": 1}', b'{"a":' + b"[" * 10**6, b'{"__metadata__": [1]}',
     b'{"__metadata__": {"dsr-deploy": 1}}', b'{"__metadata__": {}, "__metadata__": {}}'],
    ids=["empty", "list", "null", "cut off", "no UTF-8", "deep", "metadata of a list",
         "metadata of a number", "metadata twice"],
)  # fmt: skip
def test_a_header_that_is_none_is_refused(header: bytes) -> None:
    assert refusal(container(header)).startswith(NOT_WHOLE)


@pytest.mark.parametrize("length", [2**60, 2**64 - 1, MAX_HEADER + 1])
def test_a_header_longer_than_the_file_is_refused(length: int) -> None:
    assert refusal(length.to_bytes(8, "little") + b"{}").startswith(NOT_WHOLE)


def test_a_header_of_more_than_four_mebibytes_is_refused_unread() -> None:
    header = b"[" * (MAX_HEADER + 1)
    assert refusal(container(header)) == (
        "file: network: a header of 4194305 bytes, at most 4194304 are allowed"
    )


def test_a_network_whose_header_would_be_too_long_is_not_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    length = int.from_bytes(WHOLE[:8], "little")
    monkeypatch.setattr(network_file, "MAX_HEADER", length - 1)
    with pytest.raises(NetworkError) as refused:
        to_bytes(golden_network("if"))
    assert str(refused.value) == (
        f"network: a header of {length} bytes, at most {length - 1} are allowed"
    )
    monkeypatch.setattr(network_file, "MAX_HEADER", length)
    monkeypatch.setattr(network_file, "MAX_FILE", len(WHOLE) - 1)
    with pytest.raises(NetworkError) as refused:
        to_bytes(golden_network("if"))
    assert str(refused.value) == (
        f"network: {len(WHOLE)} bytes, at most {len(WHOLE) - 1} are allowed"
    )


def test_a_file_of_more_than_a_gibibyte_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    with path.open("wb") as file:
        file.truncate(MAX_FILE + 1)  # sparse: it takes no room
    with pytest.raises(NetworkError) as refused:
        read(path)
    assert str(refused.value) == (
        f"{path}: cannot be read (1,073,741,825 bytes, at most 1,073,741,824 are allowed)"
    )


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NetworkError) as refused:
        read(tmp_path / "none")
    assert str(refused.value) == f"{tmp_path}/none: cannot be read (No such file or directory)"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ('{"version": NaN}', "NaN is not a number"),
        ('{"version": 1, "version": 1}', "a field occurs twice in one object"),
        ('{"version": 1e999}', "1e999 is more than a double holds"),
        ('{"version": ' + "[" * 10_000, "nested too deeply"),
    ],
)
def test_malformed_json_is_refused(text: str, reason: str) -> None:
    assert refusal(sealed(text, load(WHOLE))) == f"file: network: malformed JSON ({reason})"


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 10_000, "[]", '"x"', "\ud7ff"])
def test_json_that_is_no_object_is_refused(text: str) -> None:
    assert refusal(sealed(text, load(WHOLE))).startswith("file: network: ")


@pytest.mark.parametrize(
    "version", [0, 2, 3, -1, 2**40, 1.0, "1", None, [1], True], ids=lambda v: json.dumps(v)
)
def test_a_version_other_than_the_first_is_refused_by_name(version: object) -> None:
    # A later version may have other fields: it is named before they are looked at.
    text = json.dumps({"format": "dsr-deploy integer network", "version": version, "new": {}})
    message = refusal(sealed(text, {"more": np.zeros(3, np.float64)}))
    if type(version) is int:
        assert message == (f"file: format version must be 1, not {version}; export it again")
    else:
        assert re.match(r"^file: network: field 'version' is .*, not a whole number", message)


SCRIPT = """
import resource, sys
from pathlib import Path
from dsr_deploy.hardware.errors import NetworkError
from dsr_deploy.hardware.format.network_file import read

# What the process has now, and the limit on top.
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sys.argv[2:]:
    try:
        read(Path(path))
    except NetworkError as error:
        print(error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="measured as Linux counts")
def test_hostile_files_are_refused_in_little_memory(tmp_path: Path) -> None:
    def edited(**changes: Any) -> bytes:
        return sealed(json.dumps(graph_of(WHOLE) | changes), load(WHOLE))

    def lengthened(opening: str, item: str, closing: str) -> bytes:
        count = (MAX_HEADER - 2000) // len(json.dumps(item)[1:-1])
        return sealed(opening + item * count + closing, {})

    graph = graph_of(WHOLE)
    graph["populations"][0]["shape"] = [2**50, 2**50, 2**50]
    files = {
        "a tensor of 2**60 bytes": container(
            {"x": TENSOR | {"shape": [2**60], "data_offsets": [0, 2**60]}}
        ),
        "a header of 2**60 bytes": (2**60).to_bytes(8, "little") + b"{}",
        "a sparse file": b"",
        "a population of 2**150 neurons": edited(populations=graph["populations"]),
        "2**40 timesteps": edited(timesteps=2**40),
        "a list": lengthened('{"format": [', "0,", "0]}"),
        "objects": lengthened('{"format": [', "{},", "0]}"),
        "depth": lengthened("", "[", ""),
        "digits": lengthened('{"version": ', "1", "}"),
    }
    paths = []
    for number, data in enumerate(files.values()):
        paths.append(tmp_path / f"{number}.safetensors")
        paths[-1].write_bytes(data)
    os.truncate(paths[2], 2**40)
    limit = 192 << 20
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(limit), *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [str(path) for path in paths]
