"""Published experiments: the catalogue, its scales, and the table that compares published numbers with ours."""
