"""One verb a file, run(X, ...) -> Y; stages never import each other."""
