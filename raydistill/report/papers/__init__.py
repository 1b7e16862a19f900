"""The papers' own figures, drawn from a sweep: a module for each method."""
