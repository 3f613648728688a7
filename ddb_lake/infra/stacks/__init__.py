"""One module for each topology. Its `build(stack, deployment, code)` fills an empty stack."""
