"""Requests to a running sweep, such as to stop a trial: small files in its folder that its driver reads."""
