"""Evaluations beside k-NN and the linear probe; `base.TASKS` names them, and each has a module."""
