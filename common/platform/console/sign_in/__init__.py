"""How people sign in to a console: accounts of its own, OpenID Connect, sessions."""
