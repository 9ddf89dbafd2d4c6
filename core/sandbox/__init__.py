"""A Leonardo with a made-up fleet and a Google, both on loopback, for rehearsals, demos and tests; not in the image."""
