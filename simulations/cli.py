"""`fedforget-sim`: simulate a federation on one machine, write the report, and run studies over seeds."""

from __future__ import annotations

from common.platform.terminal.console import root_app
from simulations.commands import compare, encoder, plan, qualify, run, scale, stream, study

app = root_app("Simulate a federation of hospitals and the unlearning of patients.")
app.command(epilog="Example: fedforget-sim run --preset demo --forget 10 --seed 3 --out runs/mine")(run.run)
app.command(epilog="Example: fedforget-sim prepare --preset demo --out runs/flwr")(run.prepare)
app.command(epilog="Example: fedforget-sim revoke runs/flwr")(run.revoke)
app.command(epilog="Example: fedforget-sim report runs/demo")(run.report)
app.command(
    epilog="Example: fedforget-sim study --preset covid --seeds 10 --out runs/covid --write docs/results/covid.md"
)(study.study)
app.command(epilog="Example: fedforget-sim baselines --preset covid --seeds 10 --text-folder /models/minilm")(
    study.baselines
)
app.command(epilog="Example: fedforget-sim encoder /models/rad-dino --json")(encoder.encoder)
app.command(
    epilog="Example: fedforget-sim shadows --preset demo --methods scrub,forget_mi_calibrated --out runs/shadows"
)(compare.shadows)
app.command(epilog="Example: fedforget-sim compare --preset quick --jobs 2 --out runs/quick")(compare.compare)
app.command(epilog="Example: fedforget-sim stream --preset quick --out runs/stream")(stream.stream)
app.command(epilog="Example: fedforget-sim plan --patients 4000 --never-seen 600 --revocations 2.5 --training-hours 9")(
    plan.plan
)
app.command(epilog="Example: fedforget-sim qualify --preset qualify --out runs/qualify")(qualify.qualify)
app.command(epilog="Example: fedforget-sim scale --preset standard --out runs/scale")(scale.scale)
app.command(epilog="Example: fedforget-sim make-hospitals hospitals --sites 4 --patients 60")(scale.make_hospitals)
