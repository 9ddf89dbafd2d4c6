"""Every knob once: environment, config file and flags are the same fields; what they steer lives elsewhere."""
