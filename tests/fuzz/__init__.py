"""Fuzzing, which runs for as long as one likes: `make fuzz`. Not a part of the tests that run for each change."""
