"""How strong the checks are: how often they catch sabotage or a loss, and how often they err."""
