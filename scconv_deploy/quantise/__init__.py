"""Post-training quantisation: where Q/DQ go, the ranges of what they hold, their scales, and writing them."""
