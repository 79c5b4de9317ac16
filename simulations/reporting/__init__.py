"""How a result is shown: charts, tables and words for the report, the terminal and TensorBoard."""
