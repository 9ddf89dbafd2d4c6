"""A Leonardo on loopback with a made-up fleet, for demos and tests; nothing outside tests and demos imports it."""
