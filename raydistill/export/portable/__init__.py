"""Code that is copied into exports as it stands and runs there without raydistill."""
