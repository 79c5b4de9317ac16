"""How well patients were forgotten and what it cost in utility: scored at sites, merged at the server."""
