"""Tables, plots and claims of a comparison, drawn from its cells."""
