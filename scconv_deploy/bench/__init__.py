"""Measuring: subjects -> open backends -> interleaved rounds of timed calls -> medians, tails and ratios."""
