"""Every error that FedForget raises on purpose.

    FedForgetError                  exit code 1
    ├── InputError                  exit code 2: what the user gave is wrong, and how to mend it
    │   ├── ConfigError             a setting
    │   ├── ManifestError           a row or a column of a table of studies
    │   ├── ImageError              an image that cannot be read
    │   ├── CohortError             patients: too few, unknown, in two splits
    │   ├── CheckpointError         weights: damaged, not finite, of another model
    │   ├── ResultError             a result.json: missing, damaged, of another version
    │   └── OutputError             a folder that cannot be written, a disk that is full
    ├── WireError                   exit code 3: a message from the other side does not fit
    │   └── MissingBaseError        changes of weights that are not here: the whole model is asked for
    ├── RefusedError                exit code 4: allowed by nobody: no consent, no approval
    ├── UnavailableError            exit code 5: a site or a service did not answer
    └── EvidenceError               exit code 6: a signature, a digest or a proof does not hold

Messages never hold a patient's id, name, report or path: they point at a file of the user's and a row in it.
"""

from __future__ import annotations


class FedForgetError(Exception):
    """Base of the tree."""

    exit_code = 1


class InputError(FedForgetError):
    """The user gave something that cannot be used.

    Args:
        problem: what is wrong, in a few words.
        where: the file (and row or setting) it was found in.
        remedy: what to do about it.
    """

    exit_code = 2

    def __init__(self, problem: str, *, where: str = "", remedy: str = "") -> None:
        self.problem, self.where, self.remedy = problem, where, remedy
        super().__init__(f"{where}: {problem}" if where else problem)

    def __str__(self) -> str:
        line = f"{self.where}: {self.problem}" if self.where else self.problem
        return f"{line} ({self.remedy})" if self.remedy else line


class ConfigError(InputError):
    """A setting is unknown, missing or out of range."""


class ManifestError(InputError):
    """A table of studies has a wrong column or row."""


class ImageError(InputError):
    """An image is missing, damaged or of a kind that no installed codec reads."""


class CohortError(InputError):
    """Patients are too few, unknown or assigned twice."""


class CheckpointError(InputError):
    """Weights are damaged, not finite, or belong to another model."""


class ResultError(InputError):
    """The `result.json` of a run is missing, damaged, or of another version."""


class OutputError(InputError):
    """A result cannot be written."""


class WireError(FedForgetError):
    """A message from the other side does not fit its schema."""

    exit_code = 3


class MissingBaseError(WireError):
    """Changes came of weights that are not here, or not as they should be; the whole model helps."""


class RefusedError(FedForgetError):
    """Something was asked for that nobody allowed."""

    exit_code = 4


class UnavailableError(FedForgetError):
    """A site or a service did not answer in time."""

    exit_code = 5


class EvidenceError(FedForgetError):
    """A signature, a digest or a proof does not hold."""

    exit_code = 6
