"""Lives: the real program in a made-up world, on one thread and a clock of its own, everything from one seed."""
