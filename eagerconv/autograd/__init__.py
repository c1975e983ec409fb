"""Automatic differentiation: the tape, the rule tables, transforms of functions, and check_grads."""
