"""Which landed objects and exports are not applied, and what work is due."""
