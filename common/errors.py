"""Every error that FedForget raises on purpose.

    FedForgetError                  exit code 1
    ├── InputError                  exit code 2: what the user gave is wrong, and how to fix it
    │   ├── ConfigError             a setting
    │   ├── ManifestError           a row or a column of a table of studies
    │   ├── ImageError              an image that cannot be read
    │   ├── CohortError             patients: too few, unknown, in two splits
    │   ├── CheckpointError         weights: damaged, not finite, of another model
    │   ├── NewerSchemaError        a database that a later release wrote
    │   ├── ResultError             a result.json: missing, damaged, of another version
    │   └── OutputError             a folder that cannot be written
    │       └── DiskFullError       exit code 5: a disk that is full; the same again goes on where it stopped
    ├── WireError                   exit code 3: a message from the other side does not fit
    │   └── MissingBaseError        changes of weights that are not here: the whole model is asked for
    ├── RefusedError                exit code 4: allowed by nobody: no consent, no approval
    ├── UnavailableError            exit code 5: a site or a service did not answer, or what was waited for did not come
    └── EvidenceError               exit code 6: a signature, a digest or a proof does not hold

Messages never hold a patient's id, name, report or path: they point at a file of the user's and a row in it.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How every command ends; `docs/reference/commands.md` says what each means for a command, and a test compares."""

    meaning: str

    DONE = 0, "done"
    FAILED = 1, "unforeseen; of doctor, a check failed; of a study, a part of it"
    INPUT = 2, "what was given is wrong"
    MESSAGE = 3, "a message from the other side does not fit"
    REFUSED = 4, "refused"
    UNAVAILABLE = 5, "a site or a service did not answer, what was waited for did not come, or a disk is full"
    EVIDENCE = 6, "a signature, a digest or a proof does not hold"
    STOPPED = 130, "stopped"

    def __new__(cls, code: int, meaning: str) -> ExitCode:
        """A code with what it means."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning

        return member


class FedForgetError(Exception):
    """Base of the tree."""

    exit_code: ExitCode = ExitCode.FAILED


class InputError(FedForgetError):
    """The user gave something that cannot be used.

    Args:
        problem: what is wrong, in a few words.
        where: the file (and row or setting) it was found in.
        remedy: what to do about it.
    """

    exit_code = ExitCode.INPUT
    others: tuple[InputError, ...] = ()
    """Of a table: what is wrong with further rows, as far as it is listed."""
    unlisted: int = 0
    """How many more rows are wrong than are listed."""

    def __init__(self, problem: str, *, where: str = "", remedy: str = "") -> None:
        self.problem = problem
        self.where = where
        self.remedy = remedy
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


class NewerSchemaError(InputError):
    """A database was written by a later release, whose schema this one does not know."""


class OutputError(InputError):
    """A result cannot be written."""


class DiskFullError(OutputError):
    """A disk is full. Nothing is damaged."""

    exit_code = ExitCode.UNAVAILABLE


class WireError(FedForgetError):
    """A message from the other side does not fit its schema."""

    exit_code = ExitCode.MESSAGE


class MissingBaseError(WireError):
    """Changes came of weights that are not here, or not as they should be; the whole model helps."""


class RefusedError(FedForgetError):
    """Something was asked for that nobody allowed."""

    exit_code = ExitCode.REFUSED


class UnavailableError(FedForgetError):
    """A site or a service did not answer in time."""

    exit_code = ExitCode.UNAVAILABLE


class EvidenceError(FedForgetError):
    """A signature, a digest or a proof does not hold."""

    exit_code = ExitCode.EVIDENCE
