"""One topology a module: `build(stack, plan, code)` fills an empty stack."""
