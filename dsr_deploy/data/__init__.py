"""Data sets, as the uint8 pixels on disk and as the int8 payloads that every stage sees."""

from dsr_deploy.data.batches import Batches, batches
from dsr_deploy.data.dataset import (
    DATASETS,
    DataError,
    Dataset,
    FolderSplit,
    Progress,
    Split,
    TensorSplit,
    load,
)
from dsr_deploy.data.encoding import encode, event_input, image_input, payload_table
from dsr_deploy.data.validation import hold_out

__all__ = [
    "DATASETS",
    "Batches",
    "DataError",
    "Dataset",
    "FolderSplit",
    "Progress",
    "Split",
    "TensorSplit",
    "batches",
    "encode",
    "event_input",
    "hold_out",
    "image_input",
    "load",
    "payload_table",
]
