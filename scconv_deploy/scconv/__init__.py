"""The block itself: specification, reference modules, deploy module, model zoo."""
