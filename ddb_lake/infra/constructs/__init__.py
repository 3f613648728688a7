"""The parts that the stacks share: each a function that adds to a scope and gives back what others need."""
