"""`fedforget-site`: the command line of a hospital."""

from __future__ import annotations

from client.commands import backup, bundle, consent_client, console, data, doctor, fhir, notify, run, settings, setup
from client.commands.evidence import dossier, log, replay, verifier, verify
from client.commands.rights import leave, letter, revocations, revoke, steward
from common.platform.terminal.console import root_app

app = root_app("Take part in a federation as a hospital, and remove the influence of patients who revoke.")
app.command(
    epilog="Example: fedforget-site init hospital --server fed.example.org --name north --ca-fingerprint 3f2a-90bc-..."
)(setup.init)
app.command(epilog="Example: fedforget-site join north-join.json --dir hospital")(setup.join)
app.command(epilog="Example: fedforget-site rotate --dir hospital")(setup.rotate)
data.register(app)
app.command(epilog="Example: fedforget-site up --dir hospital")(run.up)
app.command(epilog="Example: fedforget-site revoke --patient-file revoked.txt --dir hospital")(revoke.revoke)
app.add_typer(revocations.app, name="revocations")
app.command(epilog="Example: fedforget-site leave --confirm north --dir hospital")(leave.leave)
fhir.register(app)
app.add_typer(consent_client.app, name="consent-client")
app.add_typer(console.app, name="console")
app.add_typer(notify.app, name="notify")
app.add_typer(bundle.app, name="bundle")
app.add_typer(log.app, name="log")
app.add_typer(steward.app, name="steward")
app.add_typer(settings.app, name="settings")
backup.register(app)
app.command(epilog="Example: fedforget-site letter 3f9c1a5b7d2e4860 --out letter.html --dir hospital")(letter.letter)
app.command(epilog="Example: fedforget-site dossier 3f9c1a5b7d2e4860 --out dossier.zip --dir hospital")(dossier.dossier)
app.command(epilog="Example: fedforget-site verify for-the-auditor --key site=site.pub --key server=server.pub")(
    verify.verify
)
app.command(epilog="Example: fedforget-site replay attestation.json --weights parent.safetensors --dir hospital")(
    replay.replay
)
app.command(epilog="Example: fedforget-site verifier verify.pyz")(verifier.verifier)
app.command(epilog="Example: fedforget-site doctor --dir hospital")(doctor.doctor)
app.command("support-bundle", epilog="Example: fedforget-site support-bundle support.zip --dir hospital")(
    doctor.support_bundle
)
