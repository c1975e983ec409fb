"""What users call: functions that check their arguments and compose the primitives."""
