"""What both consoles are built on: pages for people, who may see them, how they sign in, and how pages look.

A side gives its pages (`page.Page`), its settings and its own templates to `app.console_app`; `process.serve` runs it.
"""
