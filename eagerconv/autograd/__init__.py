"""Automatic differentiation: the tape and the rule tables. It knows neither tensors nor convolution."""
