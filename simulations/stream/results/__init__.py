"""Tables, pictures and the report of a stream, drawn from its record."""
