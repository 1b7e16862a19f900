"""Methods of several sweeps side by side: only where data, student, budget and protocol are equal."""
