"""Decides what trials need before they are trained: their teachers and their labels. Workers import none of it."""
