"""Public: the contract between the controller and the code that drives a kind of backend.

The names below are all that a provider needs; the modules of this folder are private. Importing
them needs nothing but Salt and the standard library.
"""

from ..errors import (
    AbortedError,
    AlreadyExistsError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    StorageError,
    UnavailableError,
    UnimplementedError,
)
from ..model import BackendStats
from ..progress import step
from .base import BackendConfig, Capability, Found, Provider, ProviderSnapshot, ProviderVolume, reference_text
from .initiators import ALL_INITIATORS, initiator_keys, merge_connectors
from .registry import find_provider

__all__ = [
    "ALL_INITIATORS",
    "AbortedError",
    "AlreadyExistsError",
    "BackendConfig",
    "BackendStats",
    "Capability",
    "FailedPreconditionError",
    "Found",
    "InternalError",
    "InvalidArgumentError",
    "NotFoundError",
    "Provider",
    "ProviderSnapshot",
    "ProviderVolume",
    "ResourceExhaustedError",
    "StorageError",
    "UnavailableError",
    "UnimplementedError",
    "find_provider",
    "initiator_keys",
    "merge_connectors",
    "reference_text",
    "step",
]
