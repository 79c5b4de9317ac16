"""`fedforget-server`: everything the coordinator of a federation does."""

from __future__ import annotations

from common.platform.terminal.console import root_app
from server.commands import (
    attestation,
    backup,
    campaign,
    console,
    doctor,
    log,
    models,
    notify,
    qualify,
    run,
    settings,
    setup,
    site,
)

app = root_app("Coordinate hospitals that train a model together and unlearn patients who revoke.")
app.command(epilog="Example: fedforget-server init federation --host fed.example.org --host 192.0.2.7")(setup.init)
app.add_typer(setup.certificate, name="certificate")
app.command(epilog="Example: fedforget-server rotate --out bundles --dir federation")(setup.rotate)
app.add_typer(site.app, name="site")
app.command(epilog="Example: fedforget-server up --dir federation")(run.up)
app.command(epilog="Example: fedforget-server train --dir federation --wait")(campaign.train)
app.add_typer(campaign.app, name="campaign")
app.add_typer(qualify.app, name="qualify")
app.add_typer(models.app, name="models")
app.add_typer(attestation.app, name="attestation")
app.command(epilog="Example: fedforget-server dossier v0002 --out dossier-v0002.zip --dir federation")(
    attestation.dossier
)
app.add_typer(log.app, name="log")
app.add_typer(settings.app, name="settings")
app.add_typer(console.app, name="console")
app.add_typer(notify.app, name="notify")
backup.register(app)
app.command(epilog="Example: fedforget-server doctor --dir federation")(doctor.doctor)
app.command("support-bundle", epilog="Example: fedforget-server support-bundle support.zip --dir federation")(
    doctor.support_bundle
)
