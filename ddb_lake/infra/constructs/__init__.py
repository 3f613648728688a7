"""Parts that the stacks share. Each function adds resources to a scope and returns those that other parts use."""
