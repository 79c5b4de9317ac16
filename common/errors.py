"""Every error that FedForget raises on purpose.

    FedForgetError                  exit code 1
    ├── InputError                  exit code 2: invalid input, and how to fix it
    │   ├── ConfigError             a setting
    │   ├── ManifestError           a row or a column of a table of studies
    │   ├── ImageError              an image that cannot be read
    │   ├── CohortError             patients: too few, unknown, in two splits
    │   ├── CheckpointError         weights: damaged, not finite, of another model
    │   ├── NewerSchemaError        a database written by a later release
    │   ├── ResultError             a result.json: missing, damaged, of another version
    │   └── OutputError             a folder that cannot be written
    │       └── DiskFullError       exit code 5: the disk is full; the same command continues where it stopped
    ├── WireError                   exit code 3: an invalid message from the other side
    │   └── MissingBaseError        changes to weights that are not here: the whole model is requested
    ├── RefusedError                exit code 4: nobody allowed it: no consent, no approval
    ├── UnavailableError            exit code 5: a site or service did not answer, or an awaited event did not happen
    └── EvidenceError               exit code 6: a signature, a digest or a proof does not hold

Messages never hold a patient's id, name, report or path: they point at a file of the user's and a row in it.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of all commands; `docs/reference/commands.md` explains them for each command, and a test compares."""

    meaning: str

    DONE = 0, "done"
    FAILED = 1, "unexpected error; for doctor, a failed check; for a study, a failed part"
    INPUT = 2, "invalid input"
    MESSAGE = 3, "invalid message from the other side"
    REFUSED = 4, "refused"
    UNAVAILABLE = 5, "a site or service did not answer, an awaited event did not happen, or a disk is full"
    EVIDENCE = 6, "a signature, digest or proof does not hold"
    STOPPED = 130, "stopped"

    def __new__(cls, code: int, meaning: str) -> ExitCode:
        """A code with its meaning."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning

        return member


class FedForgetError(Exception):
    """Base of all errors."""

    exit_code: ExitCode = ExitCode.FAILED


class InputError(FedForgetError):
    """Invalid input from the user.

    Args:
        problem: what is wrong, in a few words.
        where: the file, with row or setting.
        remedy: how to fix it.
    """

    exit_code = ExitCode.INPUT
    others: tuple[InputError, ...] = ()
    """Problems with further rows of a table, as far as they are listed."""
    unlisted: int = 0
    """Number of invalid rows that are not listed."""

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
    """A message changes weights that are missing or damaged here; sending the whole model helps."""


class RefusedError(FedForgetError):
    """A request that nobody allowed."""

    exit_code = ExitCode.REFUSED


class UnavailableError(FedForgetError):
    """A site or a service did not answer in time."""

    exit_code = ExitCode.UNAVAILABLE


class EvidenceError(FedForgetError):
    """A signature, a digest or a proof does not hold."""

    exit_code = ExitCode.EVIDENCE
