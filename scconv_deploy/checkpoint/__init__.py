"""Files that hold models: what they are, by content, and how to read them without running anyone's code."""
