"""Automatic differentiation: the tape, the rule tables, anomalies. It knows neither tensors nor convolution."""
