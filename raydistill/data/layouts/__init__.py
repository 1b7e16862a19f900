"""Layouts in which images are stored: folders, Parquet, archives, the Hugging Face Hub."""
