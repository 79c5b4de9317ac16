"""FedForget for notebooks and scripts: simulate a federation, load a model, audit it, unlearn patients.

    import fedforget as ff

    run = ff.simulate("demo", settings={"train.rounds": 10})
    run.table()
    model = ff.load(run.folder / "model" / "unlearned")
    model.predict("radiograph.dcm", "Heart size normal.")

`ff.unlearn` and `ff.audit` work on your own torch model and tensors, without a federation: see `Patients`.
"""

from __future__ import annotations

from importlib.metadata import version

from fedforget.auditing import Audit, BranchAudit, audit
from fedforget.models import Model, Prediction, load
from fedforget.patients import Outputs, Patients
from fedforget.simulation import Simulation, simulate
from fedforget.unlearning import Unlearning, methods, unlearn

__version__ = version("fedforget")
__all__ = [
    "Audit",
    "BranchAudit",
    "Model",
    "Outputs",
    "Patients",
    "Prediction",
    "Simulation",
    "Unlearning",
    "__version__",
    "audit",
    "load",
    "methods",
    "simulate",
    "unlearn",
]
